"""What survives the end of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dbxfs.core.content_hash import BLOCK, content_hash
from dbxfs.demo.account import Account
from dbxfs.demo.app import Service
from dbxfs.demo.database import UnusableError
from dbxfs.demo.sessions import LIFETIME
from tests.demo.client import Client
from tests.demo.conftest import Clock

Reopen = Callable[[], Client]


@pytest.fixture
def reopen(tmp_path: Path, wall_clock: Clock) -> Iterator[Reopen]:
    """Opens the account; again, as after a restart."""
    with ExitStack() as stack:

        def again() -> Client:
            stack.close()
            account = Account(tmp_path / "account", wall_clock)
            stack.callback(account.close)
            return Client(account, Service(account))

        yield again


async def test_entries_bytes_and_tokens_survive(reopen: Reopen) -> None:
    client = reopen()
    token = client.token
    before = await client.upload("/a/b", b"bytes")
    client = reopen()
    assert client.token == token
    assert await client.download("/a/b") == b"bytes"
    after = await client.rpc("files/get_metadata", {"path": "/a/b"})
    assert after == {".tag": "file", **before}


async def test_a_cursor_goes_on_where_it_was(reopen: Reopen) -> None:
    client = reopen()
    await client.upload("/a", b"1")
    cursor = await client.latest()
    await client.upload("/b", b"2")
    client = reopen()
    await client.upload("/c", b"3")
    assert await client.changes(cursor) == [("file", "/b"), ("file", "/c")]


async def test_an_identity_is_never_given_twice(reopen: Reopen) -> None:
    client = reopen()
    first = await client.upload("/a", b"1")
    await client.rpc("files/delete_v2", {"path": "/a"})
    second = await reopen().upload("/a", b"1")
    assert second["id"] != first["id"]
    assert second["rev"] != first["rev"]


async def test_an_upload_session_goes_on(reopen: Reopen) -> None:
    client = reopen()
    pieces = [b"a" * (BLOCK + 1), b"b" * BLOCK, b"c"]
    reply = await client.content("files/upload_session/start", {}, pieces[0])
    session, offset = reply.json()["session_id"], len(pieces[0])
    for piece in pieces[1:]:
        client = reopen()
        cursor = {"session_id": session, "offset": offset}
        reply = await client.content("files/upload_session/append_v2", {"cursor": cursor}, piece)
        assert reply.status_code == 200, reply.text
        offset += len(piece)
    finish = {"cursor": {"session_id": session, "offset": offset}, "commit": {"path": "/file"}}
    reply = await reopen().content("files/upload_session/finish", finish, b"")
    assert reply.json()["content_hash"] == content_hash(b"".join(pieces))


async def test_a_concurrent_session_keeps_its_pieces(reopen: Reopen) -> None:
    client = reopen()
    argument = {"session_type": "concurrent"}
    reply = await client.content("files/upload_session/start", argument, b"")
    session = reply.json()["session_id"]
    data = {0: b"x" * BLOCK, 2 * BLOCK: b"z", BLOCK: b"y" * BLOCK}
    for offset in (2 * BLOCK, 0, BLOCK):
        append = {
            "cursor": {"session_id": session, "offset": offset},
            "close": offset == 2 * BLOCK,
        }
        reply = await reopen().content("files/upload_session/append_v2", append, data[offset])
        assert reply.status_code == 200, reply.text
    finish = {
        "cursor": {"session_id": session, "offset": 2 * BLOCK + 1},
        "commit": {"path": "/file"},
    }
    client = reopen()
    reply = await client.content("files/upload_session/finish", finish, b"")
    assert reply.json()["content_hash"] == content_hash(b"".join(data[at] for at in sorted(data)))


async def test_a_session_is_gone_after_seven_days(reopen: Reopen, wall_clock: Clock) -> None:
    client = reopen()
    reply = await client.content("files/upload_session/start", {}, b"x")
    session = reply.json()["session_id"]
    wall_clock.seconds += LIFETIME + 1
    append = {"cursor": {"session_id": session, "offset": 1}}
    reply = await client.content("files/upload_session/append_v2", append, b"y")
    assert reply.json()["error"] == {".tag": "not_found"}
    client = reopen()
    assert not list((client.account.data / "sessions").iterdir())


async def test_shares_quota_and_team_survive(reopen: Reopen) -> None:
    client = reopen()
    await client.control("quota", {"allocated": 1000})
    await client.control("shared_folder", {"path": "/shared", "access": "read_only"})
    await client.control("team", {"on": True})
    client = reopen()
    usage = await client.rpc("users/get_space_usage")
    assert usage["allocation"]["allocated"] == 1000
    account = await client.rpc("users/get_current_account")
    assert account["root_info"][".tag"] == "team"
    reply = await client.content("files/upload", {"path": "/shared/x"}, b"x")
    assert reply.json()["error"]["reason"] == {".tag": "no_write_permission"}


async def test_a_moved_shared_folder_stays_shared(reopen: Reopen) -> None:
    client = reopen()
    await client.control("shared_folder", {"path": "/shared", "access": "read_only"})
    await client.rpc("files/move_v2", {"from_path": "/shared", "to_path": "/elsewhere"})
    reply = await reopen().content("files/upload", {"path": "/elsewhere/x"}, b"x")
    assert reply.json()["error"]["reason"] == {".tag": "no_write_permission"}


def test_a_foreign_database_is_refused_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "account.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UnusableError, match="not readable"):
        Account(tmp_path)
