"""The service under test, a client for it, and a scratch folder for each test."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from dropbox import Dropbox
from dropbox.exceptions import ApiError

from tests.conformance.place import Place, private_place
from tests.conformance.service import Service
from tests.embedded import embedded_dropbox

TOKEN = os.environ.get("DBXFS_CONFORMANCE_TOKEN", "")


def pytest_configure(config: pytest.Config) -> None:
    """Registers this suite's own marker."""
    config.addinivalue_line(
        "markers", "embedded: needs the control routes of the embedded server, or floods it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the look at all errors last; leaves out what the real service cannot be asked."""
    items.sort(key=lambda item: item.path.stem == "test_documented_errors")
    if not TOKEN:
        return
    reason = "needs the control routes of the embedded server, or would flood a real account"
    for item in items:
        own_server = {"private", "team"} & set(getattr(item, "fixturenames", ()))
        if item.get_closest_marker("embedded") or own_server:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that all tests share: Dropbox with a token, else one embedded server."""
    if TOKEN:
        yield Service(TOKEN)
        return
    with embedded_dropbox(tmp_path_factory.mktemp("account")) as server:
        yield Service(server.token, server)


@pytest.fixture(scope="session")
def dbx(service: Service) -> Dropbox:
    """The SDK's client for the account."""
    return service.client()


@pytest.fixture(scope="session")
def scratch(dbx: Dropbox) -> Iterator[str]:
    """The folder in which all tests work; gone afterwards."""
    path = f"/dbxfs-conformance-{secrets.token_hex(4)}"
    dbx.files_create_folder_v2(path)
    yield path
    if TOKEN:
        with contextlib.suppress(ApiError):
            dbx.files_delete_v2(path)


@pytest.fixture
def place(service: Service, dbx: Dropbox, scratch: str, request: pytest.FixtureRequest) -> Place:
    """An empty folder for this test alone."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60].strip("-")
    root = f"{scratch}/{name}-{secrets.token_hex(3)}"
    dbx.files_create_folder_v2(root)
    return Place(service, dbx, root)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Place]:
    """An embedded server for this test alone, which may set what others would feel."""
    with private_place(tmp_path / "account") as place:
        yield place
