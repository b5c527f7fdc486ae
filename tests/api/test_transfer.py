"""Contents arrive whole or not at all, and leave in pieces that can be sent again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dbxfs.api.auth import StaticToken
from dbxfs.api.body import PIECE, Body
from dbxfs.api.client import (
    Add,
    BadRequest,
    Client,
    EndpointError,
    IncorrectOffset,
    SessionId,
    Settings,
    UnexpectedReply,
    Unreachable,
    open_client,
)
from dbxfs.core.model import FileEntry, RemotePath
from dbxfs.core.pace import BURST, Pace
from tests.api.peer import FILE, Peer, Stream, refused, reply

REV = RemotePath("rev:a1c10ce0dd78")
BYTES = b"0123456789"


def delivery(
    start: int, *pieces: bytes | Exception, status: int = 206, **entry: Any
) -> httpx.Response:
    """A download's reply of a file of ten bytes."""
    return httpx.Response(
        status,
        stream=Stream(*pieces),
        headers={
            "content-range": f"bytes {start}-9/10",
            "dropbox-api-result": json.dumps({**FILE, **entry}),
        },
    )


async def read(client: Client, start: int, length: int, **more: Any) -> bytes:
    async with client.download(REV, start=start, length=length, **more) as download:
        return b"".join([piece async for piece in download])


async def test_a_range_is_asked_for_and_delivered() -> None:
    peer = Peer([delivery(2, b"23", b"", b"456")])
    async with peer.client() as client, client.download(REV, start=2, length=5) as download:
        assert isinstance(download.entry, FileEntry)
        assert download.entry.rev == "a1c10ce0dd78"
        assert [piece async for piece in download] == [b"23", b"456"]
    request = peer.requests[0]
    assert peer.routes == ["files/download"]
    assert peer.sent() == {"path": REV}
    assert request.headers["range"] == "bytes=2-6"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-length"] == "0"
    assert "content-type" not in request.headers


@pytest.mark.parametrize(
    ("start", "length", "pieces", "expected"),
    [
        (0, 10, [BYTES], BYTES),
        (8, 50, [b"89"], b"89"),
        (0, 3, [b"012345"], b"012"),
        (0, 4, [b"01", b"2345", b"6"], b"0123"),
    ],
)
async def test_delivered_is_what_was_asked_up_to_the_end(
    start: int, length: int, pieces: list[bytes], expected: bytes
) -> None:
    async with Peer([delivery(start, *pieces)]).client() as client:
        assert await read(client, start, length) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [b"0123"],
        [],
        [b"0123", httpx.ReadError("cut")],
        [b"0123", httpx.ReadTimeout("slow")],
        [b"0123", httpx.RemoteProtocolError("incomplete")],
    ],
)
async def test_a_stream_that_ends_early_is_an_error(pieces: list[Any]) -> None:
    peer = Peer([delivery(0, *pieces)])
    async with peer.client() as client:
        with pytest.raises(Unreachable) as caught:
            await read(client, 0, 10)
    assert caught.value.doubt is False
    assert len(peer.requests) == 1


async def test_the_whole_file_will_do_when_asked_from_its_start() -> None:
    async with Peer([delivery(0, BYTES, status=200)]).client() as client:
        assert await read(client, 0, 5) == b"01234"


@pytest.mark.parametrize(
    "answer",
    [
        delivery(0, BYTES, status=200),
        delivery(3, b"3456"),
        httpx.Response(206, content=b"x"),
        httpx.Response(206, content=b"x", headers={"dropbox-api-result": "<html>"}),
        delivery(2, b"2", rev=5),
    ],
)
async def test_another_range_or_no_metadata_is_an_unexpected_reply(
    answer: httpx.Response,
) -> None:
    async with Peer([answer]).client(patience=0) as client:
        with pytest.raises(UnexpectedReply):
            await read(client, 2, 4)


async def test_a_range_behind_the_end_is_a_bad_request() -> None:
    async with Peer([httpx.Response(416)]).client() as client:
        with pytest.raises(BadRequest):
            await read(client, 10, 4)


@pytest.mark.parametrize(("start", "length"), [(-1, 4), (0, 0), (5, -1)])
async def test_an_impossible_range_is_not_asked_for(start: int, length: int) -> None:
    peer = Peer([delivery(0, BYTES)])
    async with peer.client() as client:
        with pytest.raises(ValueError, match="cannot download"):
            await read(client, start, length)
    assert peer.requests == []


async def test_a_download_left_early_gives_back_connection_and_place() -> None:
    replies = [delivery(0, b"01", b"23") for _ in range(3)]
    async with Peer(replies).client(download_limit=1) as client:
        for _ in range(2):
            async with client.download(REV, start=0, length=10) as download:
                assert await anext(download) == b"01"
        with pytest.raises(KeyError):
            async with client.download(REV, start=0, length=10):
                raise KeyError
    for answer in replies:
        assert answer.is_closed


async def test_what_the_reader_raises_is_not_taken_for_the_networks() -> None:
    async with Peer([delivery(0, BYTES)]).client() as client:
        with pytest.raises(httpx.ReadError):
            async with client.download(REV, start=0, length=10):
                raise httpx.ReadError("the caller's own")


async def test_a_refused_download_gives_back_its_place() -> None:
    peer = Peer([refused("path", "not_found")])
    async with peer.client(download_limit=1) as client:
        for _ in range(2):
            with pytest.raises(EndpointError) as caught:
                await read(client, 0, 1)
            assert caught.value.has("path", "not_found")


# Uploads ----------------------------------------------------------------------------------------


async def test_streams_and_bytes_are_sent_alike() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"012"
        yield b""
        yield b"3456789"

    peer = Peer([reply(200, FILE)])
    async with peer.client() as client:
        for source in (BYTES, bytearray(BYTES), memoryview(BYTES), chunks):
            await client.upload(
                REV, source, size=10, mode=Add(), content_hash="h", client_modified_ns=0
            )
    assert peer.bodies == [BYTES] * 4
    assert {request.headers["content-length"] for request in peer.requests} == {"10"}


async def test_a_stream_is_started_anew_for_a_second_attempt(autojump_clock: MockClock) -> None:
    started, ended = 0, 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal started, ended
        started += 1
        try:
            yield b"abc"
        finally:
            ended += 1

    peer = Peer([reply(429, None, retry_after="1"), reply(200, FILE)])
    async with peer.client() as client:
        await client.upload(REV, chunks, size=3, mode=Add(), content_hash="h", client_modified_ns=0)
    assert peer.bodies == [b"abc", b"abc"]
    assert (started, ended) == (2, 2)


@pytest.mark.parametrize("pieces", [[b"ab"], [b"abc", b"d"], []])
async def test_a_source_of_another_size_is_our_own_mistake(pieces: list[bytes]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async with Peer([reply(200, FILE)]).client() as client:
        with pytest.raises(ValueError, match="3 bytes"):
            await client.upload(
                REV, chunks, size=3, mode=Add(), content_hash="h", client_modified_ns=0
            )
        with pytest.raises(ValueError, match="3 bytes"):
            await client.session_append(SessionId("s"), 0, b"".join(pieces), 3, "h")


async def test_what_the_source_raises_is_passed_on() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        raise OSError(5, "the disk is broken")

    async with Peer([reply(200, FILE)]).client() as client:
        with pytest.raises(OSError, match="the disk is broken"):
            await client.upload(
                REV, chunks, size=3, mode=Add(), content_hash="h", client_modified_ns=0
            )


async def test_a_source_left_before_its_end_is_closed() -> None:
    closed = False

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield b"abc"
            yield b"def"
        finally:
            closed = True

    class Cut(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for _piece in request.stream:
                raise httpx.WriteError("cut")
            raise AssertionError

    settings = Settings.for_url("http://127.0.0.1:9", StaticToken("t"), patience=0)
    async with open_client(settings, transport=Cut()) as client:
        with pytest.raises(Unreachable) as caught:
            await client.session_append(SessionId("s"), 0, chunks, 6, "h")
    assert caught.value.doubt is False
    assert closed


async def test_a_wrong_offset_tells_where_to_go_on() -> None:
    peer = Peer(
        [
            refused("incorrect_offset", correct_offset=4),
            refused("lookup_failed", "incorrect_offset", correct_offset=6),
        ]
    )
    session = SessionId("s")
    async with peer.client() as client:
        with pytest.raises(IncorrectOffset) as append:
            await client.session_append(session, 0, b"abc", 3, "h")
        with pytest.raises(IncorrectOffset) as finish:
            await client.session_finish(session, 3, REV, Add(), client_modified_ns=0)
    assert append.value.correct_offset == 4
    assert finish.value.correct_offset == 6


@given(st.lists(st.integers(0, 3 * PIECE), max_size=4), st.booleans())
def test_pieces_are_small_and_lose_nothing(sizes: list[int], streamed: bool) -> None:
    data = b"".join(bytes([n + 1]) * size for n, size in enumerate(sizes))

    async def chunks() -> AsyncIterator[bytes]:
        for n, size in enumerate(sizes):
            yield bytes([n + 1]) * size

    async def run() -> None:
        body = Body(chunks if streamed else data, len(data))
        for _ in range(2):
            got = []
            async for piece in body:
                assert body.handed_over is (sum(map(len, got)) + len(piece) == len(data))
                got.append(piece)
            assert b"".join(got) == data
            assert all(0 < len(piece) <= PIECE for piece in got)
            assert body.handed_over

    with pytest.raises(StopIteration):
        run().send(None)


# Rates ------------------------------------------------------------------------------------------


async def test_a_download_keeps_to_its_rate(autojump_clock: MockClock) -> None:
    answer = delivery(0, *(bytes([digit]) for digit in BYTES))
    async with Peer([answer]).client(download_rate=2) as client:
        began = trio.current_time()
        assert await read(client, 0, 10) == BYTES
        assert trio.current_time() - began == pytest.approx(10 / 2 - BURST)


async def test_all_uploads_keep_to_one_rate(autojump_clock: MockClock) -> None:
    body, other = Body(b"a" * 4 * PIECE, 4 * PIECE), Body(b"b" * 4 * PIECE, 4 * PIECE)
    body.pace = other.pace = Pace(PIECE)

    async def run(sent: Body) -> None:
        assert b"".join([piece async for piece in sent]) in (b"a" * 4 * PIECE, b"b" * 4 * PIECE)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, body)
        nursery.start_soon(run, other)
    assert trio.current_time() - began == pytest.approx(8 - BURST)
