"""How much of a file or tree is on this disk, and freeing it.

Both walk the tree in a thread, from a connection of its own. Content that is here under several
names counts for each of them; freed it is for all.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from dbxfs.core.pins import percent
from dbxfs.store.inode import Content, Effect
from dbxfs.store.pinned import RESERVE, PinningCache
from dbxfs.store.pins import FileBelow, files_below, unsent_contents

from .version import Version

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """What is here of a file or a tree."""

    files: int
    size: int
    """Bytes."""
    cached: int
    """Bytes that can be read without network."""

    @property
    def percent(self) -> int:
        """100 only when all is here."""
        return percent(self.cached, self.size)


class Holdings:
    """Measures and frees what is cached, by inode."""

    def __init__(
        self,
        cache: PinningCache,
        on_effects: Callable[[list[Effect]], None],
        database: Path,
    ) -> None:
        """`on_effects` makes the kernel drop its pages; `database`: the tree's file."""
        self._cache = cache
        self._on_effects = on_effects
        self._database = database

    async def measure(self, ino: int) -> Held:
        """Of a file, or of all files in a folder; without online documents."""
        return await trio.to_thread.run_sync(self._measure, ino)

    async def check_room(self, ino: int) -> None:
        """Whether the disk has room for what is missing of it; OSError(ENOSPC) where not."""
        held = await self.measure(ino)
        missing = held.size - held.cached
        room = await trio.to_thread.run_sync(self._cache.room)
        if missing > room:
            raise OSError(
                errno.ENOSPC,
                f"{missing / 1e6:.1f} MB are still to be fetched, and the disk has room"
                f" for {room / 1e6:.1f} MB of pinned contents ({RESERVE >> 20} MiB are left free)",
            )

    async def evict(self, ino: int) -> int:
        """Free what is cached of a file or a folder's files; bytes.

        Left are pinned contents, and those that unsent changes are made from.
        """
        freed, inodes = await trio.to_thread.run_sync(self._evict, ino)
        self._on_effects([Content(number) for number in inodes])
        return freed

    def _measure(self, ino: int) -> Held:
        files = files_below(self._database, ino)
        cached = sum(map(self._cached, files))
        return Held(len(files), sum(file.size for file in files), cached)

    def _cached(self, file: FileBelow) -> int:
        if file.staged:
            whole = not file.unwritten or self._lies_whole(file)
            return file.size if whole else file.size - file.unwritten
        if file.rev is None:
            return file.size
        base = Version(file.rev, file.hash, file.base_size or 0)
        return min(file.size, self._cache.cached(base.key, base.size))

    def _lies_whole(self, file: FileBelow) -> bool:
        """Whether all of what unsent changes were made from is here."""
        assert file.from_rev is not None  # noqa: S101
        base = Version(file.from_rev, file.from_hash, file.from_size or 0)
        return self._cache.cached(base.key, base.size) >= base.size

    def _evict(self, ino: int) -> tuple[int, list[int]]:
        """Bytes freed, and the inodes that had them."""
        spared = {Version(*unsent, 0).key for unsent in unsent_contents(self._database)}
        spared |= set(versions_of(files_below(self._database)))
        files = files_below(self._database, ino)
        evicted = {
            key: self._cache.evict(key, version.size)
            for key, version in versions_of(files).items()
            if key not in spared
        }
        inodes = [file.ino for file in files if not evicted.keys().isdisjoint(versions_of([file]))]
        return sum(evicted.values()), inodes


def versions_of(files: Iterable[FileBelow]) -> dict[str, Version]:
    """The contents that files have on Dropbox, or lie upon."""
    versions = (Version(*content) for file in files for content in file.contents)
    return {version.key: version for version in versions}
