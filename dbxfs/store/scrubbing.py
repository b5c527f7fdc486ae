"""Whether the blocks in the cache are what their names say.

A block is named by the content hash of its file, so the file's blocks together can be held against
the name, when all of them are there. That all are there is known by the last one, which is shorter
than the others; where it is not, only the file's size can tell, and whoever asks may know it.
What lacks blocks cannot be judged, and neither can what bears no hash.

A cache of some GB takes a while to read, so usually a sample is taken: each content with the
same chance, such that about `SAMPLE` bytes are read.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from dbxfs.core.content_hash import ContentHasher

from .blocks import BLOCK, BlockCache

SAMPLE = 256 * 1024 * 1024
HASH_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What came of it."""

    bad: dict[str, list[int]]
    """The contents that are not what their names say, and their blocks."""
    unsure: dict[str, list[int]]
    """Those that are so, unless they go on after what is cached of them: whole blocks."""


class Scrub:
    """One look through a cache."""

    def __init__(self, cache: BlockCache, sample: int | None = SAMPLE) -> None:
        """`sample`: bytes to read, about; None: all."""
        self._cache = cache
        self._sample = sample
        self._interrupted = False
        self.checked = 0
        """Bytes that were read."""

    def run(self) -> Scrubbed:
        """Read and judge. Blocks, for as long as the disk takes."""
        volume = max(1, self._cache.volume())
        share = 1.0 if self._sample is None else self._sample / volume
        found = Scrubbed({}, {})
        for content, blocks in self._cache.contents():
            if self._interrupted:
                break
            if share >= 1 or random.random() < share:  # noqa: S311
                self._judge(content, blocks, found)
        return found

    def interrupt(self) -> None:
        """Let a run in another thread end soon."""
        self._interrupted = True

    def _judge(self, content: str, blocks: list[int], found: Scrubbed) -> None:
        if len(content) != HASH_DIGITS or sorted(blocks) != list(range(len(blocks))):
            return
        hasher, short = ContentHasher(), False
        for block in range(len(blocks)):
            damaged = self._cache.damaged
            data = self._cache.get(content, block)
            if data is None and self._cache.damaged > damaged:
                found.bad[content] = blocks
            if data is None or self._interrupted:
                # Evicted meanwhile, or unreadable, which counts as a miss everywhere.
                return
            if short or len(data) > BLOCK:
                found.bad[content] = blocks
                return
            short = len(data) < BLOCK
            self.checked += len(data)
            hasher.update(data)
        if hasher.hexdigest() != content:
            (found.bad if short else found.unsure)[content] = blocks
