"""Which refusals of properties are about all of them."""

from __future__ import annotations

import pytest

from dbxfs.api.errors import (
    AccessDenied,
    BadRequest,
    DropboxError,
    EndpointError,
    ServerTrouble,
    Unauthorized,
)
from dbxfs.sync.attributes import concerns_all

ALL: list[DropboxError] = [
    Unauthorized("missing_scope"),
    AccessDenied(("invalid_account_type",), ""),
    BadRequest("Your app (ID: 1) is not permitted to access this endpoint"),
    BadRequest("it does not have the required scope 'files.metadata.write'"),
    EndpointError(("template_not_found",), ""),
    EndpointError(("properties_error", "template_not_found"), ""),
]

ONE: list[DropboxError] = [
    BadRequest("properties/update: invalid value"),
    EndpointError(("path", "not_found"), ""),
    EndpointError(("path", "restricted_content"), ""),
    EndpointError(("unsupported_folder",), ""),
    EndpointError(("property_field_too_large",), ""),
    EndpointError(("properties_error", "does_not_fit_template"), ""),
    Unauthorized("expired_access_token"),
    ServerTrouble(503),
]


@pytest.mark.parametrize("error", ALL, ids=str)
def test_what_is_not_to_be_had_at_all_is_not_asked_for_again(error: DropboxError) -> None:
    assert concerns_all(error)


@pytest.mark.parametrize("error", ONE, ids=str)
def test_what_is_wrong_with_one_file_keeps_none_from_the_others(error: DropboxError) -> None:
    assert not concerns_all(error)
