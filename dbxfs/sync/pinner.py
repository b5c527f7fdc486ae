"""Keeps what is pinned complete and current, behind everything that a program waits for.

Whenever the tree or the pins have changed, and now and then, a *look* compares the contents that
pinned files have now with those that are kept (`core.pins.plan`): what nobody wants any more is
dropped, what is missing is queued. A few workers fetch what is queued, content by content. Looks
read the database in a thread and take at most a tenth of the time, however large a pinned tree is.

A worker reads through the fetcher, so what is cached already moves without a request, and a
program that reads the same file shares the flights. When all blocks are there the content is
checked against its hash.

Nothing but the pins themselves is remembered over a restart. A failure that concerns Dropbox as a
whole stops all work for a while, one that concerns a content puts off that one; after either, the
next look queues it again.
"""

from __future__ import annotations

import logging
import math
import random
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from dbxfs.api.errors import DropboxError, EndpointError
from dbxfs.core import pins as core
from dbxfs.core.backoff import delay
from dbxfs.core.content_hash import ContentHasher
from dbxfs.store.blocks import BLOCK
from dbxfs.store.pinned import PinningCache
from dbxfs.store.pins import FileBelow, Pins, files_below

from .fetcher import DamagedContentError
from .holdings import versions_of
from .switch import Switch
from .version import Version

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Contents that are fetched at the same time."""
SETTLE = 0.3
"""Seconds after a change before a look: what comes together is looked at once."""
REST = 10
"""How many times as long as a look took there is none."""
NOW_AND_THEN = 600.0
RETRY_BASE, RETRY_CAP = 2.0, 120.0
"""Seconds, of the pauses after failures."""

Read = Callable[[Version, int, int], Awaitable[bytes]]
"""Bytes of a version: offset, length."""


class NoRoomError(Exception):
    """The disk has no room for pinned contents."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What is pinned, for people."""

    files: int
    size: int
    """Bytes."""
    missing: int
    """Bytes that are still to be fetched, to the block."""
    trouble: str | None
    """Why that does not get on at the moment."""


@dataclass(frozen=True, slots=True)
class _Survey:
    """One look: the pinned files, their contents, and what is to be done."""

    files: list[FileBelow]
    versions: dict[str, Version]
    plan: core.PinPlan


class Pinner:
    """Fetches and drops pinned contents of one mount."""

    def __init__(
        self,
        pins: Pins,
        cache: PinningCache,
        read: Read,
        database: Path,
        switch: Switch,
    ) -> None:
        """`read`: the fetcher's `read_behind`; `database`: the file that the tree is in."""
        self._pins = pins
        self._cache = cache
        self._read = read
        self._database = database
        self._switch = switch
        self._changed = trio.Event()
        self._queued = trio.Event()
        self._queue: dict[str, Version] = {}
        self._under_way: set[str] = set()
        self._failures = 0
        self._resume = self._looked = -math.inf
        self._put_off: dict[str, tuple[int, float]] = {}
        self._trouble: str | None = None

    def wake(self) -> None:
        """The tree or the pins have changed. Cheap, and safe within a transaction."""
        self._changed.set()

    def hurry(self) -> None:
        """Dropbox answers again: what failed need not wait for its time."""
        self._failures, self._resume = 0, -math.inf
        self._put_off.clear()
        self.wake()

    async def run(self) -> None:
        """Look and fetch for ever."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._work)
            while True:
                began = trio.current_time()
                try:
                    await self._look()
                except (sqlite3.Error, OSError) as error:
                    log.warning("what is pinned cannot be looked at: %s", error)
                await trio.sleep(REST * (trio.current_time() - began))
                with trio.move_on_at(self._next_look()):
                    await self._changed.wait()
                    await trio.sleep(SETTLE)
                self._changed = trio.Event()

    async def totals(self) -> Totals:
        """How much is pinned and here, as of now."""
        if not self._pins.any():
            return Totals(0, 0, 0, None)
        survey = await trio.to_thread.run_sync(self._survey)
        size = sum(file.size for file in survey.files)
        trouble = self._trouble if survey.plan.missing else None
        return Totals(len(survey.files), size, survey.plan.missing, trouble)

    # ---- Looking ----

    async def _look(self) -> None:
        if not self._cache.kept and not self._pins.any():
            return
        survey = await trio.to_thread.run_sync(self._survey)
        self._cache.kept = frozenset(survey.versions)
        for content in survey.plan.drop:
            await trio.to_thread.run_sync(self._cache.pinned.forget, content)
        now = self._looked = trio.current_time()
        self._put_off = {
            content: put_off
            for content, put_off in self._put_off.items()
            if content in survey.versions
        }
        if now < self._resume:
            return
        self._queue = {
            content: survey.versions[content]
            for content in survey.plan.fetch
            if content not in self._under_way and self._put_off.get(content, (0, now))[1] <= now
        }
        self._queued.set()

    def _survey(self) -> _Survey:
        """Blocks. What is kept is read first: a content comes after the file that has it."""
        held = self._cache.pinned.counts()
        files = files_below(self._database)
        versions = versions_of(files)
        wanted = {key: version.size for key, version in versions.items()}
        return _Survey(files, versions, core.plan(wanted, held, BLOCK))

    def _next_look(self) -> float:
        now = trio.current_time()
        waiting = self._put_off.keys() - self._queue.keys() - self._under_way
        times = [self._put_off[content][1] for content in waiting]
        if self._resume > self._looked:
            times.append(self._resume)
        return max(min([now + NOW_AND_THEN, *times]), now + SETTLE)

    # ---- Fetching ----

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._queued = trio.Event() if self._queued.is_set() else self._queued
                await self._queued.wait()
            if self._switch.paused:
                await self._switch.wait_open()
                continue
            content = next(iter(self._queue))
            version = self._queue.pop(content)
            self._under_way.add(content)
            try:
                await self._complete(version)
            except (DropboxError, DamagedContentError, NoRoomError, OSError) as error:
                self._note_failure(content, error)
            else:
                self._failures, self._trouble = 0, None
                self._put_off.pop(content, None)
            finally:
                self._under_way.discard(content)
            if content not in self._cache.kept:
                # Unpinned while a block of it came.
                await trio.to_thread.run_sync(self._cache.pinned.forget, content)

    def _note_failure(self, content: str, error: Exception) -> None:
        trouble = str(error)
        if trouble != self._trouble:
            log.info("pinned content cannot be fetched: %s", trouble)
        self._trouble = trouble
        now = trio.current_time()
        if isinstance(error, EndpointError | DamagedContentError):
            failures, _ = self._put_off.get(content, (0, now))
            self._put_off[content] = (failures + 1, now + _pause(failures))
        else:
            self._queue.clear()
            self._resume = now + _pause(self._failures)
            self._failures += 1
        # The pause before the next look is computed anew.
        self.wake()

    async def _complete(self, version: Version) -> None:
        """Bring all blocks of a version among the pinned ones, unless it is unpinned meanwhile."""
        content = version.key
        hasher = ContentHasher()
        for block in range(version.blocks):
            if content not in self._cache.kept:
                return
            if not await trio.to_thread.run_sync(self._take_kept, content, block, hasher):
                data = await self._read(version, block * BLOCK, BLOCK)
                if not await trio.to_thread.run_sync(self._keep, content, block, data, hasher):
                    raise NoRoomError("the disk has no room for pinned contents")
        if version.hash is not None and hasher.hexdigest() != version.hash:
            await trio.to_thread.run_sync(self._cache.forget, content)
            raise DamagedContentError(f"revision {version.rev} arrived with another content hash")
        await trio.to_thread.run_sync(self._cache.evict, content, version.size)

    def _take_kept(self, content: str, block: int, hasher: ContentHasher) -> bool:
        data = self._cache.pinned.get(content, block)
        if data is None:
            return False
        hasher.update(data)
        return True

    def _keep(self, content: str, block: int, data: bytes, hasher: ContentHasher) -> bool:
        hasher.update(data)
        return self._cache.keep_block(content, block, data)


def _pause(failures: int) -> float:
    """Seconds; never next to nothing."""
    return RETRY_BASE / 2 + delay(
        failures,
        base=RETRY_BASE,
        cap=RETRY_CAP,
        random=random.random(),  # noqa: S311
    )
