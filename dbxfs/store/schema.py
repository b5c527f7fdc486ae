"""The database schema: the one authority on what is stored and what it means.

One SQLite database per mount holds three things that must agree: the tree, the feed's cursor and
the journal of what Dropbox does not know yet. They share a database so that one transaction can
change two of them: a local rename and its journal row; a page of the feed and its cursor.

**Local = base plus pending.** An inode row holds both states side by side: the *base* columns
say what Dropbox last confirmed, the *local* columns what programs see. A row in `journal` says
that the two differ; *what* is to be sent is not stored but computed from the difference when its
turn comes (`core.plan`). A log of operations was rejected: it has to be coalesced before it is
sent (create then delete, rename chains, editor saves), and each rule of that is a chance to lose
something, while a difference of two states has nothing to coalesce.

Rejected too: leaving out the base place where it equals the local place. It would save an index
of some 40 MB in a million files and cost every query a second case.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterable

VERSION = 7
"""`PRAGMA user_version`; raise it together with a step in `MIGRATIONS`."""

_TABLES = """
CREATE TABLE inode (
    -- The kernel's number. 1 is the root. AUTOINCREMENT: never used twice, so that a number that
    -- a program remembers cannot come to mean another file.
    ino INTEGER PRIMARY KEY AUTOINCREMENT,

    -- Local: what programs see. ------------------------------------------------------------
    -- Folder that it is in. NULL: unlinked; the row stays while Dropbox still has it (the
    -- deletion is pending), while the feed may bring it back elsewhere (see seen), or while a
    -- program holds it open.
    parent INTEGER,
    -- The name as shown, and the key by which names are the same (core.names.fold).
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    -- 0 file, 1 folder, 2 socket (it never leaves this computer). Never changes: another kind at
    -- the same name is another inode.
    kind INTEGER NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    -- When it was last accessed, as a program said; it stays on this computer. NULL: at mtime_ns.
    atime_ns INTEGER,
    -- Permission bits that a program set, here or elsewhere; NULL: the mount's default.
    mode INTEGER,
    -- 1: Dropbox lets nobody write here.
    read_only INTEGER NOT NULL DEFAULT 0,
    -- 0: there are no bytes to download (an online document).
    downloadable INTEGER NOT NULL DEFAULT 1,
    -- The format that such a document is exported to; NULL: none that is known.
    export_as TEXT,
    -- Folder, while the first crawl goes on: 1 when all its children are known.
    listed INTEGER NOT NULL DEFAULT 0,
    -- Owner and group that root's mount for many shows; NULL: the mount's own.
    uid INTEGER,
    gid INTEGER,
    -- A symbolic link's target; NULL: a plain file. On Dropbox it is also the file's content.
    link BLOB,
    -- The extended attributes of programs (core.attributes.pack_xattrs); NULL: none.
    xattrs BLOB,
    -- Folder: 1 when mtime_ns was set by a program, so that Dropbox is to have it when something
    -- else of the folder is sent; NULL: it is when the folder changed last.
    mtime_set INTEGER,
    -- 1: Dropbox has refused the present attributes; they are kept here only. Else NULL.
    attributes_refused INTEGER,

    -- Base: what Dropbox last confirmed. No id and no place: it does not have it. ------------
    id TEXT,
    base_parent INTEGER,
    base_name TEXT,
    base_key TEXT,
    -- Files only. They stay when Dropbox no longer has it, for who still reads it by its revision.
    rev TEXT,
    hash TEXT,
    base_size INTEGER,
    base_mtime_ns INTEGER,
    -- The fields of our property group that it has (core.attributes), as JSON; NULL: none.
    base_attributes TEXT,

    -- The crawl (meta.epoch) that saw it last. -1: the feed removed it, and a later entry of
    -- the same batch may bring it back elsewhere with the same id: a move.
    seen INTEGER NOT NULL DEFAULT 0
);
-- One entry a name and folder; two names that fold to one key cannot live side by side.
CREATE UNIQUE INDEX inode_place ON inode (parent, key);
-- Listing in inode order, so that a position in a folder stays good while the folder changes.
CREATE INDEX inode_listing ON inode (parent);
-- Where the feed's paths lead.
CREATE UNIQUE INDEX inode_base_place ON inode (base_parent, base_key);
CREATE UNIQUE INDEX inode_id ON inode (id);
CREATE INDEX inode_limbo ON inode (seen) WHERE seen < 0;
CREATE INDEX inode_orphan ON inode (ino) WHERE parent IS NULL;

CREATE TABLE staging (
    -- Content that Dropbox does not have yet; one staging file an inode.
    ino INTEGER PRIMARY KEY REFERENCES inode (ino),
    -- Its name in the staging folder.
    file TEXT NOT NULL UNIQUE,
    -- The version that it was made from: the commit names it, and bytes that nobody wrote are
    -- read from it. NULL: made from nothing.
    from_rev TEXT,
    from_hash TEXT,
    from_size INTEGER,
    -- Of that version, [0, base_limit) shows through where `extents` does not cover it.
    base_limit INTEGER NOT NULL,
    -- The ranges that the staging file holds (core.ranges).
    extents BLOB NOT NULL,
    -- The content hash that a commit was last tried with. When the feed shows it, that was our
    -- own commit, though its reply may never have come.
    sent_hash TEXT
);

CREATE TABLE journal (
    -- The order in which the work came.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Whose local state differs from its base; one row an inode.
    ino INTEGER NOT NULL UNIQUE REFERENCES inode (ino),
    -- When it began to differ, ns since the epoch.
    since_ns INTEGER NOT NULL,
    -- How often Dropbox refused it, and its last reason, for people. Cleared by a new change.
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    -- The revision that programs have seen last, where Dropbox has had another one since and
    -- pending content hides it. A deletion names it, so that what nobody saw stays.
    shown_rev TEXT,
    -- What kind of refusal `error` is (core.refusals), where that is known.
    code TEXT
);

CREATE TABLE superseded (
    -- Revisions (and ids of removed folders) that our own commits have replaced. The feed and a
    -- crawl can bring them late; they must not turn the clock back.
    token TEXT PRIMARY KEY,
    at_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE meta (
    -- cursor, epoch, crawl ("running", "done"), account, space_used, space_allocated; templates:
    -- the ids of our property template, the one that is written to first; attributes_from:
    -- up to which inode was looked for what was not sent while there was none; listed_templates:
    -- those whose groups come with the cursor.
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

INSERT INTO inode (ino, parent, name, key, kind, mtime_ns, ctime_ns) VALUES (1, 0, '', '', 1, 0, 0);
"""

MOVED = """
CREATE TABLE moved (
    -- Where Dropbox had a folder that our own moves have taken elsewhere since the feed was last
    -- followed to its end: what was deleted in it before is told by this path (lower case).
    path TEXT PRIMARY KEY,
    ino INTEGER NOT NULL
) WITHOUT ROWID;
"""

SENT = """
CREATE TABLE sent (
    -- Files and folders whose making was sent and not answered (store.sent).
    ino INTEGER PRIMARY KEY REFERENCES inode (ino),
    -- Where, in terms of the base place; and the content hash, empty for a folder.
    parent INTEGER NOT NULL,
    key TEXT NOT NULL,
    hash TEXT NOT NULL,
    at_ns INTEGER NOT NULL
);
CREATE INDEX sent_place ON sent (parent, key);
"""

SESSION = """
CREATE TABLE session (
    -- An upload session under way: where to go on after a restart.
    ino INTEGER PRIMARY KEY REFERENCES staging (ino),
    session TEXT NOT NULL,
    -- Bytes of each of its parts but the last.
    part_size INTEGER NOT NULL
);

CREATE TABLE part (
    -- What Dropbox has confirmed of a session, and the content hash of those bytes: as long as they
    -- are what is to be sent there, they need not be sent again.
    ino INTEGER NOT NULL REFERENCES session (ino),
    start INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (ino, start)
) WITHOUT ROWID;
CREATE TRIGGER session_gone AFTER DELETE ON session BEGIN
    DELETE FROM part WHERE ino = OLD.ino;
END;

-- Who has a content already: by the beginning of its hash, which is enough to find it.
CREATE INDEX inode_hash ON inode (substr(hash, 1, 10)) WHERE hash NOT NULL;
"""

PIN = """
CREATE TABLE pin (
    -- Files and folders that programs or people want here complete; in a folder, all that is in it.
    ino INTEGER PRIMARY KEY REFERENCES inode (ino)
);
"""

EXPORT = "ALTER TABLE inode ADD COLUMN export_as TEXT;"

ATTRIBUTES = """
ALTER TABLE inode ADD COLUMN uid INTEGER;
ALTER TABLE inode ADD COLUMN gid INTEGER;
ALTER TABLE inode ADD COLUMN link BLOB;
ALTER TABLE inode ADD COLUMN xattrs BLOB;
ALTER TABLE inode ADD COLUMN mtime_set INTEGER;
ALTER TABLE inode ADD COLUMN attributes_refused INTEGER;
ALTER TABLE inode ADD COLUMN base_attributes TEXT;
"""

ATIME = "ALTER TABLE inode ADD COLUMN atime_ns INTEGER;"

CREATE = _TABLES + MOVED + SENT + SESSION + PIN

MIGRATIONS: dict[int, str] = {
    1: MOVED + SENT + "ALTER TABLE journal ADD COLUMN code TEXT;",
    2: "DROP TABLE session;" + SESSION,
    3: PIN,
    4: EXPORT,
    5: ATTRIBUTES,
    6: ATIME,
}
"""From version N to N + 1."""


def missing(connection: sqlite3.Connection) -> list[str]:
    """What a database of this version lacks, in people's words; also the root's row."""
    found = sorted(_wanted() - _parts(connection))
    if not found and connection.execute("SELECT 1 FROM inode WHERE ino = 1").fetchone() is None:
        found.append("the root's row")
    return found


@functools.cache
def _wanted() -> frozenset[str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(CREATE)
        return frozenset(_parts(connection))


def _parts(connection: sqlite3.Connection) -> set[str]:
    """Tables, indexes and columns."""
    rows = connection.execute(
        "SELECT type || ' ' || name FROM sqlite_master WHERE sql NOT NULL UNION ALL"
        " SELECT 'column ' || t.name || '.' || c.name FROM sqlite_master t,"
        " pragma_table_info(t.name) c WHERE t.type = 'table'"
    )
    return {part for (part,) in rows}


STORAGE = {"INTEGER": int, "TEXT": str, "BLOB": bytes}
"""Declared types, and what Python gets of them."""

SMALL = ("staging", "session", "journal", "meta")
"""Tables of a few rows; the tree is not among them."""


def misfits(connection: sqlite3.Connection, tables: Iterable[str]) -> list[str]:
    """Tables that hold values of another type than they declare: SQLite itself lets them pass."""
    found = []
    for table in tables:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        wrong = " OR ".join(
            f"typeof({name}) NOT IN ('{declared.lower()}', 'null')"
            for _, name, declared, *_ in columns
        )
        row = connection.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1")  # noqa: S608
        if row.fetchone() is not None:
            found.append(table)
    return found
