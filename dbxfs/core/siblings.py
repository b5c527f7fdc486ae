"""Whether a program reads its way through a folder, and how far ahead of it to fetch.

grep, a compiler, a maker of thumbnails: each opens one small file after the other, and each file
costs a round trip. Two reads that follow each other in one order, that of the listing (inode
numbers) or that of the names, may be chance; the third is taken for a walk. From then on the next
files are fetched before they are asked for, twice as many with each one that was foreseen. A walk
goes on into the next folder; a read that was not foreseen ends it.

Pure; the store says what comes next in an order, and the service in `sync` keeps the walks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FORESEEN = 2
"""Reads in order after the first that make a walk."""
MOST = 64
"""Files that are fetched ahead of a walk, at the most."""


@dataclass(frozen=True, slots=True)
class Walk:
    """One program's way so far: the file that it read last, and how that fitted."""

    folder: int
    ino: int
    key: str
    fits: int = 0
    by_name: bool = False
    """The order is that of the names, not of the inode numbers."""


def follow(walk: Walk, folder: int, ino: int, key: str, *, foreseen: bool) -> Walk | None:
    """The walk with one more file; None where that file is no part of it.

    `foreseen`: the file is one of those that were fetched ahead of this walk.
    """
    here = replace(walk, folder=folder, ino=ino, key=key, fits=walk.fits + 1)
    if foreseen:
        return here
    if folder != walk.folder or ino == walk.ino:
        return None
    in_listing, in_names = ino > walk.ino, key > walk.key
    if walk.fits == 0 and (in_listing or in_names):
        return replace(here, by_name=not in_listing)
    if in_names if walk.by_name else in_listing:
        return here
    if walk.fits < FORESEEN and in_names:
        # One of two orders is left.
        return replace(here, by_name=True)
    return None


def reach(walk: Walk) -> int:
    """How many files to have fetched ahead of the walk."""
    if walk.fits < FORESEEN:
        return 0
    return min(MOST, 4 << (walk.fits - FORESEEN)) if walk.fits < 16 else MOST
