"""The block cache with a part beside it that nothing is evicted from: the contents that are pinned.

Two caches on disk, one with a limit and one without. So no order of use and no flood of reading can
push a pinned block out, and the limit of the other one stays hard, whatever is pinned. To the
rest of the program both are one `BlockCache`.

Rejected: one cache whose eviction passes over what is pinned. The limit would have to grow with the
pins, and diskcache's removal, one statement over an index by time of use, could not be used.

`kept` says which contents belong into the second part. Whoever decides about pins sets it; at the
start it is what lies there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from .blocks import BlockCache, covered

UNLIMITED = 1 << 60
"""Bytes; no disk is that large."""
RESERVE = 256 * 1024 * 1024
"""Bytes that pinned contents leave free on the disk: unsent changes need room, too."""


class PinningCache(BlockCache):
    """A block cache, and the pinned contents apart from it."""

    def __init__(self, folder: Path, size_limit: int, pinned: Path) -> None:
        """As `BlockCache`; `pinned` is the private folder of the part without a limit."""
        super().__init__(folder, size_limit)
        self._pinned_folder = pinned
        self.pinned = BlockCache(pinned, UNLIMITED)
        self.kept: Set[str] = frozenset(self.pinned.counts())

    # ---- What is pinned ----

    def keep_block(self, content: str, block: int, data: bytes | memoryview) -> bool:
        """Put a block among the pinned ones; False when the disk has no room for it."""
        if self.pinned.has(content, block):
            return True
        return self.room() > 0 and self.pinned.put(content, block, data)

    def room(self) -> int:
        """Bytes that the disk has for more pinned contents."""
        return max(0, shutil.disk_usage(self._pinned_folder).free - RESERVE)

    def evict(self, content: str, size: int) -> int:
        """Free what is here of a content of `size` bytes and not pinned; bytes."""
        freed = covered(super()._names(content), size)
        if freed:
            super().forget(content)
        return freed

    # ---- Both as one ----

    def get(self, content: str, block: int) -> memoryview | None:
        """The block from either part."""
        if content in self.kept:
            damaged = self.pinned.damaged
            data = self.pinned.get(content, block)
            self.damaged += self.pinned.damaged - damaged
            if data is not None:
                return data
        return super().get(content, block)

    def put(self, content: str, block: int, data: bytes | bytearray | memoryview) -> bool:
        """Keep the block where its content belongs."""
        if content in self.kept and self.keep_block(content, block, memoryview(data)):
            return True
        return super().put(content, block, data)

    def put_file(self, content: str, path: Path, *, pinned: bool = False) -> None:
        """Keep all blocks of a file; `pinned`: among the pinned ones, whatever its size."""
        if pinned or content in self.kept:
            self.kept = self.kept | {content}
            self.pinned.put_file(content, path)
        else:
            super().put_file(content, path)

    def _names(self, content: str) -> set[str]:
        return super()._names(content) | self.pinned._names(content)

    def forget(self, content: str) -> None:
        """Drop all of a content, pinned or not."""
        super().forget(content)
        self.pinned.forget(content)

    def drop(self, content: str, blocks: Iterable[int]) -> None:
        """Forget blocks of a content, pinned or not."""
        blocks = list(blocks)
        super().drop(content, blocks)
        self.pinned.drop(content, blocks)

    def contents(self) -> Iterator[tuple[str, list[int]]]:
        """Each content of which there are blocks; one that is in both parts comes twice."""
        yield from super().contents()
        yield from self.pinned.contents()

    def volume(self) -> int:
        """The bytes that both parts take on the disk, about."""
        return super().volume() + self.pinned.volume()

    def sweep(self) -> None:
        """Remove what a daemon that was killed was just writing."""
        super().sweep()
        self.pinned.sweep()

    def close(self) -> None:
        """Give the connections back."""
        super().close()
        self.pinned.close()
