"""The tree as we think that Dropbox has it, beside a fresh listing of what it has.

Both are put into a temporary database by path (in the letters by which Dropbox compares), and one
join gives the differences: SQLite keeps on the disk what does not fit into its few MiB, so a
million entries cost no memory. The listing comes page by page and is brought up to date with its
own cursor, like the feed; our side is taken anew from the database each time.

Rejected: to compare page by page while the listing comes. What the tree has and the listing does
not shows only at the end, and a page that is minutes old says nothing by then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dbxfs.core.model import DeletedEntry, Entry, FileEntry, RemotePath
from dbxfs.core.names import fold

from .checking import LOOK_EVERY
from .inode import FILE, FOLDER

LISTED = 1000
"""Differences that are given at the most."""

_TABLES = """
CREATE TABLE there (path TEXT PRIMARY KEY, kind INTEGER, name TEXT, id TEXT, rev TEXT, hash TEXT,
    size INTEGER) WITHOUT ROWID;
CREATE TABLE here (path TEXT PRIMARY KEY, ino INTEGER, kind INTEGER, name TEXT, id TEXT, rev TEXT,
    hash TEXT, size INTEGER) WITHOUT ROWID;
"""

_TAKE = f"""
INSERT OR REPLACE INTO here
WITH RECURSIVE folder (ino, path) AS (
    SELECT 1, ? UNION ALL
    SELECT i.ino, folder.path || '/' || i.base_key FROM folder
    JOIN tree.inode i ON i.base_parent = folder.ino
    WHERE i.kind = {FOLDER} AND i.base_key IS NOT NULL AND i.ino != 1
)
SELECT folder.path || '/' || i.base_key, i.ino, i.kind, i.base_name, i.id, i.rev, i.hash,
    iif(i.kind = {FILE}, i.base_size, NULL)
FROM folder JOIN tree.inode i ON i.base_parent = folder.ino
WHERE i.base_key IS NOT NULL AND i.ino != 1
"""  # noqa: S608

_FACTS = ("kind", "name", "id", "rev", "hash", "size")
_DIFFER = " OR ".join(f"there.{fact} IS NOT here.{fact}" for fact in _FACTS)
_COLUMNS = ", ".join([f"here.{fact}" for fact in _FACTS] + [f"there.{fact}" for fact in _FACTS])
_COMPARE = f"""
SELECT there.path, coalesce(here.ino, 0), {_COLUMNS} FROM there LEFT JOIN here USING (path)
    WHERE here.path IS NULL OR {_DIFFER}
UNION ALL
SELECT here.path, here.ino, {_COLUMNS} FROM here LEFT JOIN there USING (path)
    WHERE there.path IS NULL
LIMIT {LISTED}
"""  # noqa: S608

_WORDS = {
    "kind": "one is a file, the other a folder",
    "id": "it is another file or folder",
    "rev": "another revision",
    "hash": "other content",
    "size": "another size",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One path at which the two do not agree. `ino`: 0 where the tree has nothing."""

    path: str
    ino: int
    here: tuple[object, ...] | None
    there: tuple[object, ...] | None

    def __str__(self) -> str:
        """The difference in a line."""
        return f"{self.path}: {self.problem}"

    @property
    def problem(self) -> str:
        """What differs, for people."""
        if self.here is None:
            return "it is on Dropbox, and the mount does not know it"
        if self.there is None:
            return "the mount takes it to be on Dropbox, and it is not"
        facts = dict(zip(_FACTS, zip(self.here, self.there, strict=True), strict=True))
        here, there = facts.pop("name")
        said = [_WORDS[fact] for fact, (one, other) in facts.items() if one != other]
        if here != there:
            said.append(f"it is called {there!r} there")
        return f"Dropbox has it otherwise than the mount knows: {', '.join(said)}"


class Comparison:
    """A listing of Dropbox, and the tree that it is compared with. Everything blocks.

    Used by one thread at a time, whichever.
    """

    def __init__(self, database: Path, root: RemotePath) -> None:
        """`database`: the mount's; `root`: the remote folder that is mounted."""
        self._root = fold(root)
        self._depth = root.count("/")
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._interrupted = False
        self._connection.set_progress_handler(lambda: self._interrupted, LOOK_EVERY)
        self._connection.execute("PRAGMA cache_size = -8192")
        self._connection.execute("PRAGMA temp_store = FILE")
        self._connection.execute("ATTACH ? AS tree", (str(database),))
        self._connection.executescript(_TABLES)

    def forget(self) -> None:
        """The listing has to begin anew."""
        self._connection.execute("DELETE FROM there")

    def add(self, entries: Iterable[Entry]) -> None:
        """A page of the listing, or of the changes after it."""
        self._connection.execute("BEGIN")
        for entry in entries:
            if entry.path.count("/") > self._depth:
                self._add(entry)
        self._connection.execute("COMMIT")

    def _add(self, entry: Entry) -> None:
        path = fold(entry.path)
        if isinstance(entry, DeletedEntry | FileEntry):
            # "0" is the character after "/".
            self._connection.execute(
                "DELETE FROM there WHERE path = ? OR path > ? AND path < ?",
                (path, f"{path}/", f"{path}0"),
            )
        if isinstance(entry, DeletedEntry):
            return
        facts: tuple[object, ...] = (FOLDER, entry.name, entry.id, None, None, None)
        if isinstance(entry, FileEntry):
            facts = (FILE, entry.name, entry.id, entry.rev, entry.content_hash, entry.size)
        self._connection.execute(
            "INSERT OR REPLACE INTO there VALUES (?, ?, ?, ?, ?, ?, ?)", (path, *facts)
        )

    def differences(self) -> list[Difference]:
        """Where the tree, as it is now, is not what was listed; `LISTED` at the most."""
        self._connection.execute("BEGIN")
        self._connection.execute("DELETE FROM here")
        self._connection.execute(_TAKE, (self._root,))
        self._connection.execute("COMMIT")
        return [self._difference(*row) for row in self._connection.execute(_COMPARE)]

    def _difference(self, path: str, ino: int, *facts: object) -> Difference:
        here, there = facts[: len(_FACTS)], facts[len(_FACTS) :]
        return Difference(
            path, ino, None if here[0] is None else here, None if there[0] is None else there
        )

    def interrupt(self) -> None:
        """Let what is under way in another thread fail soon, with `sqlite3.OperationalError`."""
        self._interrupted = True

    def close(self) -> None:
        """Give the files back."""
        self._connection.close()
