"""Each call: what is sent where, and what its reply becomes."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from dbxfs.api.client import (
    Add,
    CursorReset,
    EndpointError,
    Longpoll,
    Overwrite,
    SessionId,
    UnexpectedReply,
    Update,
)
from dbxfs.core.model import (
    ROOT,
    Account,
    Cursor,
    FileEntry,
    FolderEntry,
    RemotePath,
    Rev,
    Space,
)
from tests.api.peer import FILE, FOLDER, Peer, Stream, refused, reply

A, B = RemotePath("/a"), RemotePath("/b")
S = SessionId("s1")
PAGE = {"entries": [FILE], "cursor": "c2", "has_more": False}
LISTING = {
    "path": "",
    "recursive": True,
    "limit": 2000,
    "include_deleted": False,
    "include_mounted_folders": True,
    "include_non_downloadable_files": True,
}
COMMIT = {
    "path": "/a",
    "mode": {".tag": "add"},
    "autorename": True,
    "client_modified": "1970-01-01T00:00:01Z",
    "mute": False,
    "strict_conflict": False,
}
ACCOUNT = {
    "account_id": "dbid:A",
    "email": "a@example.com",
    "name": {"display_name": "Ada", "given_name": "Ada"},
    "root_info": {".tag": "team", "root_namespace_id": "7", "home_namespace_id": "3"},
    "country": None,
}

CALLS: list[tuple[Any, str, Any, Any, Any]] = [
    (
        lambda c: c.account(),
        "users/get_current_account",
        None,
        ACCOUNT,
        Account(
            account_id="dbid:A",
            email="a@example.com",
            display_name="Ada",
            root_namespace="7",
            home_namespace="3",
        ),
    ),
    (
        lambda c: c.space(),
        "users/get_space_usage",
        None,
        {"used": 5, "allocation": {".tag": "individual", "allocated": 9}},
        Space(used=5, allocated=9),
    ),
    (
        lambda c: c.latest_cursor(),
        "files/list_folder/get_latest_cursor",
        LISTING,
        {"cursor": "c9"},
        "c9",
    ),
    (
        lambda c: c.longpoll(Cursor("c"), 30),
        "files/list_folder/longpoll",
        {"cursor": "c", "timeout": 30},
        {"changes": True, "backoff": 60},
        Longpoll(changes=True, backoff=60),
    ),
    (
        lambda c: c.create_folder(A),
        "files/create_folder_v2",
        {"path": "/a", "autorename": False},
        {"metadata": FOLDER},
        FolderEntry(id="id:folder", name="Homework", path="/homework"),
    ),
    (
        lambda c: c.delete(A),
        "files/delete_v2",
        {"path": "/a"},
        {"metadata": FOLDER},
        FolderEntry(id="id:folder", name="Homework", path="/homework"),
    ),
    (
        lambda c: c.delete(A, Rev("r1")),
        "files/delete_v2",
        {"path": "/a", "parent_rev": "r1"},
        {"metadata": FOLDER},
        FolderEntry(id="id:folder", name="Homework", path="/homework"),
    ),
    (
        lambda c: c.move(A, B),
        "files/move_v2",
        {"from_path": "/a", "to_path": "/b", "autorename": False},
        {"metadata": FOLDER},
        FolderEntry(id="id:folder", name="Homework", path="/homework"),
    ),
    (
        lambda c: c.copy(A, B),
        "files/copy_v2",
        {"from_path": "/a", "to_path": "/b", "autorename": False},
        {"metadata": FOLDER},
        FolderEntry(id="id:folder", name="Homework", path="/homework"),
    ),
    (
        lambda c: c.session_start(),
        "files/upload_session/start",
        {"close": False},
        {"session_id": "s1"},
        "s1",
    ),
    (
        lambda c: c.session_append(S, 4, b"abc", 3, "h", close=True),
        "files/upload_session/append_v2",
        {"cursor": {"session_id": "s1", "offset": 4}, "close": True, "content_hash": "h"},
        None,
        None,
    ),
]


@pytest.mark.parametrize(("call", "route", "arg", "answer", "result"), CALLS)
async def test_call(call: Any, route: str, arg: Any, answer: Any, result: Any) -> None:
    peer = Peer([reply(200, answer)])
    async with peer.client() as client:
        assert await call(client) == result
    assert peer.routes == [route]
    assert peer.sent() == arg
    assert peer.requests[0].method == "POST"


FILE_CALLS: list[tuple[Any, str, Any]] = [
    (lambda c: c.metadata(A), "files/get_metadata", {"path": "/a"}),
    (
        lambda c: c.upload(
            A, b"abc", size=3, mode=Add(), content_hash="h", client_modified_ns=1_999_999_999
        ),
        "files/upload",
        {**COMMIT, "content_hash": "h"},
    ),
    (
        lambda c: c.upload(
            RemotePath("id:x"),
            b"",
            size=0,
            mode=Update(Rev("r")),
            content_hash="h",
            client_modified_ns=10**9,
            autorename=False,
            mute=True,
        ),
        "files/upload",
        {
            **COMMIT,
            "path": "id:x",
            "mode": {".tag": "update", "update": "r"},
            "autorename": False,
            "mute": True,
            "content_hash": "h",
        },
    ),
    (
        lambda c: c.session_finish(S, 7, A, Overwrite(), client_modified_ns=10**9),
        "files/upload_session/finish",
        {
            "cursor": {"session_id": "s1", "offset": 7},
            "commit": {**COMMIT, "mode": {".tag": "overwrite"}},
            "content_hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
    ),
]


@pytest.mark.parametrize(("call", "route", "arg"), FILE_CALLS)
async def test_calls_that_answer_with_a_file(call: Any, route: str, arg: Any) -> None:
    peer = Peer([reply(200, FILE)])
    async with peer.client() as client:
        entry = await call(client)
    assert isinstance(entry, FileEntry)
    assert entry.rev == "a1c10ce0dd78"
    assert peer.routes == [route]
    assert peer.sent() == arg


async def test_a_listing_is_followed_by_its_cursor() -> None:
    first = {"entries": [FOLDER], "cursor": "c1", "has_more": True}
    empty = {"entries": [], "cursor": "c2", "has_more": True}
    peer = Peer([reply(200, first), reply(200, empty), reply(200, PAGE)])
    async with peer.client() as client:
        page = await client.list_folder(ROOT, recursive=True)
        names = [entry.name for entry in page.entries]
        while page.has_more:
            page = await client.list_folder_continue(page.cursor)
            names += [entry.name for entry in page.entries]
    assert names == ["Homework", "Prime.txt"]
    assert peer.routes == ["files/list_folder"] + ["files/list_folder/continue"] * 2
    assert peer.sent(0) == LISTING
    assert [peer.sent(1), peer.sent(2)] == [{"cursor": "c1"}, {"cursor": "c2"}]


@pytest.mark.parametrize(
    "call",
    [lambda c: c.list_folder_continue(Cursor("c")), lambda c: c.longpoll(Cursor("c"))],
)
async def test_a_reset_cursor_has_an_error_of_its_own(call: Any) -> None:
    async with Peer([refused("reset")]).client() as client:
        with pytest.raises(CursorReset):
            await call(client)


async def test_json_calls_and_contents_have_the_headers_of_the_reference() -> None:
    peer = Peer([reply(200, FILE)])
    async with peer.client() as client:
        await client.metadata(A)
        await client.upload(
            RemotePath("/ä\x7f"),
            b"abc",
            size=3,
            mode=Add(),
            content_hash="h",
            client_modified_ns=0,
        )
    call, upload = (request.headers for request in peer.requests)
    assert call["content-type"] == "application/json"
    assert upload["content-type"] == "application/octet-stream"
    assert upload["content-length"] == "3"
    assert "transfer-encoding" not in upload
    assert '"path":"/\\u00e4\\u007f"' in upload["dropbox-api-arg"]
    assert all(headers["user-agent"].startswith("dbxfs/") for headers in (call, upload))
    assert "dropbox-api-path-root" not in call


async def test_the_path_root_goes_with_calls_and_contents_but_not_with_the_longpoll() -> None:
    peer = Peer([reply(200, {**FILE, "changes": False})])
    async with peer.client(path_root="7") as client:
        await client.metadata(A)
        await client.session_finish(S, 0, A, Add(), client_modified_ns=0)
        await client.longpoll(Cursor("c"))
    roots = [request.headers.get("dropbox-api-path-root") for request in peer.requests]
    assert roots == ['{".tag":"root","root":"7"}'] * 2 + [None]


async def test_the_longpoll_waits_longer_than_dropbox_may_take() -> None:
    peer = Peer([reply(200, {"changes": False})])
    async with peer.client() as client:
        await client.longpoll(Cursor("c"), 480)
        await client.longpoll(Cursor("c"))
    waits = [request.extensions["timeout"]["read"] for request in peer.requests]
    assert waits[0] > 480 + 90
    assert waits[1] > 60 + 90


async def test_every_request_has_all_its_timeouts() -> None:
    peer = Peer([reply(200, FILE)])
    async with peer.client() as client:
        await client.metadata(A)
        await client.session_finish(S, 0, A, Add(), client_modified_ns=0)
    for request in peer.requests:
        timeouts = request.extensions["timeout"]
        assert set(timeouts) == {"connect", "read", "write", "pool"}
        assert all(value is not None for value in timeouts.values())


async def test_a_name_with_a_lone_surrogate_is_sent_for_dropbox_to_refuse() -> None:
    peer = Peer([refused("path", "malformed_path")])
    bad = RemotePath("/a\udcff")
    async with peer.client() as client:
        for call in (
            client.metadata(bad),
            client.create_folder(bad),
            client.session_finish(S, 0, bad, Add(), client_modified_ns=0),
        ):
            with pytest.raises(EndpointError, match="malformed_path"):
                await call
    assert len(peer.requests) == 3


async def test_a_body_that_cannot_be_unpacked_is_an_unexpected_reply() -> None:
    broken = httpx.Response(200, stream=Stream(b"no gzip"), headers={"content-encoding": "gzip"})
    async with Peer([broken]).client(patience=0) as client:
        with pytest.raises(UnexpectedReply):
            await client.metadata(A)


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer([refused("invalid_access_token", status=401)])
    with caplog.at_level(logging.DEBUG):
        async with peer.client() as client:
            with pytest.raises(Exception, match="invalid_access_token") as caught:
                await client.metadata(A)
    assert "sl.secret" not in caplog.text
    assert "sl.secret" not in repr(caught.value)
