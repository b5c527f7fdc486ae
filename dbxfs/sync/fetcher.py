"""Reading what Dropbox has: by revision, in ranges that go side by side and are shared by all.

A read looks at its blocks in memory; what is neither there nor on its way is looked for in the
disk cache, and what is not there either is fetched. What else to fetch, `core.readahead` says.
Flights belong to the nursery that was given, not to the reader: a reader that is interrupted
leaves without disturbing the others.

* Reading by `rev:` shows one version to the end, whatever happens to the file meanwhile.
* A connection that breaks, or brings nothing for a while, goes on at that byte on another one. A
  reader whose bytes are slow to come gets a second connection for just those.
* A small file is held against its content hash before anything of it is given out; a large one when
  the last of its blocks has come. What is wrong is fetched again once.
* What is needed now goes before what may be needed: reading ahead has fewer connections than the
  lane, and a budget of bytes that all readers share.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import random
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import DropboxError, ServerTrouble, Unreachable
from dbxfs.core import readahead
from dbxfs.core.backoff import delay
from dbxfs.core.model import RemotePath
from dbxfs.core.recent import keep_recent
from dbxfs.store.blocks import BLOCK, UNIT, BlockCache

from .memory import Block, Memory
from .proofs import GROUP, Proofs
from .version import Version

log = logging.getLogger(__name__)

MEMORY = 64 * 1024 * 1024
AHEAD = 32 * 1024 * 1024
"""Bytes that may be kept ahead of all readers together."""
AHEAD_CONNECTIONS = 10
LATELY = 32
"""Large files whose copies are looked out for."""
READERS = 64
LIVELY = 2.0
"""Seconds since his last read in which a reader counts."""
ATTEMPTS = 4
GIVEN_UP_FOR = 2.0
"""Seconds in which a read that failed after all attempts fails again without any."""
OUTAGE = 15.0
"""Seconds without a byte after which a failed read is not tried again: programs wait."""
STALLED = 5.0
"""Seconds without a byte after which a connection is given up."""
SLOW = 1.5
"""Seconds that a reader waits for bytes that are on their way before he gets them another way."""
RATE = 50e6
"""Bytes a second that a link is taken for before it was seen."""
QUIET = 0.5
"""Seconds since a program last waited after which nobody reads, as far as can be told."""
BEHIND_WAITS = 30.0
"""Seconds after which a read in the background is made all the same."""

_Wanted = tuple[int, Block, int]
"""A block's number, the block, and the units of it that are to come."""


_BEHIND = object()
"""The reader for whom nobody waits."""


class DamagedContentError(Exception):
    """What came does not have the hash that Dropbox names for it, time after time."""


@dataclass(slots=True)
class _Reader:
    """Somebody who reads a file, and how."""

    pattern: readahead.Pattern | None = None
    seen: float = -math.inf
    waited: float = 0.0
    """Seconds that he has waited since he began to jump about."""


class Fetcher:
    """Reads versions of files through memory, the disk cache and Dropbox."""

    def __init__(self, client: Client, cache: BlockCache, nursery: trio.Nursery) -> None:
        self._client = client
        self._cache = cache
        self._nursery = nursery
        self._memory = Memory(MEMORY)
        self._readers: OrderedDict[Hashable, _Reader] = OrderedDict()
        self._given_up: OrderedDict[str, tuple[float, Exception]] = OrderedDict()
        self._proofs = Proofs(self._memory, cache, self._refuse)
        self._lately: OrderedDict[str, Version] = OrderedDict()
        self._ahead = trio.CapacityLimiter(AHEAD_CONNECTIONS)
        self._rate = RATE
        self._waiting = 0
        self._waited = -math.inf

    # ---- Reading ----

    async def read(
        self, version: Version, offset: int, length: int, reader: Hashable = None
    ) -> bytes:
        """The bytes of [offset, offset + length), less where the file ends.

        `reader`: who reads, so that his way of reading can be told from others'. Raises
        `DropboxError` when they cannot be had, `DamagedContentError` when they are wrong.
        """
        end = min(offset + length, version.size)
        if end <= offset:
            return b""
        if offset == 0:
            self.note(version)
        who = self._reader(version.key if reader is None else (version.key, reader))
        ranges = self._advance(who, version, offset, end)
        numbers = range(offset // BLOCK, (end - 1) // BLOCK + 1)
        blocks = [self._memory.block(version.key, n, version.size) for n in numbers]
        missing = any(block.mask(offset, end) & ~block.have for block in blocks)
        if missing:
            self._check_given_up(version)
            self._bring(version, offset, end)
        for start, stop in ranges:
            self._bring_ahead(version, start, stop)
        began = trio.current_time()
        with self._counted(missing and reader is not _BEHIND):
            blocks = [await self._wait(version, block, offset, end) for block in blocks]
        self._note_wait(who, version, trio.current_time() - began)
        return b"".join(block.take(offset, end) for block in blocks)

    async def read_behind(self, version: Version, offset: int, length: int) -> bytes:
        """As `read`, in the background: after what programs wait for."""
        with trio.move_on_after(BEHIND_WAITS):
            # No event: the quiet begins again with each wait, thousands of times a second.
            while self._waiting or self._waited + QUIET > trio.current_time():  # noqa: ASYNC110
                await trio.sleep(QUIET / 5)
        return await self.read(version, offset, length, _BEHIND)

    @contextlib.contextmanager
    def _counted(self, waits: bool) -> Iterator[None]:
        self._waiting += waits
        try:
            yield
        finally:
            if waits:
                self._waiting -= 1
                self._waited = trio.current_time()

    async def prefetch(self, version: Version) -> None:
        """Have a small file come whole; returns when it has, or cannot be had."""
        wanted = self._claim(version, 0, version.size)
        for start, end in await self._load(version, wanted):
            await self._fly(version, start, end)

    def note(self, version: Version) -> None:
        """It was read or sent just now: a copy of it may be made next. Small ones do not matter."""
        if version.blocks > GROUP:
            keep_recent(self._lately, version.key, version, LATELY)

    async def begins_something(self, digest: bytes) -> bool:
        """Whether it is the SHA-256 of the first 4 MiB of something that was noted."""
        lately = reversed(list(self._lately.values()))
        beginnings = [self._proofs.digest(version, range(GROUP)) for version in lately]
        return await trio.to_thread.run_sync(lambda: any(each() == digest for each in beginnings))

    def forget(self, reader: Hashable) -> None:
        """The reader will not come again."""
        for key in [key for key in self._readers if isinstance(key, tuple) and key[1] == reader]:
            del self._readers[key]

    def drop(self, content: str) -> None:
        """Let go what is in memory of a content: it was wrong."""
        self._memory.forget(content)
        self._proofs.forget(content)

    async def keep(self) -> None:
        """Put what is only in memory into the disk cache: the daemon ends."""
        for content, block in self._memory.unsaved():
            await trio.to_thread.run_sync(self._save, content, block)

    def _reader(self, key: Hashable) -> _Reader:
        return keep_recent(self._readers, key, self._readers.get(key) or _Reader(), READERS)

    def _advance(
        self, who: _Reader, version: Version, start: int, end: int
    ) -> list[readahead.Range]:
        now = trio.current_time()
        who.seen = now
        lively = sum(now - other.seen < LIVELY for other in self._readers.values())
        limit = max(readahead.LARGEST_PIECE, AHEAD // max(1, lively))
        who.pattern, ranges = readahead.advance(who.pattern, start, end, version.size, limit)
        return ranges

    def _note_wait(self, who: _Reader, version: Version, seconds: float) -> None:
        """A reader who jumps about and waits long enough gets the whole file."""
        if who.pattern is None or not who.pattern.jumps:
            who.waited = 0.0
            return
        who.waited += seconds
        if readahead.fill_pays(who.waited, version.size, self._rate):
            who.waited = -math.inf
            self._bring_ahead(version, 0, version.size)

    async def _wait(self, version: Version, block: Block, start: int, end: int) -> Block:
        """Return when a block has all of the range; it may have been let go and made anew."""
        need, raced = block.mask(start, end), False
        while need & ~block.have:
            if need & ~block.have & ~block.coming:
                if block.error is not None:
                    raise block.error
                self._bring(version, start, end)
                block = self._memory.block(version.key, block.start // BLOCK, version.size)
                continue
            changed = block.changed
            with trio.move_on_after(math.inf if raced else SLOW) as patience:
                await changed.wait()
            if patience.cancelled_caught:
                raced = True
                first, last = _aligned(max(start, block.start), min(end, block.end), version)
                self._nursery.start_soon(self._fly, version, first, last)
        return block

    def _check_given_up(self, version: Version) -> None:
        """A read whose read-ahead failed is asked for again by the kernel, at once, in vain."""
        if self._proofs.is_damaged(version):
            raise DamagedContentError(f"what Dropbox sends as revision {version.rev} is damaged")
        since, error = self._given_up.get(version.key, (-math.inf, None))
        if error is None:
            return
        if trio.current_time() - since < GIVEN_UP_FOR:
            raise error
        del self._given_up[version.key]

    # ---- From the disk, or else from Dropbox ----

    def _bring(self, version: Version, start: int, end: int) -> None:
        """Have all of [start, end) come that is neither here nor on its way, at once."""
        wanted = self._claim(version, start, end)
        if wanted:
            self._nursery.start_soon(self._bring_now, version, wanted)

    async def _bring_now(self, version: Version, wanted: list[_Wanted]) -> None:
        for start, end in await self._load(version, wanted):
            self._nursery.start_soon(self._fly, version, start, end)

    def _bring_ahead(self, version: Version, start: int, end: int) -> None:
        """Have it come when there is a connection for it."""
        for piece in readahead.pieces(start, end):
            self._nursery.start_soon(self._bring_piece, version, *piece)

    async def _bring_piece(self, version: Version, start: int, end: int) -> None:
        async with self._ahead:
            # Not before: what waits here must not keep a reader from asking for it himself.
            for first, last in await self._load(version, self._claim(version, start, end)):
                await self._fly(version, first, last)

    def _claim(self, version: Version, start: int, end: int) -> list[_Wanted]:
        """What of a range is neither here nor on its way; from now on it is."""
        start, end = _aligned(start, end, version)
        wanted = []
        for number in range(start // BLOCK, (end - 1) // BLOCK + 1):
            block = self._memory.block(version.key, number, version.size)
            missing = block.mask(start, end) & ~block.have & ~block.coming
            if missing:
                block.coming |= missing
                block.error = None
                wanted.append((number, block, missing))
        return wanted

    async def _load(self, version: Version, wanted: list[_Wanted]) -> list[readahead.Range]:
        """Take from the disk what it has; gives the ranges that are to be fetched."""
        runs: list[readahead.Range] = []
        for number, block, mask in wanted:
            try:
                found = await trio.to_thread.run_sync(self._look, version.key, number, block, mask)
                self._put_loaded(version, number, block, found)
            except Exception as error:
                log.exception("block %d of %s cannot be loaded", number, version.rev)
                block.coming &= ~mask
                block.error = error
                block.notify()
                continue
            for _, start, end in block.units(mask & ~block.have):
                if runs and runs[-1][1] == start:
                    runs[-1] = runs[-1][0], end
                else:
                    runs.append((start, end))
        return runs

    def _look(
        self, key: str, number: int, block: Block, mask: int
    ) -> memoryview | dict[int, memoryview]:
        """What the disk cache has: the whole block, or some of the wanted units. Blocks."""
        whole = self._cache.get(key, number)
        if whole is not None and len(whole) == len(block):
            return whole
        found = {}
        for unit, start, end in block.units(mask):
            view = self._cache.get_unit(key, unit)
            if view is not None and len(view) == end - start:
                found[unit] = view
        return found

    def _put_loaded(
        self,
        version: Version,
        number: int,
        block: Block,
        found: memoryview | dict[int, memoryview],
    ) -> None:
        if isinstance(found, memoryview):
            block.fill(found)
            self._proofs.loaded(version, number)
        elif found:
            for unit, view in found.items():
                block.put(unit * UNIT, view)
                mask = block.mask(unit * UNIT, unit * UNIT + 1)
                block.arrived |= mask
                block.have |= mask
                block.saved |= mask
                block.coming &= ~mask
            block.notify()
        self._trim()

    # ---- Flights ----

    async def _fly(self, version: Version, start: int, end: int) -> None:
        """Bring a range, whatever it takes, or tell all who wait for it that it does not come."""
        numbers = range(start // BLOCK, (end - 1) // BLOCK + 1)
        # Held here: what half a unit was put into must be there for its other half.
        held = {n: self._memory.block(version.key, n, version.size) for n in numbers}
        blocks = list(held.values())
        for block in blocks:
            block.flights += 1
        try:
            await self._persist(version, held, start, end)
        except (DropboxError, DamagedContentError) as error:
            keep_recent(self._given_up, version.key, (trio.current_time(), error), READERS)
            self._fail(blocks, start, end, error)
        except Exception as error:
            # A mistake of ours with one file must not end the mount for all.
            log.exception("bytes of %s cannot be had", version.rev)
            self._fail(blocks, start, end, error)
        except BaseException:
            self._fail(blocks, start, end, Unreachable("the mount is ending", doubt=False))
            raise
        finally:
            for block in blocks:
                block.flights -= 1
            self._trim()

    @staticmethod
    def _fail(blocks: list[Block], start: int, end: int, error: Exception) -> None:
        for block in blocks:
            block.coming &= ~block.mask(start, end)
            block.error = error
            block.notify()

    async def _persist(
        self, version: Version, blocks: dict[int, Block], start: int, end: int
    ) -> None:
        """Fetch a range over as many connections as it takes, one after the other."""
        at, progress = start, trio.current_time()
        failures = damages = 0
        while at < end:
            begun, before = trio.current_time(), at
            try:
                at = await self._fetch(version, blocks, at, end)
                self._note_rate(at - before, trio.current_time() - begun)
            except _BrokenError as broken:
                if broken.at > at:
                    failures, progress = 0, trio.current_time()
                at = broken.at
                damages += isinstance(broken.error, DamagedContentError)
                late = trio.current_time() - progress > OUTAGE
                if failures == ATTEMPTS - 1 or damages > 1 or late:
                    raise broken.error from None
                log.debug("a read of %s goes on at %d: %s", version.rev, at, broken.error)
                pause = delay(failures, base=0.2, cap=3, random=random.random())  # noqa: S311
                failures += 1
                await trio.sleep(pause)

    async def _fetch(self, version: Version, blocks: dict[int, Block], start: int, end: int) -> int:
        """One request; gives how far it came. Raises `_BrokenError`, `DropboxError`."""
        at = start
        reference = RemotePath(f"rev:{version.rev}")
        try:
            async with self._client.download(reference, start=start, length=end - start) as body:
                with trio.move_on_after(STALLED) as waiting:
                    async for chunk in body:
                        waiting.deadline = math.inf
                        at = await self._land(version, blocks, at, memoryview(chunk)[: end - at])
                        waiting.deadline = trio.current_time() + STALLED
                _check_all_came(at, end, stalled=waiting.cancelled_caught)
        except DamagedContentError as error:
            raise _BrokenError(error, 0) from error
        except (Unreachable, ServerTrouble) as error:
            raise _BrokenError(error, at) from error
        return at

    async def _land(
        self, version: Version, blocks: dict[int, Block], at: int, data: memoryview
    ) -> int:
        """Put bytes where they belong; gives where the next ones do."""
        while data:
            number = at // BLOCK
            block = blocks[number]
            length = block.put(at, data)
            # A flight begins at a unit, so all before this byte of its unit is here.
            arrived = block.whole(at - at % UNIT, at + length)
            at, data = at + length, data[length:]
            if arrived & ~block.arrived:
                await self._arrived(version, number, block, arrived)
        return at

    async def _arrived(self, version: Version, number: int, block: Block, units: int) -> None:
        block.arrived |= units
        if version.blocks == 1 and version.hash is not None:
            if block.arrived != block.full:
                return
            await self._verify_small(version, block)
            units = block.full
        block.have |= units
        block.coming &= ~units
        block.notify()
        if block.have == block.full and block.saved != block.full:
            await trio.to_thread.run_sync(self._save, version.key, block)
            await self._proofs.came(version, number)

    async def _verify_small(self, version: Version, block: Block) -> None:
        digest = await trio.to_thread.run_sync(_small_hash, block.data)
        if digest != version.hash:
            block.arrived = 0
            raise DamagedContentError(f"revision {version.rev} arrived with another content hash")

    def _note_rate(self, length: int, seconds: float) -> None:
        if length >= readahead.SMALLEST_PIECE and seconds > 0:
            flying = max(1, self._ahead.borrowed_tokens)
            self._rate += (length / seconds * flying - self._rate) / 8

    # ---- What has come ----

    def _save(self, content: str, block: Block) -> None:
        """Put into the disk cache what it does not have. Blocks."""
        if block.have == block.full:
            self._cache.put(content, block.start // BLOCK, block.data)
        else:
            for unit, start, end in block.units(block.have & ~block.saved):
                self._cache.put_unit(content, unit, block.take(start, end))
        block.saved = block.have

    def _trim(self) -> None:
        for content, block in self._memory.trim():
            self._nursery.start_soon(trio.to_thread.run_sync, self._save, content, block)

    def _refuse(self, version: Version) -> None:
        """What came of it was wrong: all of it goes, from memory and from the disk."""
        self.drop(version.key)
        self._nursery.start_soon(trio.to_thread.run_sync, self._cache.forget, version.key)


class _BrokenError(Exception):
    """A request failed in a way that may pass, when it had come to byte `at`."""

    def __init__(self, error: Exception, at: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.at = at


def _aligned(start: int, end: int, version: Version) -> readahead.Range:
    """The whole units around a range; a small file comes whole, so that it can be verified."""
    if version.blocks == 1:
        return 0, version.size
    return start - start % UNIT, min(version.size, -(-end // UNIT) * UNIT)


def _check_all_came(at: int, end: int, *, stalled: bool) -> None:
    if stalled:
        raise Unreachable("nothing came for a while", doubt=False)
    if at < end:
        raise Unreachable("the download ended early", doubt=False)


def _small_hash(data: bytes | bytearray | memoryview) -> str:
    """The content hash of at most one hashed block. Blocks."""
    return hashlib.sha256(hashlib.sha256(data).digest()).hexdigest()
