"""What exists in the account, what existed, and in which order it changed.

Every change takes the next change number (`seq`) and writes one row of the log; the number is
also the rev of a file whose content or place it made. The log does not hold states: an update row
is reported with the state of now, and only the latest row of a path is reported, so that a cursor
that was away for long gets few entries. Deletions are always reported, in their place in the
order, because a deletion followed by a new folder of the same name must empty it.

Rejected: a change number per entry without a log (the deletion of a folder that exists again
could not be reported); the full state in each log row (twice the size, and the real feed merges
changes too).
"""

# ruff: noqa: S608 — what is put into the statements are the constants below

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from dbxfs.demo.names import fold, name_of, parent_of

COLUMNS = (
    "key, parent, name, display, folder, fid, rev, size, hash,"
    " client_modified, server_modified, document"
)


class Node(NamedTuple):
    """A row of `entries`, or of `history`. Times are whole seconds since the epoch."""

    key: str
    parent: str
    name: str
    display: str
    folder: int
    fid: int
    rev: int
    size: int
    hash: str
    client_modified: int
    server_modified: int
    document: str


class Tomb(NamedTuple):
    """A path where something was: a row of `tombs`, or a deletion in the log."""

    key: str
    name: str
    display: str


class Content(NamedTuple):
    """What a file holds: its content hash, size in bytes, and its writer's time stamp."""

    hash: str
    size: int
    client_modified: int
    document: str = ""


class Tree:
    """The entries of one account. Every mutation must run inside `change()`."""

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], float]) -> None:
        self.db = connection
        self.now = now
        self.changed = trio.Event()
        self._load()

    def _load(self) -> None:
        self.seq: int = self.db.execute("SELECT ifnull(max(seq), 0) FROM log").fetchone()[0]
        self.used: int = self.db.execute("SELECT ifnull(sum(size), 0) FROM entries").fetchone()[0]

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction; wakes whoever waits for changes when it made any."""
        before = self.seq, self.used
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            self.seq, self.used = before
            raise
        self.db.execute("COMMIT")
        if self.seq != before[0]:
            self.announce()

    def announce(self) -> None:
        """Wakes everybody who waits for `changed`."""
        self.changed.set()
        self.changed = trio.Event()

    # reading

    def get(self, key: str) -> Node | None:
        """The entry at a folded path."""
        return self._one(f"SELECT {COLUMNS} FROM entries WHERE key = ?", key)

    def by_fid(self, fid: int) -> Node | None:
        """The entry of this identity, wherever it is."""
        return self._one(f"SELECT {COLUMNS} FROM entries WHERE fid = ?", fid)

    def by_rev(self, rev: int) -> Node | None:
        """The revision, present or past."""
        if rev <= 0:
            return None
        return self._one(f"SELECT {COLUMNS} FROM entries WHERE rev = ?", rev) or self._one(
            f"SELECT {COLUMNS} FROM history WHERE rev = ?", rev
        )

    def tomb(self, key: str) -> Tomb | None:
        """What was at a folded path where nothing is now."""
        row = self.db.execute("SELECT key, name, display FROM tombs WHERE key = ?", (key,))
        found = row.fetchone()
        return Tomb(*found) if found else None

    def _one(self, sql: str, value: str | int) -> Node | None:
        row = self.db.execute(sql, (value,)).fetchone()
        return Node._make(row) if row else None

    def children(self, parent: str, after: str, limit: int) -> list[Node]:
        """Up to `limit` entries of a folder, by key, beyond the key `after` ("" for the first)."""
        sql = f"SELECT {COLUMNS} FROM entries WHERE parent = ? AND key > ? ORDER BY key LIMIT ?"
        return [Node._make(row) for row in self.db.execute(sql, (parent, after, limit))]

    def below(self, key: str, after: str, limit: int) -> list[Node]:
        """Up to `limit` entries anywhere below `key`, parents before children."""
        sql = f"SELECT {COLUMNS} FROM entries WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        rows = self.db.execute(sql, (after or key + "/", key + "0", limit))
        return [Node._make(row) for row in rows]

    def count_below(self, key: str) -> int:
        """How many entries lie below `key`."""
        sql = "SELECT count(*) FROM entries WHERE key > ? AND key < ?"
        count: int = self.db.execute(sql, (key + "/", key + "0")).fetchone()[0]
        return count

    def size_below(self, key: str) -> int:
        """Bytes in the files at and below `key`."""
        sql = "SELECT ifnull(sum(size), 0) FROM entries WHERE key = ? OR (key > ? AND key < ?)"
        size: int = self.db.execute(sql, (key, key + "/", key + "0")).fetchone()[0]
        return size

    # changing

    def make_folder(self, display: str) -> Node:
        """A new folder; its parent exists and nothing is at its path."""
        key = fold(display)
        node = Node(
            key, parent_of(key), name_of(display), display, 1, self.seq + 1, 0, 0, "", 0, 0, ""
        )
        self._insert(node)
        return node

    def make_parents(self, display: str) -> None:
        """The folders above `display` that are missing. No ancestor is a file."""
        missing = []
        above = parent_of(display)
        while above and self.get(fold(above)) is None:
            missing.append(above)
            above = parent_of(above)
        for folder in reversed(missing):
            self.make_folder(folder)

    def make_file(self, display: str, content: Content, fid: int | None = None) -> Node:
        """A new file; its parent exists and nothing is at its path."""
        key = fold(display)
        node = Node(
            key,
            parent_of(key),
            name_of(display),
            display,
            0,
            self.seq + 1 if fid is None else fid,
            self.seq + 1,
            content.size,
            content.hash,
            content.client_modified,
            int(self.now()),
            content.document,
        )
        self._insert(node)
        return node

    def replace_content(self, old: Node, content: Content) -> Node:
        """New content for an existing file: same identity and name, new rev."""
        self._archive("key = ?", old.key)
        node = old._replace(
            rev=self.seq + 1,
            size=content.size,
            hash=content.hash,
            client_modified=content.client_modified,
            server_modified=int(self.now()),
            document=content.document,
        )
        self.used -= old.size
        self.db.execute("DELETE FROM entries WHERE key = ?", (old.key,))
        self._insert(node)
        return node

    def touch(self, node: Node) -> None:
        """Reports an entry again although its content and place are the same."""
        self.seq += 1
        self.db.execute(
            "INSERT INTO log VALUES (?, 0, ?, ?, '', '')", (self.seq, node.key, node.parent)
        )
        self.db.execute("UPDATE entries SET seq = ? WHERE key = ?", (self.seq, node.key))

    def report_again(self, node: Node) -> None:
        """Reports a folder as if it and everything below it had just come."""
        self._log_delete(node)
        for each in [node, *self.below(node.key, "", -1)]:
            self.touch(each)

    def recase(self, node: Node, display: str) -> None:
        """Changes the case of a name; not reported, as Dropbox does not."""
        self.db.execute(
            "UPDATE entries SET name = ?, display = ? WHERE key = ?",
            (name_of(display), display, node.key),
        )

    def remove(self, node: Node) -> None:
        """Deletes an entry and everything below it; reported as one deletion."""
        self.used -= self.size_below(node.key)
        self._bury(node)
        self._log_delete(node)

    def move(self, node: Node, display: str) -> Node:
        """Moves an entry and everything below it; nothing is at `display`, its parent exists.

        Identities stay, files get new revs. Reported as a deletion, then everything below anew.
        """
        moving = [node, *self.below(node.key, "", -1)]
        self._bury(node)
        self._log_delete(node)
        return self._plant(moving, node, display, lambda old, seq: old.fid)

    def copy(self, node: Node, display: str) -> Node:
        """Copies an entry and everything below it; nothing is at `display`, its parent exists."""
        copying = [node, *self.below(node.key, "", -1)]
        self.used += self.size_below(node.key)
        return self._plant(copying, node, display, lambda old, seq: seq)

    def _plant(
        self, nodes: list[Node], root: Node, display: str, fid: Callable[[Node, int], int]
    ) -> Node:
        """Puts `nodes`, of which `root` is the topmost, at `display` and below it."""
        depth = root.display.count("/") + 1
        planted = []
        for seq, node in enumerate(nodes, self.seq + 1):
            place = "/".join([display, *node.display.split("/")[depth:]])
            key = fold(place)
            planted.append(
                node._replace(
                    key=key,
                    parent=parent_of(key),
                    name=name_of(place),
                    display=place,
                    fid=fid(node, seq),
                    rev=0 if node.folder else seq,
                )
            )
        self.insert_many(planted)
        return planted[0]

    def insert_many(self, nodes: list[Node]) -> None:
        """Inserts entries, reported in this order; `rev` of a file is the number it will get.

        Does not count their sizes.
        """
        first = self.seq + 1
        self.seq += len(nodes)
        self.db.executemany(
            "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            ((*node, seq) for seq, node in enumerate(nodes, first)),
        )
        self.db.executemany(
            "INSERT INTO log VALUES (?, 0, ?, ?, '', '')",
            ((seq, node.key, node.parent) for seq, node in enumerate(nodes, first)),
        )
        self.db.executemany("DELETE FROM tombs WHERE key = ?", ((node.key,) for node in nodes))

    def _insert(self, node: Node) -> None:
        self.used += node.size
        self.insert_many([node])

    def _archive(self, where: str, *values: str) -> None:
        self.db.execute(
            f"INSERT INTO history SELECT {COLUMNS}, ? FROM entries WHERE folder = 0 AND ({where})",
            (int(self.now()), *values),
        )

    def _bury(self, node: Node) -> None:
        """Moves a subtree's rows from what is to what was."""
        bounds = (node.key, node.key + "/", node.key + "0")
        where = "key = ? OR (key > ? AND key < ?)"
        self._archive(where, *bounds)
        self.db.execute(
            "INSERT OR REPLACE INTO tombs"
            f" SELECT key, parent, name, display, ? FROM entries WHERE {where}",
            (int(self.now()), *bounds),
        )
        self.db.execute(f"DELETE FROM entries WHERE {where}", bounds)

    def _log_delete(self, node: Node) -> None:
        self.seq += 1
        self.db.execute(
            "INSERT INTO log VALUES (?, 1, ?, ?, ?, ?)",
            (self.seq, node.key, node.parent, node.name, node.display),
        )
