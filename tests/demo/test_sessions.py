"""Upload sessions where timing or broken bodies matter."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import trio

from dbxfs.core.content_hash import BLOCK, content_hash
from tests.demo.client import Client


async def _start(client: Client, **argument: Any) -> str:
    reply = await client.content("files/upload_session/start", argument, b"")
    session: str = reply.json()["session_id"]
    return session


def _append(session: str, offset: int, **more: Any) -> dict[str, Any]:
    return {"cursor": {"session_id": session, "offset": offset}, **more}


async def _send(client: Client, argument: Any, data: Any) -> httpx.Response:
    headers = {
        "Dropbox-API-Arg": json.dumps(argument),
        "Content-Type": "application/octet-stream",
    }
    url = "/2/files/upload_session/append_v2"
    return await client.http.post(url, content=data, headers=headers)


async def _finish(client: Client, session: str, size: int) -> httpx.Response:
    argument = _append(session, size, commit={"path": "/file"})
    return await client.content("files/upload_session/finish", argument, b"")


async def test_pieces_of_a_concurrent_session_travel_side_by_side(wired: Client) -> None:
    session = await _start(wired, session_type="concurrent")
    last_is_there = trio.Event()
    replies = []

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"a" * 1000
        await last_is_there.wait()
        yield b"a" * (BLOCK - 1000)

    async def send_slowly() -> None:
        replies.append(await _send(wired, _append(session, 0), slow_body()))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_slowly)
            reply = await _send(wired, _append(session, BLOCK, close=True), b"end")
            assert reply.status_code == 200, reply.text
            last_is_there.set()
    assert replies[0].status_code == 200, replies[0].text
    reply = await _finish(wired, session, BLOCK + 3)
    assert reply.json()["content_hash"] == content_hash(b"a" * BLOCK + b"end")


async def test_a_piece_with_a_wrong_hash_does_not_touch_the_right_one(client: Client) -> None:
    session = await _start(client, session_type="concurrent")
    for data, status in ((b"right", 200), (b"wrong", 409)):
        argument = _append(session, 0, close=True, content_hash=content_hash(b"right"))
        reply = await _send(client, argument, data)
        assert reply.status_code == status, reply.text
    assert (await _finish(client, session, 5)).status_code == 200
    assert await client.download("/file") == b"right"


async def test_two_appends_at_one_offset_are_not_both_taken(wired: Client) -> None:
    session = await _start(wired)
    replies = []

    async def send(data: bytes) -> None:
        replies.append(await _send(wired, _append(session, 0), data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, b"a" * 100_000)
        nursery.start_soon(send, b"b" * 100_000)
    assert sorted(reply.status_code for reply in replies) == [200, 409]
    refused = next(reply for reply in replies if reply.status_code == 409)
    assert refused.json()["error"] == {".tag": "incorrect_offset", "correct_offset": 100_000}


async def test_unaligned_pieces_hash_as_the_whole(client: Client) -> None:
    pieces = [b"a" * 3, b"b" * (BLOCK - 1), b"c" * (2 * BLOCK), b"d" * 5]
    session, offset = await _start(client), 0
    for piece in pieces:
        argument = _append(session, offset, content_hash=content_hash(piece))
        reply = await _send(client, argument, piece)
        assert reply.status_code == 200, reply.text
        offset += len(piece)
    reply = await _finish(client, session, offset)
    assert reply.json()["content_hash"] == content_hash(b"".join(pieces))


async def test_a_session_is_used_up_by_its_commit(client: Client) -> None:
    session = await _start(client)
    await _send(client, _append(session, 0), b"12")
    assert (await _finish(client, session, 2)).status_code == 200
    reply = await _finish(client, session, 2)
    assert reply.json()["error_summary"].startswith("lookup_failed/closed")
    reply = await _send(client, _append(session, 2), b"3")
    assert reply.json()["error"] == {".tag": "closed"}
    assert not list((client.account.data / "sessions").iterdir())
