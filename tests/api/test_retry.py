"""What is made again, and when: the decision as a table, then the calls that carry it out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from dbxfs.api import retry
from dbxfs.api.auth import StaticToken
from dbxfs.api.client import (
    Add,
    Client,
    DropboxError,
    EndpointError,
    RateLimited,
    ServerTrouble,
    Settings,
    UnexpectedReply,
    Unreachable,
    open_client,
)
from dbxfs.api.errors import BadRequest, Unauthorized
from dbxfs.core.model import Cursor, RemotePath
from tests.api.peer import FILE, FOLDER, Peer, refused, reply

A = RemotePath("/a")
LIMIT = RateLimited("too_many_requests", 3)
CUT = Unreachable("cut", doubt=True)
NEVER = Unreachable("refused", doubt=False)


@pytest.mark.parametrize(
    ("error", "writing", "attempt", "expected"),
    [
        (LIMIT, False, 0, 3.0),
        (LIMIT, True, 0, 3.0),
        (RateLimited("x"), True, 0, 0.25),
        (RateLimited("x", 21), False, 0, None),
        (CUT, False, 0, 0.25),
        (CUT, False, 2, 1.0),
        (CUT, False, 50, 4.0),
        (CUT, True, 0, None),
        (NEVER, False, 0, 0.25),
        (NEVER, True, 0, 0.25),
        (ServerTrouble(503), False, 0, 0.25),
        (ServerTrouble(503, 2), False, 0, 2.0),
        (ServerTrouble(503, 2), True, 0, None),
        (ServerTrouble(503, 2, doubt=False), True, 0, 2.0),
        (UnexpectedReply("x", doubt=False), False, 0, 0.25),
        (UnexpectedReply("x", doubt=False), False, 1, None),
        (UnexpectedReply("x", doubt=True), True, 0, None),
        (EndpointError(("other",), ""), False, 0, None),
        (BadRequest("x"), False, 0, None),
        (Unauthorized("x"), False, 0, None),
    ],
)
def test_table(error: DropboxError, writing: bool, attempt: int, expected: float | None) -> None:
    wait = retry.wait(error, attempt=attempt, elapsed=0, patience=20, writing=writing, random=0.5)
    assert wait == expected


@given(
    st.sampled_from([LIMIT, CUT, NEVER, ServerTrouble(500), ServerTrouble(503, 5)]),
    st.integers(0, 100),
    st.floats(0, 60),
    st.floats(0, 60),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_outlasts_the_patience(
    error: DropboxError,
    attempt: int,
    elapsed: float,
    patience: float,
    writing: bool,
    random: float,
) -> None:
    wait = retry.wait(
        error,
        attempt=attempt,
        elapsed=elapsed,
        patience=patience,
        writing=writing,
        random=random,
    )
    if wait is not None:
        assert 0 <= wait <= patience - elapsed
        assert wait >= (retry.asked_for(error) or 0)


READS: list[Any] = [
    lambda client: client.list_folder(A, recursive=False),
    lambda client: client.list_folder_continue(Cursor("c")),
    lambda client: client.latest_cursor(),
    lambda client: client.metadata(A),
    lambda client: client.account(),
    lambda client: client.space(),
    lambda client: opened(client),
]
WRITES: list[Any] = [
    lambda client: client.create_folder(A),
    lambda client: client.delete(A),
    lambda client: client.move(A, A),
    lambda client: client.copy(A, A),
    lambda client: upload(client),
    lambda client: client.session_start(),
    lambda client: client.session_append("s", 0, b"x", 1, "h"),
    lambda client: client.session_finish("s", 1, A, Add(), client_modified_ns=0),
]


async def opened(client: Client) -> None:
    async with client.download(A, start=0, length=1):
        pass


async def upload(client: Client) -> None:
    await client.upload(A, b"x", size=1, mode=Add(), content_hash="h", client_modified_ns=0)


TRANSIENT: list[Any] = [
    reply(500),
    reply(503, None, retry_after="1"),
    reply(429, None, retry_after="1"),
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.ReadError("cut"),
    httpx.RemoteProtocolError("disconnected"),
]


@pytest.mark.parametrize("trouble", TRANSIENT)
@pytest.mark.parametrize("read", READS)
async def test_reads_outlast_what_passes_by_itself(
    read: Any, trouble: Any, autojump_clock: MockClock
) -> None:
    peer = Peer([trouble, trouble, refused("path", "not_found")])
    async with peer.client() as client:
        with pytest.raises(EndpointError):
            await read(client)
    assert len(peer.requests) == 3


@pytest.mark.parametrize("trouble", TRANSIENT)
@pytest.mark.parametrize("read", READS)
async def test_reads_end_with_the_last_error_when_patience_ends(
    read: Any, trouble: Any, autojump_clock: MockClock
) -> None:
    peer = Peer([trouble])
    began = trio.current_time()
    async with peer.client() as client:
        with pytest.raises((Unreachable, ServerTrouble, RateLimited)) as caught:
            await read(client)
    assert caught.value.doubt is False
    assert len(peer.requests) >= 3
    assert trio.current_time() - began <= 20


async def test_patience_may_be_set_for_each_call(autojump_clock: MockClock) -> None:
    peer = Peer([reply(500)])
    async with peer.client() as client:
        with pytest.raises(ServerTrouble):
            await client.metadata(A, patience=0)
    assert len(peer.requests) == 1


@pytest.mark.parametrize("trouble", [reply(429, None, retry_after="2"), httpx.ConnectError("no")])
@pytest.mark.parametrize("write", WRITES)
async def test_writes_are_repeated_when_surely_nothing_was_done(
    write: Any, trouble: Any, autojump_clock: MockClock
) -> None:
    peer = Peer([trouble, refused("path", "malformed_path")])
    async with peer.client() as client:
        with pytest.raises(EndpointError):
            await write(client)
    assert len(peer.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (reply(500), ServerTrouble),
        (reply(503, None, retry_after="1"), ServerTrouble),
        (httpx.ReadTimeout("slow"), Unreachable),
        (httpx.RemoteProtocolError("disconnected"), Unreachable),
        (httpx.Response(200, content=b"garbage"), UnexpectedReply),
    ],
)
@pytest.mark.parametrize("write", WRITES)
async def test_writes_are_never_repeated_in_doubt(
    write: Any, trouble: Any, kind: type[DropboxError], autojump_clock: MockClock
) -> None:
    peer = Peer([read_whole(trouble)])
    async with peer.client() as client:
        with pytest.raises(kind) as caught:
            await write(client)
    assert caught.value.doubt
    assert len(peer.requests) == 1


def read_whole(trouble: Any) -> Any:
    """Fail only after the request's body was taken, as a lost reply does."""
    if not isinstance(trouble, Exception):
        return trouble

    def fail(_request: httpx.Request) -> httpx.Response:
        raise trouble

    return fail


async def test_an_upload_cut_before_its_last_byte_leaves_no_doubt(
    autojump_clock: MockClock,
) -> None:
    peer = Peer([httpx.ReadError("cut"), reply(200, FILE)])
    async with peer.client() as client:
        await upload(client)
    assert len(peer.requests) == 2


async def test_retry_after_is_honoured_to_the_second(autojump_clock: MockClock) -> None:
    peer = Peer([reply(429, None, retry_after="7"), reply(200, FILE)])
    began = trio.current_time()
    async with peer.client() as client:
        await client.metadata(A)
    assert trio.current_time() - began == pytest.approx(7)


async def test_retry_after_longer_than_the_patience_is_raised_at_once(
    autojump_clock: MockClock,
) -> None:
    peer = Peer([reply(429, None, retry_after="300")])
    began = trio.current_time()
    async with peer.client() as client:
        with pytest.raises(RateLimited):
            await client.metadata(A)
        assert trio.current_time() == began
        # The lane is paused for all: the next one does not even ask.
        with pytest.raises(RateLimited):
            await client.space()
    assert len(peer.requests) == 1


async def test_retry_after_of_commits_does_not_stop_reads(autojump_clock: MockClock) -> None:
    limit = {"error": {"reason": {".tag": "too_many_write_operations"}, "retry_after": 9}}
    times: dict[str, float] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        route = request.url.path
        first = route not in times
        times[route] = trio.current_time()
        if route.endswith("create_folder_v2"):
            return reply(429, limit) if first else reply(200, {"metadata": FOLDER})
        return reply(200, FILE)

    peer = Peer([answer])
    began = trio.current_time()
    async with peer.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.create_folder, A)
        await wait_all_tasks_blocked()
        await client.metadata(A)
        assert trio.current_time() == began
    assert times["/2/files/create_folder_v2"] - began == pytest.approx(9)


async def test_the_longpoll_leaves_failures_to_the_feed() -> None:
    peer = Peer([reply(500)])
    async with peer.client() as client:
        with pytest.raises(ServerTrouble):
            await client.longpoll(Cursor("c"))
    assert len(peer.requests) == 1


async def test_a_reply_that_trickles_for_ever_comes_to_an_end(autojump_clock: MockClock) -> None:
    async def hang(_request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    settings = Settings.for_url("http://127.0.0.1:9", StaticToken("t"), call_timeout=30)
    began = trio.current_time()
    async with open_client(settings, transport=httpx.MockTransport(hang)) as client:
        with pytest.raises(Unreachable) as caught:
            await client.create_folder(A)
        assert caught.value.doubt
        assert trio.current_time() - began == pytest.approx(30)


async def test_commits_go_one_at_a_time() -> None:
    inside, most = 0, 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await wait_all_tasks_blocked()
        inside -= 1
        return reply(200, {"metadata": FOLDER})

    settings = Settings.for_url("http://127.0.0.1:9", StaticToken("t"))
    async with (
        open_client(settings, transport=httpx.MockTransport(answer)) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(5):
            nursery.start_soon(client.create_folder, A)
    assert most == 1
