"""What must hold for the rows of the database and the staged files, and where it does not.

The rules are written down once, here: `dbxfs check` asks for them on a running mount, the tests
after every case. Each is a query that gives the inodes that break it, so a tree of a million
entries is checked in the memory of a handful of them; what has to be remembered along the way
(which folders are reached from the root) lies in a temporary table that SQLite can put on the
disk. One read transaction holds it all together, on a connection of its own: everything blocks
and is called in a thread.

What the daemon only holds in memory (who has what open, bytes that are written but not recorded)
is no part of the snapshot. It is asked for through two callables; and whoever checks a running
mount looks twice and believes what was there both times.

Rejected: loading the tree and walking it, which needs some hundred MB for a large account; and
rules as constraints of the schema: most speak of several rows, and a broken one should be
reported, not stop the mount.
"""

# ruff: noqa: S608 - the queries are put together from constants.

from __future__ import annotations

import contextlib
import enum
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dbxfs.core.names import fold, problem
from dbxfs.core.ranges import Ranges

from . import schema
from .database import is_damage
from .inode import FILE, FOLDER, ROOT_INO, SOCKET

LISTED = 1000
"""Findings of one rule that are given; a tree that is broken throughout needs no longer list."""

LOOK_EVERY = 10_000
"""Instructions of SQLite's machine after which it looks whether it is interrupted."""

DEEPEST = 4096
"""Folders that a path is followed through before it counts as a circle."""


class Rule(enum.StrEnum):
    """What is broken; `PROBLEMS` says it for people."""

    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    ROOT = "root"
    PARENT = "parent"
    UNREACHABLE = "unreachable"
    KEY = "key"
    BASE = "base"
    NOT_PENDING = "not-pending"
    NOTHING_PENDING = "nothing-pending"
    ORPHAN = "orphan"
    UNUSED = "unused"
    NO_CONTENT = "no-content"
    SIZE = "size"
    STAGING_GONE = "staging-gone"
    STAGING_SHORT = "staging-short"
    STAGING_RANGES = "staging-ranges"
    STRAY = "stray"


PROBLEMS = {
    Rule.DAMAGED: "the database is damaged",
    Rule.UNREADABLE: "the database cannot be read to its end",
    Rule.ROOT: "the mount's own folder is not as it must be",
    Rule.PARENT: "it is in a folder that does not exist",
    Rule.UNREACHABLE: "it is in a folder that cannot be reached from the mount's root",
    Rule.KEY: "it cannot be found by its name",
    Rule.BASE: "where Dropbox has it is not known rightly",
    Rule.NOT_PENDING: "it differs from Dropbox, and nothing is to be sent",
    Rule.NOTHING_PENDING: "it is held back, and nothing is to be sent",
    Rule.ORPHAN: "a note that belongs to nothing",
    Rule.UNUSED: "a removed file that nothing needs any more",
    Rule.NO_CONTENT: "neither Dropbox nor this computer has its content",
    Rule.SIZE: "its size is not that of what Dropbox has",
    Rule.STAGING_GONE: "what was written and not sent is gone",
    Rule.STAGING_SHORT: "of what was written and not sent, a part is gone",
    Rule.STAGING_RANGES: "which parts of it were written is not known rightly",
    Rule.STRAY: "bytes that were written and belong to no file",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be. `ino`: 0 where it is about no inode."""

    rule: Rule
    ino: int
    path: str
    """The local path, or as much of it as there is; of a stray the file's name."""
    detail: str = ""

    def __str__(self) -> str:
        """The finding in a line."""
        about = f"{self.path}: " if self.path else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{about}{PROBLEMS[self.rule]}{detail}"


_DIFFERS = (
    "(i.parent IS NULL AND i.base_parent IS NOT NULL OR i.parent IS NOT NULL AND"
    " (i.base_parent IS NULL OR i.parent != i.base_parent OR i.name != i.base_name))"
)
_LINKED = "i.ino != 1 AND i.parent IS NOT NULL"
_STAGED = "EXISTS (SELECT 1 FROM staging WHERE staging.ino = i.ino)"
_PENDING = "EXISTS (SELECT 1 FROM journal WHERE journal.ino = i.ino)"

# What is in limbo (seen < 0) is between two pages of the feed and may be half of a move.
_QUERIES = (
    (
        Rule.PARENT,
        "SELECT i.ino, 'folder ' || i.parent FROM inode i LEFT JOIN inode p ON p.ino = i.parent"
        f" WHERE {_LINKED} AND p.kind IS NOT {FOLDER}",
    ),
    (
        Rule.UNREACHABLE,
        f"SELECT i.ino, 'folder ' || i.parent FROM inode i WHERE {_LINKED} AND i.seen >= 0"
        " AND NOT EXISTS (SELECT 1 FROM linked WHERE linked.ino = i.parent)"
        f" AND EXISTS (SELECT 1 FROM inode p WHERE p.ino = i.parent AND p.kind = {FOLDER})",
    ),
    (
        Rule.BASE,
        "SELECT i.ino, 'half a place' FROM inode i WHERE i.ino != 1 AND i.seen >= 0"
        " AND ((i.base_parent IS NULL) != (i.base_key IS NULL)"
        " OR (i.base_parent IS NULL) != (i.base_name IS NULL)"
        " OR i.id IS NOT NULL AND i.base_parent IS NULL)",
    ),
    (
        Rule.BASE,
        "SELECT i.ino, 'folder ' || i.base_parent FROM inode i"
        " WHERE i.ino != 1 AND i.seen >= 0 AND i.base_parent IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM based WHERE based.ino = i.base_parent)"
        " AND NOT EXISTS (SELECT 1 FROM inode WHERE seen < 0)",
    ),
    (
        Rule.BASE,
        f"SELECT i.ino, 'no revision' FROM inode i WHERE i.kind = {FILE} AND i.seen >= 0"
        " AND i.base_parent IS NOT NULL AND i.rev IS NULL",
    ),
    (
        Rule.BASE,
        "SELECT i.ino, 'from a listing still to come' FROM inode i WHERE i.seen >"
        " (SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM meta WHERE key = 'epoch')",
    ),
    (
        Rule.NOT_PENDING,
        "SELECT i.ino, '' FROM inode i"
        f" WHERE i.ino != 1 AND i.seen >= 0 AND {_DIFFERS} AND NOT {_PENDING}",
    ),
    (
        Rule.NOT_PENDING,
        "SELECT i.ino, 'content' FROM staging s JOIN inode i ON i.ino = s.ino"
        f" WHERE i.parent IS NOT NULL AND i.seen >= 0 AND NOT {_PENDING}",
    ),
    # A row without an error is looked at when its turn comes, and goes if there is nothing.
    (
        Rule.NOTHING_PENDING,
        "SELECT i.ino, j.error FROM journal j JOIN inode i ON i.ino = j.ino"
        f" WHERE j.error IS NOT NULL AND i.seen >= 0 AND NOT {_DIFFERS} AND NOT {_STAGED}",
    ),
    (
        Rule.ORPHAN,
        "SELECT j.ino, 'journal' FROM journal j LEFT JOIN inode i ON i.ino = j.ino"
        " WHERE i.ino IS NULL",
    ),
    (
        Rule.ORPHAN,
        "SELECT s.ino, 'staging' FROM staging s LEFT JOIN inode i ON i.ino = s.ino"
        " WHERE i.kind IS NOT 0",
    ),
    (
        Rule.ORPHAN,
        "SELECT s.ino, 'session' FROM session s LEFT JOIN staging t ON t.ino = s.ino"
        " WHERE t.ino IS NULL",
    ),
    (
        Rule.NO_CONTENT,
        f"SELECT i.ino, '' FROM inode i WHERE {_LINKED} AND i.kind = {FILE} AND i.seen >= 0"
        f" AND (i.base_parent IS NULL OR i.rev IS NULL) AND NOT {_STAGED}",
    ),
    (
        Rule.SIZE,
        "SELECT i.ino, i.size || ' instead of ' || i.base_size FROM inode i"
        f" WHERE {_LINKED} AND i.kind = {FILE} AND i.seen >= 0 AND i.base_parent IS NOT NULL"
        f" AND i.size != i.base_size AND NOT {_STAGED}",
    ),
)
_UNUSED = (
    "SELECT ino FROM inode WHERE parent IS NULL AND base_parent IS NULL AND seen >= 0 AND ino != 1"
    " AND ino NOT IN (SELECT ino FROM sent)"
)


class StoreCheck:
    """One look at the database at rest, and at the staging folder beside it."""

    def __init__(
        self,
        database: Path,
        staging: Path,
        in_use: Callable[[int], bool] = lambda ino: False,
        is_staged: Callable[[int], bool] = lambda ino: False,
    ) -> None:
        """Nothing is opened yet. Both callables are asked in the thread that runs the check.

        `in_use`: whether a program or a commit still needs an inode that was removed;
        `is_staged`: whether its staged content is open, so that the database need not know it all.
        """
        self._path = database
        self._staging = staging
        self._in_use = in_use
        self._is_staged = is_staged
        self._interrupted = False

    def run(self) -> list[Finding]:
        """All that is broken, `LISTED` of a rule at most. Blocks.

        Raises `sqlite3.OperationalError` when the database cannot be opened, or when it was
        interrupted.
        """
        with contextlib.closing(sqlite3.connect(self._path, timeout=5)) as connection:
            connection.isolation_level = None
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            connection.set_progress_handler(lambda: self._interrupted, LOOK_EVERY)
            try:
                connection.execute("BEGIN")
                damage = list(_damage(connection))
                if damage:
                    # The rules would be asked of rows that are not what was written.
                    return damage
                return [*self._rows(connection), *self._files(connection)]
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not is_damage(error):
                    raise
                return [Finding(Rule.UNREADABLE, 0, "", str(error))]

    def interrupt(self) -> None:
        """Let a run that is under way in another thread fail soon."""
        self._interrupted = True

    # ---- Rows ----

    def _rows(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        root = connection.execute("SELECT parent, kind FROM inode WHERE ino = 1").fetchone()
        if root != (0, FOLDER):
            yield Finding(Rule.ROOT, ROOT_INO, "", "")
        _reach(connection, "linked", "parent")
        _reach(connection, "based", "base_parent")
        for rule, query in _QUERIES:
            yield from itertools.islice(_broken_rows(connection, rule, query), LISTED)
        yield from itertools.islice(_keys(connection), LISTED)
        yield from itertools.islice(self._unused(connection), LISTED)

    def _unused(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        for (ino,) in connection.execute(_UNUSED):
            if not self._in_use(ino):
                yield Finding(Rule.UNUSED, ino, _path(connection, ino))

    # ---- Staged files ----

    def _files(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        yield from itertools.islice(self._staged(connection), LISTED)
        strays = (path for path in self._staging.iterdir() if self._is_stray(connection, path))
        for path in itertools.islice(strays, LISTED):
            yield Finding(Rule.STRAY, 0, path.name, f"in {self._staging}")

    def _staged(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        rows = connection.execute(
            "SELECT s.ino, s.file, s.from_size, s.base_limit, s.extents, i.size"
            " FROM staging s JOIN inode i ON i.ino = s.ino"
        )
        for ino, file, from_size, base_limit, extents, size in rows:
            broken = None if self._is_staged(ino) else self._broken(file, extents, size)
            if broken is not None:
                yield Finding(broken[0], ino, _path(connection, ino), broken[1])
            elif not 0 <= base_limit <= (from_size or 0):
                detail = f"{base_limit} of {from_size} bytes show through"
                yield Finding(Rule.STAGING_RANGES, ino, _path(connection, ino), detail)

    def _broken(self, file: str, extents: bytes, size: int) -> tuple[Rule, str] | None:
        try:
            held = Ranges.from_bytes(extents)
        except (ValueError, TypeError) as error:
            return Rule.STAGING_RANGES, str(error)
        if held.end > size:
            return Rule.STAGING_RANGES, f"written to {held.end}, the file ends at {size}"
        try:
            there = (self._staging / file).stat().st_size if held else 0
        except OSError as error:
            return Rule.STAGING_GONE, error.strerror or str(error)
        if there < held.end:
            return Rule.STAGING_SHORT, f"{there} of {held.end} bytes are there"
        return None

    def _is_stray(self, connection: sqlite3.Connection, path: Path) -> bool:
        """Whether no row names the file and nobody is about to write or to remove it."""
        known = connection.execute("SELECT 1 FROM staging WHERE file = ?", (path.name,))
        if known.fetchone() is not None:
            return False
        number = path.name.partition("-")[0]
        if not number.isdecimal() or len(number) > 18:
            return True
        if self._is_staged(int(number)):
            return False
        row = connection.execute("SELECT base_size FROM inode WHERE ino = ?", (int(number),))
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        # What was committed just now is still copied into the cache, from this very file.
        return bool(row.fetchone() != (size,))


def _broken_rows(connection: sqlite3.Connection, rule: Rule, query: str) -> Iterator[Finding]:
    for ino, detail in connection.execute(query):
        if rule is not Rule.NOT_PENDING or not _is_local_only(connection, ino):
            yield Finding(rule, ino, _path(connection, ino), detail)


def _is_local_only(connection: sqlite3.Connection, ino: int) -> bool:
    """Whether Dropbox does not have it and would not take it (see `Tree.is_local_only`)."""
    query = "SELECT kind, parent, name, base_parent, base_name, base_key FROM inode WHERE ino = ?"
    at: int | None = ino
    for _ in range(DEEPEST):
        row = connection.execute(query, (at,)).fetchone()
        if row is not None and row[0] == SOCKET:
            return True
        if at == ROOT_INO or row is None or row[1] is None:
            return False
        _, parent, name, base_parent, base_name, base_key = row
        if at == ino and base_parent is not None and (parent, name) != (base_parent, base_name):
            # It was renamed to such a name: its deletion there is pending.
            return False
        there = base_key is not None and (parent, name) == (base_parent, base_name)
        if not there and problem(name) is not None:
            return True
        at = parent
    return False


def _damage(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield Finding(Rule.DAMAGED, 0, "", line)
    for part in schema.missing(connection):
        yield Finding(Rule.DAMAGED, 0, "", f"{part} is missing")
        return
    for table in schema.misfits(connection, ("inode", *schema.SMALL)):
        yield Finding(Rule.DAMAGED, 0, "", f"{table} has values that cannot be")


def _reach(connection: sqlite3.Connection, table: str, column: str) -> None:
    """A temporary table of the folders that are reached from the root by a column."""
    connection.execute(f"CREATE TEMP TABLE {table} (ino INTEGER PRIMARY KEY)")
    connection.execute(
        f"INSERT INTO {table} WITH RECURSIVE reached (ino) AS (SELECT 1 UNION"
        f" SELECT inode.ino FROM reached JOIN inode ON inode.{column} = reached.ino"
        f" WHERE inode.kind = {FOLDER}) SELECT ino FROM reached"
    )


def _keys(connection: sqlite3.Connection) -> Iterator[Finding]:
    """In Python, as the rule of what is the same name is there."""
    rows = connection.execute("SELECT ino, seen, name, key, base_name, base_key FROM inode")
    for ino, seen, name, key, base_name, base_key in rows:
        if key != fold(name):
            yield Finding(Rule.KEY, ino, _path(connection, ino), key)
        if seen >= 0 and base_key is not None and base_key != fold(base_name or ""):
            yield Finding(Rule.BASE, ino, _path(connection, ino), base_key)


def _path(connection: sqlite3.Connection, ino: int) -> str:
    """Where programs find the inode, as far as that is known. Circles end it."""
    names: list[str] = []
    at: int | None = ino
    while at != ROOT_INO:
        row = connection.execute("SELECT parent, name FROM inode WHERE ino = ?", (at,)).fetchone()
        if row is None:
            return "/".join([f"(inode {at})", *reversed(names)])
        if row[0] is None:
            return "/".join([f"(removed) {row[1]}", *reversed(names)])
        if len(names) > DEEPEST:
            return "/".join(["(in a circle)", *reversed(names[:3])])
        at = row[0]
        names.append(row[1])
    return "/" + "/".join(reversed(names))
