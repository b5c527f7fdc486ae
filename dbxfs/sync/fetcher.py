"""Reading what Dropbox has: blocks by revision, one flight a block, shared by all who wait.

A read looks in memory, among the flights under way, in the disk cache, and only then asks
Dropbox, for one range that covers what is missing plus what `core.readahead` adds. Flights belong
to the nursery that was given, not to the reader: a reader that is interrupted leaves without
disturbing the others.

Reading by `rev:` shows one version to the end, whatever happens to the file meanwhile. A
connection that breaks goes on at the block where it stopped.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import DropboxError, ServerTrouble, Unreachable
from dbxfs.core import readahead
from dbxfs.core.backoff import delay
from dbxfs.core.content_hash import content_hash
from dbxfs.core.model import RemotePath, Rev
from dbxfs.store.blocks import BLOCK, BlockCache

log = logging.getLogger(__name__)

MEMORY_BLOCKS = 96
PATTERNS = 64
ATTEMPTS = 4
GIVEN_UP_FOR = 2.0
"""Seconds in which a read that failed after all attempts fails again without any."""
OUTAGE = 15.0
"""Seconds without a block after which a failed read is not tried again: programs wait."""


class DamagedContentError(Exception):
    """What came does not have the hash that Dropbox names for it, time after time."""


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable content: what a revision holds."""

    rev: Rev
    hash: str | None
    size: int

    @property
    def key(self) -> str:
        """The name of its blocks in the cache: by content where Dropbox tells it."""
        return self.hash or f"rev-{self.rev}"

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return -(-self.size // BLOCK)


class _Flight:
    """A block under way."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.data: bytes | None = None
        self.error: Exception | None = None

    def land(self, data: bytes) -> None:
        self.data = data
        self.landed.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.landed.set()

    async def wait(self) -> bytes:
        await self.landed.wait()
        if self.data is None:
            assert self.error is not None  # noqa: S101
            raise self.error
        return self.data


class Fetcher:
    """Reads versions of files through memory, the disk cache and Dropbox."""

    def __init__(self, client: Client, cache: BlockCache, nursery: trio.Nursery) -> None:
        self._client = client
        self._cache = cache
        self._nursery = nursery
        self._memory: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._flights: dict[tuple[str, int], _Flight] = {}
        self._patterns: OrderedDict[str, readahead.Pattern] = OrderedDict()
        self._given_up: OrderedDict[str, tuple[float, Exception]] = OrderedDict()

    async def read(self, version: Version, offset: int, length: int) -> bytes:
        """The bytes of [offset, offset + length), less where the file ends.

        Raises `DropboxError` when they cannot be had, `DamagedContentError` when they are wrong.
        """
        end = min(offset + length, version.size)
        if end <= offset:
            return b""
        first, last = offset // BLOCK, (end - 1) // BLOCK
        blocks = await self._blocks(version, first, last)
        if first == last:
            return blocks[0][offset - first * BLOCK : end - first * BLOCK]
        return b"".join(blocks)[offset - first * BLOCK : end - first * BLOCK]

    async def _blocks(self, version: Version, first: int, last: int) -> list[bytes]:
        ahead = self._advance(version, first, last)
        asked = range(first, last + 1)
        found = await self._cached(version, asked)
        if len(found) < len(asked):
            self._check_given_up(version)
        self._launch(version, [*(b for b in asked if b not in found), *ahead])
        # All at once: what is in memory now may be pushed out while the first is waited for.
        flights = [found[b] if b in found else self._coming(version, b) for b in asked]
        return [flight if isinstance(flight, bytes) else await flight.wait() for flight in flights]

    def forget(self, key: str) -> None:
        """Drop what is in memory of a version's blocks: they are not what they should be."""
        for place in [place for place in self._memory if place[0] == key]:
            del self._memory[place]

    def _coming(self, version: Version, block: int) -> bytes | _Flight:
        place = (version.key, block)
        return self._flights.get(place) or self._memory[place]

    def _advance(self, version: Version, first: int, last: int) -> Iterable[int]:
        pattern, ahead = readahead.advance(
            self._patterns.get(version.key), first, last, version.blocks
        )
        self._patterns[version.key] = pattern
        self._patterns.move_to_end(version.key)
        if len(self._patterns) > PATTERNS:
            self._patterns.popitem(last=False)
        return ahead

    async def _cached(self, version: Version, blocks: Iterable[int]) -> dict[int, bytes]:
        """Those that are here: in memory, or in the disk cache."""
        found: dict[int, bytes] = {}
        elsewhere = []
        for block in blocks:
            data = self._memory.get((version.key, block))
            if data is not None:
                self._memory.move_to_end((version.key, block))
                found[block] = data
            elif (version.key, block) not in self._flights:
                elsewhere.append(block)
        on_disk = await self._on_disk(version, elsewhere)
        for block, data in on_disk.items():
            self._remember(version.key, block, data)
        return found | on_disk

    async def _on_disk(self, version: Version, blocks: list[int]) -> dict[int, bytes]:
        """Those that the disk cache has."""
        if not blocks:
            return {}
        key = version.key
        values = await trio.to_thread.run_sync(lambda: [self._cache.get(key, b) for b in blocks])
        return {
            block: bytes(value)
            for block, value in zip(blocks, values, strict=True)
            if value is not None and len(value) == self._length(version, block)
        }

    def _launch(self, version: Version, blocks: list[int]) -> None:
        """Start flights for the blocks that are neither here nor under way, a run at a time."""
        run: list[int] = []
        for block in blocks:
            place = (version.key, block)
            if place in self._flights or place in self._memory:
                continue
            self._flights[place] = _Flight()
            if run and block != run[-1] + 1:
                self._nursery.start_soon(self._fly, version, run)
                run = []
            run.append(block)
        if run:
            self._nursery.start_soon(self._fly, version, run)

    async def _fly(self, version: Version, run: list[int]) -> None:
        """Bring a run of blocks, whatever it takes; land or fail every flight of it."""
        left = list(run)
        try:
            await self._land_cached(version, left)
            for attempt in range(ATTEMPTS):
                landed = trio.current_time()
                try:
                    while left:
                        await self._fetch(version, left)
                        landed = trio.current_time()
                except (Unreachable, ServerTrouble, DamagedContentError) as error:
                    if attempt == ATTEMPTS - 1 or trio.current_time() - landed > OUTAGE:
                        raise
                    log.debug("a read of %s is tried again: %s", version.rev, error)
                    pause = delay(attempt, base=0.2, cap=3, random=random.random())  # noqa: S311
                    await trio.sleep(pause)
                else:
                    return
        except (DropboxError, DamagedContentError) as error:
            self._given_up[version.key] = (trio.current_time(), error)
            if len(self._given_up) > PATTERNS:
                self._given_up.popitem(last=False)
            for block in left:
                self._flights.pop((version.key, block)).fail(error)
        except BaseException:
            for block in left:
                self._flights.pop((version.key, block)).fail(
                    Unreachable("the mount is ending", doubt=False)
                )
            raise

    def _check_given_up(self, version: Version) -> None:
        """A read whose read-ahead failed is asked for again by the kernel, at once, in vain."""
        since, error = self._given_up.get(version.key, (-math.inf, None))
        if error is None:
            return
        if trio.current_time() - since < GIVEN_UP_FOR:
            raise error
        del self._given_up[version.key]

    async def _land_cached(self, version: Version, left: list[int]) -> None:
        """Take from the disk cache what was read ahead of the reader, who did not look there."""
        for block, data in (await self._on_disk(version, left)).items():
            left.remove(block)
            self._remember(version.key, block, data)
            self._flights.pop((version.key, block)).land(data)

    async def _fetch(self, version: Version, left: list[int]) -> None:
        """One request for the first run of `left`; takes out of it what has landed."""
        last = next((b for b, c in itertools.pairwise(left) if c != b + 1), left[-1])
        start = left[0] * BLOCK
        end = min((last + 1) * BLOCK, version.size)
        buffer = bytearray()
        reference = RemotePath(f"rev:{version.rev}")
        async with self._client.download(reference, start=start, length=end - start) as body:
            async for chunk in body:
                buffer += chunk
                while (
                    left
                    and left[0] <= last
                    and len(buffer) >= (size := self._length(version, left[0]))
                ):
                    data = bytes(memoryview(buffer)[:size])
                    del buffer[:size]
                    await self._verify(version, data)
                    await self._land(version, left.pop(0), data)
        if left and left[0] <= last:
            raise Unreachable("the download ended early", doubt=False)

    async def _verify(self, version: Version, data: bytes) -> None:
        if version.blocks != 1 or version.hash is None:
            return
        if await trio.to_thread.run_sync(content_hash, data) != version.hash:
            raise DamagedContentError(f"revision {version.rev} arrived with another content hash")

    async def _land(self, version: Version, block: int, data: bytes) -> None:
        self._remember(version.key, block, data)
        self._flights.pop((version.key, block)).land(data)
        await trio.to_thread.run_sync(self._cache.put, version.key, block, data)

    def _remember(self, key: str, block: int, data: bytes) -> None:
        self._memory[key, block] = data
        self._memory.move_to_end((key, block))
        if len(self._memory) > MEMORY_BLOCKS:
            self._memory.popitem(last=False)

    @staticmethod
    def _length(version: Version, block: int) -> int:
        return min(BLOCK, version.size - block * BLOCK)
