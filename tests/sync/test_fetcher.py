"""Reading versions through memory, the disk cache and a Dropbox that counts what it is asked.

The fake serves one content by ranges. It can hold its bytes back (`gate`), break a connection after
some bytes (`cuts`, one for each request) and serve wrong contents first.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from dbxfs.api.client import Client
from dbxfs.api.errors import EndpointError, Unreachable
from dbxfs.core.content_hash import content_hash
from dbxfs.core.model import RemotePath, Rev
from dbxfs.store.blocks import BLOCK, UNIT, BlockCache
from dbxfs.sync.fetcher import (
    ATTEMPTS,
    GIVEN_UP_FOR,
    QUIET,
    SLOW,
    DamagedContentError,
    Fetcher,
)
from dbxfs.sync.version import Version

PIECE = 50_000
"""Bytes that the fake gives at a time: blocks are no multiple of it."""


class Body:
    """The pieces of one reply, up to where its connection breaks."""

    def __init__(self, data: bytes, cut: int | None, gate: trio.Event) -> None:
        self._data = data if cut is None else data[:cut]
        self._breaks = cut is not None
        self._gate = gate
        self._at = 0

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        await self._gate.wait()
        piece = self._data[self._at : self._at + PIECE]
        self._at += len(piece)
        if piece:
            return piece
        if self._breaks:
            raise Unreachable("the connection was cut", doubt=False)
        raise StopAsyncIteration


class FakeContent:
    """The `download` of a client that has one content, under one revision."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.rev = Rev("0123456789abcdef")
        self.requests: list[tuple[int, int]] = []
        """The range of each request: first byte, number of bytes."""
        self.cuts: list[int] = []
        self.wrong: list[bytes] = []
        self.error: Exception | None = None
        self.asked = trio.Event()
        self.gate = trio.Event()
        self.gate.set()

    @asynccontextmanager
    async def download(
        self, ref: RemotePath, *, start: int, length: int, patience: float | None = None
    ) -> AsyncIterator[Body]:
        assert ref == f"rev:{self.rev}"
        assert length > 0
        assert start + length <= len(self.data)
        self.requests.append((start, length))
        self.asked.set()
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        data = self.wrong.pop(0) if self.wrong else self.data
        cut = self.cuts.pop(0) if self.cuts else None
        yield Body(data[start : start + length], cut, self.gate)

    def version(self) -> Version:
        return Version(self.rev, content_hash(self.data), len(self.data))

    def fetcher(self, cache: BlockCache, nursery: trio.Nursery) -> Fetcher:
        return Fetcher(cast(Client, self), cache, nursery)


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[BlockCache]:
    cache = BlockCache(tmp_path, 1 << 30)
    yield cache
    cache.close()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(attempt: int, **_: Any) -> float:
        return 0.0

    monkeypatch.setattr("dbxfs.sync.fetcher.delay", at_once)


# ---- What is read ----


async def test_any_range_is_read_and_ends_where_the_file_ends(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(2 * BLOCK + 1234))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    ends = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1233, 2 * BLOCK + 1234]
    for offset in ends:
        for length in (0, 1, BLOCK, 3 * BLOCK):
            expected = remote.data[offset : offset + length]
            assert await fetcher.read(version, offset, length) == expected


async def test_an_empty_file_is_read_without_a_request(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(b"")
    assert await remote.fetcher(cache, nursery).read(remote.version(), 0, 4096) == b""
    assert remote.requests == []


async def test_the_first_read_asks_for_its_blocks_only_in_one_request(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(8 * BLOCK))
    await remote.fetcher(cache, nursery).read(remote.version(), 3 * BLOCK + 5, 2 * BLOCK)
    assert remote.requests == [(3 * BLOCK, 2 * BLOCK + UNIT)]


# ---- Sharing ----


async def test_readers_of_one_block_share_one_download(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    remote.gate = trio.Event()
    got: dict[int, bytes] = {}

    async def read(offset: int) -> None:
        got[offset] = await fetcher.read(version, offset, 100)

    async with trio.open_nursery() as readers:
        for offset in range(0, 1000, 100):
            readers.start_soon(read, offset)
        await remote.asked.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert got == {}
        remote.gate.set()
    assert got == {offset: remote.data[offset : offset + 100] for offset in range(0, 1000, 100)}
    assert remote.requests == [(0, BLOCK)]


async def test_a_reader_that_is_cancelled_does_not_disturb_another(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    remote.gate = trio.Event()
    first, got = trio.CancelScope(), list[bytes]()

    async def leaving() -> None:
        with first:
            await fetcher.read(version, 0, BLOCK)

    async def staying() -> None:
        got.append(await fetcher.read(version, 0, BLOCK))

    async with trio.open_nursery() as readers:
        # The one that leaves is the one that the download was begun for.
        readers.start_soon(leaving)
        await remote.asked.wait()
        readers.start_soon(staying)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        remote.gate.set()
    assert first.cancelled_caught
    assert got == [remote.data]
    assert remote.requests == [(0, BLOCK)]


async def test_what_a_cancelled_reader_asked_for_is_there_for_the_next(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    remote.gate = trio.Event()
    async with trio.open_nursery() as readers:
        readers.start_soon(fetcher.read, version, 0, BLOCK)
        await remote.asked.wait()
        readers.cancel_scope.cancel()
    remote.gate.set()
    assert await fetcher.read(version, 0, BLOCK) == remote.data
    assert remote.requests == [(0, BLOCK)]


# ---- Trouble ----


@pytest.mark.usefixtures("no_pauses")
async def test_a_connection_that_breaks_between_blocks_goes_on_at_that_byte(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(4 * BLOCK))
    remote.cuts = [2 * BLOCK, BLOCK]
    got = await remote.fetcher(cache, nursery).read(remote.version(), 0, 4 * BLOCK)
    assert got == remote.data
    assert remote.requests == [(0, 4 * BLOCK), (2 * BLOCK, 2 * BLOCK), (3 * BLOCK, BLOCK)]


@pytest.mark.usefixtures("no_pauses")
async def test_a_connection_that_breaks_within_a_block_keeps_the_blocks_that_came(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(4 * BLOCK))
    broke_at = 2 * BLOCK + 77_777
    remote.cuts = [broke_at]
    got = await remote.fetcher(cache, nursery).read(remote.version(), 0, 4 * BLOCK)
    assert got == remote.data
    assert remote.requests == [(0, 4 * BLOCK), (broke_at, 4 * BLOCK - broke_at)]


@pytest.mark.usefixtures("no_pauses")
async def test_wrong_bytes_are_fetched_again_and_never_given_out_or_kept(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(1000))
    version = remote.version()
    remote.wrong = [bytes(1000)]
    assert await remote.fetcher(cache, nursery).read(version, 0, 1000) == remote.data
    assert remote.requests == [(0, 1000)] * 2
    await trio.testing.wait_all_tasks_blocked()
    assert cache.get(version.key, 0) in (None, remote.data)


@pytest.mark.usefixtures("no_pauses")
async def test_bytes_that_stay_wrong_are_an_error(cache: BlockCache, nursery: trio.Nursery) -> None:
    remote = FakeContent(some_bytes(1000))
    version = remote.version()
    remote.data = bytes(1000)
    with pytest.raises(DamagedContentError, match=remote.rev):
        await remote.fetcher(cache, nursery).read(version, 0, 1000)
    assert remote.requests == [(0, 1000)] * 2
    assert cache.get(version.key, 0) is None


@pytest.mark.usefixtures("no_pauses")
async def test_all_who_wait_are_told_of_a_failure(cache: BlockCache, nursery: trio.Nursery) -> None:
    remote = FakeContent(some_bytes(3 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    remote.gate = trio.Event()
    remote.cuts = [BLOCK + 1, 0, 0, 0]
    told: list[str] = []

    async def read(offset: int) -> None:
        with pytest.raises(Unreachable):
            await fetcher.read(version, offset, 2 * BLOCK - offset)
        told.append("failed")

    async with trio.open_nursery() as readers:
        readers.start_soon(read, 0)
        await remote.asked.wait()
        readers.start_soon(read, 10)
        await trio.testing.wait_all_tasks_blocked()
        remote.gate.set()
    assert told == ["failed", "failed"]
    assert remote.requests == [(0, 2 * BLOCK)] + [(BLOCK + 1, BLOCK - 1)] * 3
    # The block that did come is there.
    assert await fetcher.read(version, 0, BLOCK) == remote.data[:BLOCK]


@pytest.mark.usefixtures("no_pauses")
async def test_a_read_that_was_given_up_fails_at_once_for_a_while_and_then_tries_again(
    cache: BlockCache, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    remote = FakeContent(some_bytes(1000))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    remote.error = Unreachable("no route to host", doubt=False)
    with pytest.raises(Unreachable):
        await fetcher.read(version, 0, 1000)
    assert len(remote.requests) == ATTEMPTS
    remote.error = None
    mock_clock.jump(GIVEN_UP_FOR * 0.9)
    with pytest.raises(Unreachable):
        await fetcher.read(version, 0, 1000)
    assert len(remote.requests) == ATTEMPTS
    mock_clock.jump(GIVEN_UP_FOR * 0.2)
    assert await fetcher.read(version, 0, 1000) == remote.data
    assert len(remote.requests) == ATTEMPTS + 1


async def test_a_refusal_is_not_asked_for_again(cache: BlockCache, nursery: trio.Nursery) -> None:
    remote = FakeContent(some_bytes(1000))
    remote.error = EndpointError(("path", "not_found"), "path/not_found/")
    with pytest.raises(EndpointError):
        await remote.fetcher(cache, nursery).read(remote.version(), 0, 1000)
    assert len(remote.requests) == 1


# ---- The disk cache ----


async def test_blocks_survive_a_new_fetcher_on_the_same_folder(tmp_path: Path) -> None:
    remote = FakeContent(some_bytes(3 * BLOCK + 17))
    version = remote.version()
    cache = BlockCache(tmp_path, 1 << 30)
    async with trio.open_nursery() as nursery:
        # The nursery's end is that of the flights: by then all is on disk.
        fetcher = remote.fetcher(cache, nursery)
        assert await fetcher.read(version, 0, len(remote.data)) == remote.data
    cache.close()
    remote.requests.clear()
    again = BlockCache(tmp_path, 1 << 30)
    async with trio.open_nursery() as nursery:
        fetcher = remote.fetcher(again, nursery)
        assert await fetcher.read(version, 0, len(remote.data)) == remote.data
        # Another revision of the same content, such as after a move, is a hit too.
        moved = Version(Rev("fedcba9876543210"), version.hash, version.size)
        assert await fetcher.read(moved, BLOCK, 10) == remote.data[BLOCK : BLOCK + 10]
    again.close()
    assert remote.requests == []


async def test_read_ahead_takes_what_the_disk_has_without_a_request(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(3 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    cache.put(version.key, 2, remote.data[2 * BLOCK :])
    got = [await fetcher.read(version, block * BLOCK, BLOCK) for block in range(3)]
    assert b"".join(got) == remote.data
    assert remote.requests == [(0, BLOCK), (BLOCK, BLOCK)]


async def test_read_ahead_of_a_file_that_is_all_on_disk_asks_for_nothing(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(12 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    for block in range(12):
        cache.put(version.key, block, remote.data[block * BLOCK : (block + 1) * BLOCK])
    got = [await fetcher.read(version, block * BLOCK, BLOCK) for block in range(12)]
    assert b"".join(got) == remote.data
    assert remote.requests == []


async def test_a_block_of_the_wrong_length_on_disk_is_a_miss(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(1000))
    version = remote.version()
    cache.put(version.key, 0, remote.data[:999])
    assert await remote.fetcher(cache, nursery).read(version, 0, 1000) == remote.data
    assert remote.requests == [(0, 1000)]


# ---- Several connections ----


async def test_a_sequential_reader_has_several_ranges_on_their_way(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(64 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    got = bytearray()
    while len(got) < 8 * BLOCK:
        got += await fetcher.read(version, len(got), 2 * UNIT, "reader")
    assert got == remote.data[: 8 * BLOCK]
    before = len(remote.requests)
    remote.gate = trio.Event()
    while len(remote.requests) < before + 4:
        with trio.move_on_after(1) as waiting:
            got += await fetcher.read(version, len(got), 2 * UNIT, "reader")
        assert not waiting.cancelled_caught or len(remote.requests) > before
    remote.gate.set()
    starts = [start for start, _ in remote.requests]
    assert len(starts) == len(set(starts)), "nothing is fetched twice"


async def test_who_jumps_about_gets_small_units_until_the_whole_pays(
    cache: BlockCache, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def pays(seconds: float, size: int, rate: float) -> bool:
        waited.append(seconds)
        return len(waited) == 5

    monkeypatch.setattr("dbxfs.core.readahead.fill_pays", pays)
    remote = FakeContent(some_bytes(40 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    places = [random.Random(n).randrange(20 * BLOCK) + 10 * BLOCK for n in range(6)]
    for number, place in enumerate(places):
        assert await fetcher.read(version, place, 4096, 1) == remote.data[place : place + 4096]
        if number < 5:
            assert len(remote.requests) == number + 1
            assert remote.requests[-1][1] <= 2 * UNIT
    await trio.testing.wait_all_tasks_blocked(0.2)
    assert cache.cached(version.key, version.size) > 30 * BLOCK
    assert sum(length for _, length in remote.requests) <= version.size


async def test_a_read_in_the_background_lets_programs_go_before(
    cache: BlockCache, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    remote = FakeContent(some_bytes(8 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    remote.gate = trio.Event()
    background = trio.Event()

    async def read_behind() -> None:
        expected = remote.data[5 * BLOCK : 6 * BLOCK]
        assert await fetcher.read_behind(version, 5 * BLOCK, BLOCK) == expected
        background.set()

    async def read() -> None:
        await fetcher.read(version, 0, UNIT, 1)

    async with trio.open_nursery() as readers:
        readers.start_soon(read)
        await remote.asked.wait()
        await trio.testing.wait_all_tasks_blocked()
        asked = list(remote.requests)
        readers.start_soon(read_behind)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(SLOW / 2)
        await trio.testing.wait_all_tasks_blocked()
        assert remote.requests == asked
        remote.gate.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not background.is_set(), "a program that reads on waits again in this moment"
        mock_clock.jump(QUIET + 0.01)
        await background.wait()


async def test_a_read_in_the_background_gets_on_beside_a_program_that_never_stops(
    cache: BlockCache,
    nursery: trio.Nursery,
    mock_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dbxfs.sync.fetcher.BEHIND_WAITS", 1.0)
    remote = FakeContent(some_bytes(8 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    kept = Version(Rev("fedcba9876543210"), content_hash(b"kept"), 4)
    cache.put(kept.key, 0, b"kept")
    remote.gate = trio.Event()
    got: list[bytes] = []

    async def read_behind() -> None:
        got.append(await fetcher.read_behind(kept, 0, 4))
        readers.cancel_scope.cancel()

    async with trio.open_nursery() as readers:
        readers.start_soon(fetcher.read, version, 0, UNIT)
        await remote.asked.wait()
        readers.start_soon(read_behind)
        await trio.testing.wait_all_tasks_blocked()
        assert not got
        mock_clock.jump(1.1)
        await trio.sleep_forever()
    assert got == [b"kept"]


@pytest.mark.usefixtures("no_pauses")
async def test_a_connection_that_brings_nothing_is_left_for_another(
    cache: BlockCache, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    remote = FakeContent(some_bytes(3 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    stalled = remote.gate = trio.Event()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await fetcher.read(version, BLOCK, UNIT))

    async with trio.open_nursery() as readers:
        readers.start_soon(read)
        await remote.asked.wait()
        await trio.testing.wait_all_tasks_blocked()
        remote.gate = trio.Event()
        remote.gate.set()
        mock_clock.jump(SLOW + 0.1)
    assert got == [remote.data[BLOCK : BLOCK + UNIT]]
    assert not stalled.is_set()
    assert remote.requests == [(BLOCK, UNIT)] * 2


# ---- Large files as a whole ----


async def test_a_large_file_is_held_against_its_hash_when_all_of_it_has_come(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    remote = FakeContent(some_bytes(9 * BLOCK + 5))
    wrong = Version(remote.rev, content_hash(b"something else"), len(remote.data))
    fetcher = remote.fetcher(cache, nursery)
    for _ in range(2):
        assert await fetcher.read(wrong, 0, wrong.size) == remote.data
        await settled(lambda: cache.cached(wrong.key, wrong.size) == 0)
    with pytest.raises(DamagedContentError):
        await fetcher.read(wrong, 0, wrong.size)


async def test_a_large_file_that_is_right_stays(cache: BlockCache, nursery: trio.Nursery) -> None:
    remote = FakeContent(some_bytes(9 * BLOCK + 5))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    for start in (5 * BLOCK, 0):
        assert await fetcher.read(version, start, version.size) == remote.data[start:]
    await settled(lambda: cache.cached(version.key, version.size) == version.size)
    assert await fetcher.read(version, 0, version.size) == remote.data


async def test_regression_who_waits_for_what_is_dropped_gets_it_all_the_same(
    cache: BlockCache, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = FakeContent(some_bytes(3 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    look = fetcher._look

    def drop_and_look(key: str, *of: Any) -> Any:
        trio.from_thread.run_sync(fetcher.drop, key)
        return look(key, *of)

    monkeypatch.setattr(fetcher, "_look", drop_and_look)
    with trio.fail_after(10):
        assert await fetcher.read(version, BLOCK, BLOCK) == remote.data[BLOCK : 2 * BLOCK]


@pytest.mark.parametrize("part", ["_look", "_persist"])
async def test_a_mistake_with_one_content_is_its_readers_only(
    part: str, cache: BlockCache, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = FakeContent(some_bytes(3 * BLOCK))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()

    def mistaken(*_: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(fetcher, part, mistaken)
        with pytest.raises(ZeroDivisionError):
            await fetcher.read(version, 0, BLOCK)
    assert await fetcher.read(version, 0, BLOCK) == remote.data[:BLOCK]


class Watched(OrderedDict[Any, Any]):
    """Takes down which threads look into it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def get(self, *key: Any) -> Any:
        self.threads.add(threading.get_ident())
        return super().get(*key)


async def test_regression_no_thread_looks_into_memory(
    cache: BlockCache, nursery: trio.Nursery
) -> None:
    """One that hashed did: while blocks were let go, that ended the daemon."""
    remote = FakeContent(some_bytes(9 * BLOCK + 5))
    fetcher, version = remote.fetcher(cache, nursery), remote.version()
    fetcher._memory._blocks = watched = Watched()
    await fetcher.read(version, 0, version.size)
    await settled(lambda: cache.cached(version.key, version.size) == version.size)
    beginning = hashlib.sha256(remote.data[: 4 * BLOCK]).digest()
    assert await fetcher.begins_something(beginning)
    assert not await fetcher.begins_something(bytes(32))
    assert watched.threads == {threading.get_ident()}


async def test_units_that_came_alone_outlive_the_daemon(tmp_path: Path) -> None:
    remote = FakeContent(some_bytes(4 * BLOCK))
    version = remote.version()
    for requests in (1, 1):
        cache = BlockCache(tmp_path, 1 << 30)
        async with trio.open_nursery() as nursery:
            fetcher = remote.fetcher(cache, nursery)
            place = 2 * BLOCK + UNIT + 7
            assert await fetcher.read(version, place, 10) == remote.data[place : place + 10]
            await fetcher.keep()
            nursery.cancel_scope.cancel()
        cache.close()
        assert len(remote.requests) == requests


async def settled(condition: Callable[[], bool]) -> None:
    """Return when the threads have made it true."""
    with trio.fail_after(5):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.01)
