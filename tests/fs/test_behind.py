"""Writes that are brought to the disk behind the programs' backs: in order, whole, and told of."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dbxfs.fs import behind
from dbxfs.fs.behind import WritesBehind
from dbxfs.store.staged import StagedFile

INO = 7


@dataclass
class Store:
    """One file and its writes."""

    behind: WritesBehind
    staged: StagedFile
    lost: list[int]

    async def write(self, offset: int, data: bytes, now: int = 1) -> None:
        await self.behind.write(self.staged, offset, data, now)


@pytest.fixture
async def store(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Store]:
    lost: list[int] = []
    staged = StagedFile(INO, tmp_path / "staged", size=0, mtime_ns=0)
    yield Store(WritesBehind(nursery, lost.append), staged, lost)
    staged.retire()


async def test_what_was_written_shows_before_it_is_there(store: Store) -> None:
    await store.write(10, b"later", 5)
    assert (store.staged.size, store.staged.shown_size) == (0, 15)
    assert store.staged.shown_mtime_ns == store.staged.shown_written_ns == 5
    assert store.staged.dirty
    await store.behind.wait(store.staged)
    assert (store.staged.size, store.staged.shown_size, store.staged.mtime_ns) == (15, 15, 5)
    assert store.staged.read(0, 20) == bytes(10) + b"later"


async def test_regression_who_has_waited_finds_it_used_by_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes were there, and their thread was not: a descriptor was never given back."""
    written, goes = threading.Event(), threading.Event()
    carry_out = store.staged.carry_out

    def carry_out_and_linger() -> None:
        carry_out()
        written.set()
        goes.wait(10)

    monkeypatch.setattr(store.staged, "carry_out", carry_out_and_linger)
    await store.write(0, b"all")
    await trio.to_thread.run_sync(written.wait)
    assert (store.staged.awaited, store.staged.in_use) == (0, True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.behind.wait, store.staged)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        goes.set()
    assert not store.staged.in_use


async def test_regression_what_comes_while_a_write_fails_is_dropped_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, goes = threading.Event(), threading.Event()

    def fail() -> None:
        store.staged.drop_awaited()
        failed.set()
        goes.wait(10)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store.staged, "carry_out", fail)
    await store.write(0, b"lost")
    await trio.to_thread.run_sync(failed.wait)
    await store.write(4, b"too late")
    goes.set()
    await store.behind.wait(store.staged)
    assert (store.staged.awaited, store.staged.shown_size) == (0, 0)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        store.behind.complain(INO)


async def test_writes_take_effect_in_their_order(store: Store) -> None:
    for number in range(600):
        await store.write(number * 3, b"%03d" % number, number)
    await store.write(0, b"first", 1000)
    await store.write(3, b"over", 1001)
    await store.behind.wait(store.staged)
    text = b"".join(b"%03d" % number for number in range(600))
    assert store.staged.read(0, 1800) == b"firover" + text[7:]
    assert store.staged.mtime_ns == 1001


async def test_many_small_writes_are_carried_out_together(
    store: Store, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    trips = 0
    carry_out = StagedFile.carry_out

    def counted(staged: StagedFile) -> None:
        nonlocal trips
        trips += 1
        carry_out(staged)

    monkeypatch.setattr(StagedFile, "carry_out", counted)
    await store.write(0, b"a")
    await store.behind.wait(store.staged)
    for number in range(1, 1001):
        await store.write(number, b"b")
    await trio.sleep(2 * behind.MOMENT)
    await store.behind.wait(store.staged)
    assert trips == 2
    assert store.staged.size == 1001


async def test_a_fast_writer_waits_for_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "MOST", 1000)
    for number in range(50):
        await store.write(number * 300, bytes(300))
        assert store.staged.awaited <= 1000


async def test_a_failure_is_told_once_and_the_rest_is_dropped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(0, b"good")
    await store.behind.wait(store.staged)

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", refuse)
        await store.write(4, b"bad")
        await store.behind.wait(store.staged)
    assert store.lost == [INO]
    with pytest.raises(OSError, match="broken"):
        store.behind.complain(INO)
    store.behind.complain(INO)
    assert (store.staged.shown_size, store.staged.read(0, 10)) == (4, b"good")
    await store.write(4, b"new")
    await store.behind.finish()
    assert store.staged.read(0, 10) == b"goodnew"


async def test_a_file_that_nobody_wants_any_more_is_not_made(store: Store) -> None:
    store.staged.write_later(0, b"x", 1)
    store.staged.retire()
    await store.write(1, b"y")
    await store.behind.finish()
    store.behind.complain(INO)
    assert store.lost == []
    assert not store.staged.path.exists()


async def test_what_a_short_write_left_out_follows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(descriptor: int, pieces: list[bytes], offset: int) -> int:
        return os.pwrite(descriptor, pieces[0][:1], offset)

    monkeypatch.setattr(os, "pwritev", short)
    store.staged.write_later(0, b"ab", 1)
    await store.write(2, b"cd")
    await store.behind.finish()
    assert store.staged.read(0, 4) == b"abcd"
