"""The task that keeps pinned contents here: what it fetches, what it drops, how it fails."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from dbxfs.api.errors import EndpointError, Unreachable
from dbxfs.core.content_hash import content_hash
from dbxfs.store.blocks import BLOCK
from dbxfs.store.database import Database
from dbxfs.store.inode import FILE, ROOT_INO
from dbxfs.store.pinned import PinningCache
from dbxfs.store.pins import Pins
from dbxfs.store.tree import Tree
from dbxfs.sync import pinner as module
from dbxfs.sync.pinner import Pinner, Totals
from dbxfs.sync.switch import Switch
from dbxfs.sync.version import Version


class World:
    """A tree, its pins, and a fetcher whose answers a test decides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pinned").mkdir()
        self.tree = Tree(Database(folder / "tree.db"), lambda: 1)
        self.cache = PinningCache(folder, 1 << 30, folder / "pinned")
        self.pins = Pins(self.tree)
        self.contents: dict[str, bytes] = {}
        self.errors: dict[str, Exception] = {}
        self.reads: list[tuple[str, int]] = []
        self.at_once = self.most_at_once = 0
        self.gate = trio.Event()
        self.gate.set()
        path = self.tree.database.path
        self.switch = Switch(self.tree.database)
        self.pinner = Pinner(self.pins, self.cache, self.read, path, self.switch)
        self.tree.on_change = self.pinner.wake

    def add(self, name: str, data: bytes) -> int:
        """A file that Dropbox has."""
        self.contents[f"rev{name}"] = data
        return self.tree.insert(
            parent=ROOT_INO,
            name=name,
            key=name,
            kind=FILE,
            mtime_ns=0,
            ctime_ns=0,
            size=len(data),
            base_size=len(data),
            rev=f"rev{name}",
            hash=content_hash(data),
        )

    async def read(self, version: Version, offset: int, length: int) -> bytes:
        """The fetcher's."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            await trio.lowlevel.checkpoint()
            self.reads.append((version.rev, offset))
            if version.rev in self.errors:
                raise self.errors[version.rev]
            return self.contents[version.rev][offset : offset + length]
        finally:
            self.at_once -= 1

    async def complete(self) -> None:
        """Wait until all that is pinned is here."""
        await self.until(lambda totals: totals.missing == 0)

    async def until(self, condition: Callable[[Totals], bool]) -> None:
        """Wait until it is true of what is told of the pins."""
        with trio.fail_after(10):
            while not condition(await self.pinner.totals()):  # noqa: ASYNC110
                await trio.sleep(0.01)

    def close(self) -> None:
        self.cache.close()
        self.tree.database.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "SETTLE", 0.01)
    monkeypatch.setattr(module, "RETRY_BASE", 0.05)
    monkeypatch.setattr(module, "RETRY_CAP", 0.05)
    return World(tmp_path)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.pinner.run)
        yield
        nursery.cancel_scope.cancel()
    world.close()


async def test_a_pinned_tree_is_fetched_with_a_few_reads_at_once(world: World) -> None:
    for number in range(12):
        world.add(str(number), bytes([number]) * (BLOCK + 10))
    async with running(world):
        world.pins.add(ROOT_INO)
        await world.complete()
        assert world.most_at_once <= module.AT_ONCE
        assert len(world.reads) == 24
        totals = await world.pinner.totals()
        assert (totals.files, totals.size) == (12, 12 * (BLOCK + 10))


async def test_blocks_that_are_here_are_not_read_again(world: World) -> None:
    data = os.urandom(3 * BLOCK)
    ino = world.add("f", data)
    world.cache.keep_block(content_hash(data), 1, data[BLOCK : 2 * BLOCK])
    async with running(world):
        world.pins.add(ino)
        await world.complete()
        assert sorted(world.reads) == [("revf", 0), ("revf", 2 * BLOCK)]


async def test_what_is_not_pinned_any_more_is_dropped_also_while_it_comes(world: World) -> None:
    data = os.urandom(3 * BLOCK)
    ino = world.add("f", data)
    async with running(world):
        world.gate = trio.Event()
        world.pins.add(ino)
        await world.until(lambda _: world.at_once == 1)
        world.pins.remove(ino)
        await world.until(lambda _: not world.cache.kept)
        world.gate.set()
        await world.until(lambda _: not world.at_once and not world.cache.pinned.counts())
        assert len(world.reads) == 1


async def test_offline_it_waits_and_goes_on(world: World) -> None:
    ino = world.add("f", b"data")
    world.errors["revf"] = Unreachable("no network", doubt=False)
    async with running(world):
        world.pins.add(ino)
        await world.until(lambda totals: totals.trouble is not None)
        world.errors.clear()
        world.pinner.hurry()
        await world.complete()
        assert (await world.pinner.totals()).trouble is None


async def test_a_content_that_cannot_be_had_does_not_hold_up_the_others(world: World) -> None:
    world.errors["reva"] = EndpointError(("path", "not_found"), "")
    world.add("a", b"never")
    for name in "bcdefgh":
        world.add(name, name.encode())
    async with running(world):
        world.pins.add(ROOT_INO)
        await world.until(lambda totals: totals.missing == 5)
        world.errors.clear()
        await world.complete()


async def test_content_that_is_not_what_its_hash_says_is_dropped_and_fetched_again(
    world: World,
) -> None:
    ino = world.add("f", b"right")
    world.contents["revf"] = b"wrong"
    async with running(world):
        world.pins.add(ino)
        await world.until(lambda totals: totals.trouble is not None)
        assert world.cache.pinned.counts() == {}
        world.contents["revf"] = b"right"
        await world.complete()
        assert world.cache.get(content_hash(b"right"), 0) == b"right"


async def test_a_full_disk_is_told_and_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ino = world.add("f", b"data")
    monkeypatch.setattr("dbxfs.store.pinned.RESERVE", 1 << 62)
    async with running(world):
        world.pins.add(ino)
        await world.until(lambda totals: "no room" in (totals.trouble or ""))
        monkeypatch.setattr("dbxfs.store.pinned.RESERVE", 0)
        await world.complete()


async def test_nothing_is_fetched_while_transfers_are_paused(world: World) -> None:
    world.switch.turn(paused=True)
    world.pins.add(world.add("pinned", b"content"))
    async with running(world):
        await world.until(lambda totals: totals.files == 1)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert world.reads == []
        world.switch.turn(paused=False)
        await world.complete()
    assert world.reads == [("revpinned", 0)]
