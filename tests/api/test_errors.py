"""Every refusal becomes the one error that it means, and no message tells a secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.api import replies
from dbxfs.api.errors import (
    AccessDenied,
    BadRequest,
    CursorReset,
    DropboxError,
    EndpointError,
    IncorrectOffset,
    PathRootChanged,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
    scrub,
)
from tests.api.peer import refused, reply


def meaning(route: str, response: Any) -> DropboxError:
    return replies.refusal(route, response.status_code, response.headers, response.content)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (reply(400), BadRequest),
        (reply(416), BadRequest),
        (refused("expired_access_token", status=401), Unauthorized),
        (reply(401, "nonsense"), Unauthorized),
        (refused("invalid_account_type", "endpoint", status=403), AccessDenied),
        (refused("path", "not_found"), EndpointError),
        (refused("reset"), CursorReset),
        (refused("incorrect_offset", correct_offset=7), IncorrectOffset),
        (refused("incorrect_offset"), EndpointError),
        (refused("incorrect_offset", correct_offset=True), EndpointError),
        (refused("no_permission", status=422), PathRootChanged),
        (reply(429, {}), RateLimited),
        (reply(429, "nonsense"), RateLimited),
        (reply(500), ServerTrouble),
        (reply(503, "nonsense"), ServerTrouble),
        (reply(409, "nonsense"), UnexpectedReply),
        (reply(409, {"no": "error"}), UnexpectedReply),
        (reply(302), UnexpectedReply),
        (reply(404), UnexpectedReply),
        (reply(407), UnexpectedReply),
    ],
)
def test_each_status_has_its_error(response: Any, kind: type[DropboxError]) -> None:
    error = meaning("files/x", response)
    assert type(error) is kind
    assert str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("error", "tags", "payload"),
    [
        ({".tag": "other"}, ("other",), {}),
        ("other", ("other",), {}),
        ({".tag": "path", "path": {".tag": "not_found"}}, ("path", "not_found"), {}),
        (
            {".tag": "path", "path": {".tag": "malformed_path", "malformed_path": "text"}},
            ("path", "malformed_path"),
            {"malformed_path": "text"},
        ),
        (
            {
                ".tag": "path",
                "reason": {".tag": "conflict", "conflict": {".tag": "file"}},
                "upload_session_id": "s",
            },
            ("path", "conflict", "file"),
            {"upload_session_id": "s"},
        ),
        (
            {
                ".tag": "lookup_failed",
                "lookup_failed": {".tag": "incorrect_offset", "correct_offset": 4},
            },
            ("lookup_failed", "incorrect_offset"),
            {"correct_offset": 4},
        ),
        ({".tag": "brand_new", "brand_new": {"x": 1}}, ("brand_new",), {}),
        ({".tag": 5}, (), {}),
        (None, (), {}),
        ([1], (), {}),
    ],
)
def test_the_chain_of_tags(error: object, tags: tuple[str, ...], payload: dict[str, Any]) -> None:
    assert replies.chain(error) == (tags, payload)


def test_a_union_without_end_is_not_followed_for_ever() -> None:
    error: dict[str, Any] = {".tag": "a"}
    error["a"] = error
    tags, _ = replies.chain(error)
    assert set(tags) == {"a"}


def test_has_finds_a_run_of_tags_wherever_it_stands() -> None:
    error = EndpointError(("path", "conflict", "file"), "")
    assert error.has("path")
    assert error.has("path", "conflict")
    assert error.has("conflict", "file")
    assert error.has("path", "conflict", "file")
    assert not error.has("path", "file")
    assert not error.has("conflict", "folder")
    assert not error.has("path", "conflict", "file", "more")


def test_an_incorrect_offset_tells_the_correct_one_on_every_route() -> None:
    append = meaning("files/a", refused("incorrect_offset", correct_offset=7))
    finish = meaning("files/f", refused("lookup_failed", "incorrect_offset", correct_offset=9))
    assert isinstance(append, IncorrectOffset)
    assert isinstance(finish, IncorrectOffset)
    assert (append.correct_offset, finish.correct_offset) == (7, 9)


@pytest.mark.parametrize(
    ("headers", "document", "reason", "wait"),
    [
        ({"retry_after": "3"}, {}, "too_many_requests", 3.0),
        ({"retry_after": "2.5"}, {}, "too_many_requests", 2.5),
        ({"retry_after": "-3"}, {}, "too_many_requests", 0.0),
        ({"retry_after": "nan"}, {}, "too_many_requests", None),
        ({"retry_after": "soon"}, {}, "too_many_requests", None),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}, "too_many_requests", 0.0),
        ({"retry_after": "1e300"}, {}, "too_many_requests", 86400.0),
        (
            {},
            {"error": {"reason": {".tag": "too_many_write_operations"}, "retry_after": 4}},
            "too_many_write_operations",
            4.0,
        ),
        (
            {"retry_after": "1"},
            {"error": {"reason": "too_many_write_operations", "retry_after": 4}},
            "too_many_write_operations",
            1.0,
        ),
        ({}, {"error": "slow down"}, "too_many_requests", None),
    ],
)
def test_a_rate_limit_tells_reason_and_wait(
    headers: dict[str, str], document: Any, reason: str, wait: float | None
) -> None:
    error = meaning("files/x", reply(429, document, **headers))
    assert isinstance(error, RateLimited)
    assert (error.reason, error.retry_after) == (reason, wait)


def test_a_changed_path_root_brings_the_new_one() -> None:
    body = {
        "error_summary": "invalid_root/..",
        "error": {
            ".tag": "invalid_root",
            "invalid_root": {".tag": "team", "root_namespace_id": "7", "home_namespace_id": "3"},
        },
    }
    error = meaning("files/x", reply(422, body))
    assert isinstance(error, PathRootChanged)
    # The struct carries a tag of its own, so the chain goes through it.
    assert (error.root_namespace, error.home_namespace) == ("7", "3")


def test_a_missing_scope_is_named() -> None:
    error = meaning(
        "files/x", refused("missing_scope", status=401, required_scope="files.content.write")
    )
    assert isinstance(error, Unauthorized)
    assert error.tag == "missing_scope"
    assert "files.content.write" in str(error)


def test_messages_are_for_people() -> None:
    assert str(meaning("files/upload", refused("path", "insufficient_space"))) == (
        "Dropbox refused: files/upload: path/insufficient_space"
    )
    assert str(RateLimited("too_many_requests", 3.0)) == (
        "Dropbox asks to come back in 3 s (too_many_requests)"
    )
    assert str(ServerTrouble(503)) == "Dropbox has a problem of its own (HTTP 503)"
    assert str(Unreachable("no connection", doubt=False)) == (
        "Dropbox cannot be reached: no connection"
    )


@pytest.mark.parametrize(
    "text",
    [
        'Invalid authorization value in HTTP header "Authorization": "Bearer sl.B0a-secret_1"',
        "bearer   sl.B0a-secret_1 refused",
        "token sl.B0a-secret_1",
        "Authorization: Bearer B0a-secret_1",
    ],
)
def test_no_message_carries_a_token(text: str) -> None:
    assert "secret" not in str(BadRequest(text))
    assert "secret" not in BadRequest(text).text


@given(st.text(st.characters(exclude_categories=()), max_size=2000))
def test_any_text_is_fit_for_a_message(text: str) -> None:
    line = scrub(text)
    line.encode()
    assert "\n" not in line
    assert len(line) <= 501


@pytest.mark.parametrize(
    ("error", "doubt"),
    [
        (Unreachable("x", doubt=True), True),
        (Unreachable("x", doubt=False), False),
        (ServerTrouble(500), True),
        (UnexpectedReply("x", doubt=True), True),
        (RateLimited("x"), False),
        (EndpointError(("other",), ""), False),
    ],
)
def test_doubt_is_said_only_where_the_work_may_be_done(error: DropboxError, doubt: bool) -> None:
    assert error.doubt is doubt
