"""What is left after an accident: a damaged database, staging files that are gone or cut short.

The tree can be listed again, so of a damaged database only the work that Dropbox does not have is
worth saving: the rows of the journal and of staging, their inodes and the folders above them, with
the base that they were made from. They are copied one by one, by primary key, since an index or a
page in between may be unreadable; the new database is then compared with Dropbox by its crawl,
as after a reset of the cursor. Bytes whose row cannot be saved are left to
`Staging.recover_strays`.

Rejected: SQLite's own `.recover`, which only its command-line program has, and which would bring
back a tree that cannot be trusted where a crawl gives one that can.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbxfs.core.ranges import Ranges

from .database import Database
from .inode import FOLDER, ROOT_INO, Inode
from .limbo import LIMBO, NO_BASE
from .schema import STORAGE
from .staging import Staging
from .tree import Tree

log = logging.getLogger(__name__)

KEPT_META = ("account", "path_root", "paused")
SAVED = ("journal", "staging", "pin")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rescued:
    """What was saved of a damaged database."""

    changes: int
    """Rows of the journal."""
    files: int
    """Files with staged content."""


# ---- A damaged database ----


def rescue(damaged: Path, database: Database) -> Rescued:
    """Copy the work that Dropbox does not have into a new database. Blocks."""
    with contextlib.closing(sqlite3.connect(damaged)) as source:
        source.row_factory = sqlite3.Row
        with contextlib.suppress(sqlite3.Error):
            # Go on with the tables that are good when the entry of another one is not.
            source.execute("PRAGMA writable_schema = ON")
        rows = {table: _readable(source, table) for table in SAVED}
        inodes = _with_folders(source, {row["ino"] for table in rows.values() for row in table})
        meta = [_one(source, "meta", "key", key) for key in KEPT_META]
    changes = files = 0
    with database.transaction():
        for row in meta:
            if row is not None:
                database.set_meta(row["key"], row["value"])
        saved = _insert_inodes(database, inodes)
        for table, found in rows.items():
            for row in found:
                known = row["ino"] in saved or (table == "pin" and row["ino"] == ROOT_INO)
                if known and _insert(database, table, row):
                    changes += table == "journal"
                    files += table == "staging"
    return Rescued(changes, files)


def _readable(source: sqlite3.Connection, table: str) -> list[Row]:
    """All rows that can be read: from the front, and behind a page that cannot, from the back."""
    rows: dict[int, Row] = {}
    for order in ("ASC", "DESC"):
        try:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY rowid {order}"):  # noqa: S608
                rows.setdefault(row["ino"], dict(row))
        except (sqlite3.Error, UnicodeDecodeError, IndexError) as error:
            log.warning("not all of %s can be read: %s", table, error)
        else:
            break
    return list(rows.values())


def _one(source: sqlite3.Connection, table: str, key: str, value: object) -> Row | None:
    try:
        row = source.execute(f"SELECT * FROM {table} WHERE {key} = ?", (value,)).fetchone()  # noqa: S608
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    return None if row is None else dict(row)


def _with_folders(source: sqlite3.Connection, wanted: set[int]) -> dict[int, Row]:
    """The inodes and the folders that they are in, here and on Dropbox."""
    found: dict[int, Row] = {}
    waiting = list(wanted)
    while waiting:
        ino = waiting.pop()
        row = None if ino in found or ino == ROOT_INO else _one(source, "inode", "ino", ino)
        if row is not None:
            found[ino] = row
            waiting += [row[above] for above in ("parent", "base_parent") if row[above] is not None]
    return found


def _insert_inodes(database: Database, inodes: dict[int, Row]) -> set[int]:
    """Insert them so that the tree is whole: what lost its folder goes to the top."""
    known = {*inodes, ROOT_INO}
    saved = set()
    for ino, row in inodes.items():
        row = {name: row.get(name) for name in Inode.__struct_fields__}
        if row["parent"] is not None and row["parent"] not in known:
            row["parent"] = ROOT_INO
        if row["seen"] == LIMBO or (
            row["base_parent"] is not None and row["base_parent"] not in known
        ):
            row |= NO_BASE
        on_dropbox = row["base_parent"] is not None
        row |= {"seen": 0, "listed": 0 if row["kind"] == FOLDER and on_dropbox else 1}
        if _insert(database, "inode", row):
            saved.add(ino)
    return saved


def _insert(database: Database, table: str, row: Row) -> bool:
    """Whether the row could be inserted; one that contradicts others is left out."""
    columns = {
        name: STORAGE[declared]
        for _, name, declared, *_ in database.execute(f"PRAGMA table_info({table})")
    }
    kept = {name: value for name, value in row.items() if name in columns and name != "seq"}
    if not all(value is None or isinstance(value, columns[name]) for name, value in kept.items()):
        log.warning("a row of %s could not be saved: it has values that cannot be", table)
        return False
    try:
        database.execute(
            f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({', '.join('?' * len(kept))})",  # noqa: S608
            *kept.values(),
        )
    except sqlite3.IntegrityError as error:
        log.warning("a row of %s could not be saved: %s", table, error)
        return False
    return True


# ---- Staging files that are gone or cut short ----


def mend_staging(tree: Tree, staging: Staging, folder: Path, recovered: Path) -> Iterator[str]:
    """Bring the tree into agreement with the staging files that are there; says what was lost.

    A power cut takes what was closed but not synced, as on any file system. Bytes that are not
    there must not become zeros on Dropbox: what Dropbox has of the file is shown again, and the
    rest of what was written is put into `recovered`. A file that Dropbox never had keeps as much
    as there is. Blocks.
    """
    rows = tree.database.execute("SELECT ino, file, extents FROM staging").fetchall()
    for ino, file, extents in rows:
        path, inode = folder / file, tree.find(ino)
        there = path.stat().st_size if path.exists() else 0
        try:
            written = Ranges.from_bytes(extents)
        except (ValueError, TypeError):  # a database that was damaged
            written = Ranges([(0, there + 1)])
        if inode is None or there >= written.end:
            continue
        name = tree.shown_path(ino)
        if inode.rev is not None:
            if there:
                recovered.mkdir(mode=0o700, exist_ok=True)
                shutil.move(path, recovered / file)
            _take_back(tree, staging, inode)
            yield f"{name}: what was written last is gone; what Dropbox has of it is shown again"
        else:
            _keep_the_rest(tree, ino, path, there, written)
            yield f"{name}: of {written.end} bytes that were written {there} are left"


def _take_back(tree: Tree, staging: Staging, inode: Inode) -> None:
    with tree.database.transaction():
        staging.discard(inode.ino)
        tree.update(inode.ino, size=inode.base_size or 0, mtime_ns=inode.base_mtime_ns or 0)
        if not inode.on_dropbox:
            staging.hold(tree.get(inode.ino))


def _keep_the_rest(tree: Tree, ino: int, path: Path, there: int, written: Ranges) -> None:
    path.touch(mode=0o600)
    with tree.database.transaction():
        tree.update(ino, size=there)
        tree.database.execute(
            "UPDATE staging SET extents = ?, base_limit = 0 WHERE ino = ?",
            written.clip(there).to_bytes(),
            ino,
        )
        tree.mark_pending(ino)
