"""Pins: which files and trees people want here complete, and what of a tree there is.

A pin stands at an inode, not at a path: it goes with a rename. What is in a pinned folder is
pinned because it is there, so a file that comes later needs no row, and one that is moved out is
pinned no more.

What may touch a million rows is read from a connection of its own, in a thread (`files_below`,
`unsent_contents`); the rest is a few queries by key.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dbxfs.core.model import Rev
from dbxfs.core.ranges import Ranges

from .inode import FILE, ROOT_INO
from .tree import Tree

_PINNED = "SELECT ino FROM pin JOIN inode USING (ino) WHERE parent IS NOT NULL OR seen < 0"
"""Also what is in limbo: it may come back elsewhere, and should not be fetched again then."""

_FILES = """
WITH RECURSIVE below (ino) AS (
    {top} UNION SELECT inode.ino FROM inode JOIN below ON inode.parent = below.ino
)
SELECT ino, size, rev, hash, base_size, from_rev, from_hash, from_size, base_limit, extents
FROM below JOIN inode USING (ino) LEFT JOIN staging USING (ino)
WHERE kind = {file} AND downloadable = 1
"""


class FileBelow(NamedTuple):
    """One file of a tree, with what decides about its content."""

    ino: int
    size: int
    """Bytes that programs see."""
    rev: Rev | None
    hash: str | None
    base_size: int | None
    from_rev: Rev | None
    from_hash: str | None
    from_size: int | None
    base_limit: int | None
    extents: bytes | None
    """Of staged content, as in table `staging`; None where there is none."""

    @property
    def staged(self) -> bool:
        """Whether programs wrote what Dropbox does not have."""
        return self.extents is not None

    @property
    def unwritten(self) -> int:
        """Bytes of staged content that show through from the version below."""
        if self.extents is None or self.base_limit is None or self.from_rev is None:
            return 0
        gaps = Ranges.from_bytes(self.extents).missing(0, min(self.size, self.base_limit))
        return sum(stop - start for start, stop in gaps)

    @property
    def contents(self) -> Iterator[tuple[Rev, str | None, int]]:
        """Revision, hash and size of what Dropbox has, and of what staged bytes lie upon."""
        if self.rev is not None:
            yield self.rev, self.hash, self.base_size or 0
        if self.from_rev is not None and self.from_hash != self.hash:
            yield self.from_rev, self.from_hash, self.from_size or 0


class Pins:
    """The pins of one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database

    def add(self, ino: int) -> None:
        """Pin a file or folder; again makes no difference. `TreeError(ENOENT)`: it is gone."""
        with self._database.transaction():
            self._tree.get(ino)
            self._database.execute("INSERT OR IGNORE INTO pin (ino) VALUES (?)", ino)
        self._tree.on_change()

    def remove(self, ino: int) -> bool:
        """Take a pin away; whether there was one at this very inode."""
        cursor = self._database.execute("DELETE FROM pin WHERE ino = ?", ino)
        self._tree.on_change()
        return cursor.rowcount > 0

    def remove_below(self, ino: int) -> int:
        """Take away the inode's own pin and those of all that is in it; how many there were."""
        pinned = [at for (at,) in self._database.execute("SELECT ino FROM pin").fetchall()]
        return sum(self.remove(at) for at in pinned if self._tree.is_below(at, ino))

    def any(self) -> bool:
        """Whether anything is pinned."""
        return self._database.execute("SELECT 1 FROM pin LIMIT 1").fetchone() is not None

    def is_set(self, ino: int) -> bool:
        """Whether the pin stands at this very inode."""
        return self._database.exists("pin", ino)

    def holder(self, ino: int) -> int | None:
        """The inode whose pin keeps this one: itself, or a folder above; None: it is not pinned."""
        at: int | None = ino if self.any() else None
        while at is not None and not self.is_set(at):
            inode = self._tree.find(at) if at != ROOT_INO else None
            at = None if inode is None else inode.parent
        return at

    def covers(self, ino: int) -> bool:
        """Whether the inode is pinned, by itself or with a folder above."""
        return self.holder(ino) is not None


def files_below(database: Path, top: int | None = None) -> list[FileBelow]:
    """All files in `top`, itself if it is one; None: all that are pinned. Blocks.

    Without online documents, which have no bytes to keep.
    """
    query = _FILES.format(top=_PINNED if top is None else f"SELECT {top:d}", file=FILE)
    with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
        return [FileBelow._make(row) for row in connection.execute(query)]


def unsent_contents(database: Path) -> set[tuple[Rev, str | None]]:
    """Revisions and hashes that unsent bytes are made from: without them they are not whole."""
    with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
        rows = connection.execute(
            "SELECT from_rev, from_hash FROM staging WHERE from_rev IS NOT NULL"
        )
        return {(rev, digest) for rev, digest in rows}
