"""The account's SQLite database: the one authority on its schema.

Everything but the bytes of files lives here, so that the account survives a restart. All calls
are made from the event loop: they are short, and one writer at a time is what Dropbox promises
per namespace anyway. Bytes are files beside the database (`content.py`).

All keys are *physical*: one key space holds the whole team space, and the member's home is the
folder `HOME` in it. A view (home, team root, `ns:`) is a prefix of that space, so that nothing
has to be renamed when an account joins a team.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

HOME = "/Demo User"
"""The display path of the member's home folder in the physical key space; plain ASCII."""

HOME_KEY = HOME.lower()

VERSION = 1

SCHEMA = """
-- What exists now. `key` is the folded path, `parent` the key of its folder.
CREATE TABLE entries (
    key     TEXT PRIMARY KEY,
    parent  TEXT NOT NULL,
    name    TEXT NOT NULL,      -- last component, in the case it was created with
    display TEXT NOT NULL,      -- whole path; only the last component's case is reliable
    folder  INTEGER NOT NULL,   -- 1 folder, 0 file
    fid     INTEGER NOT NULL,   -- identity; survives moves
    rev     INTEGER NOT NULL,   -- change number that made this content or place; 0 for folders
    size    INTEGER NOT NULL,   -- bytes; 0 for folders
    hash    TEXT NOT NULL,      -- content hash; '' for folders
    client_modified INTEGER NOT NULL,   -- seconds since the epoch
    server_modified INTEGER NOT NULL,
    document TEXT NOT NULL,     -- '' or the format a document that cannot be downloaded exports to
    seq     INTEGER NOT NULL    -- the change in `log` that describes the present state
) WITHOUT ROWID;
CREATE INDEX entries_parent ON entries (parent);
CREATE UNIQUE INDEX entries_fid ON entries (fid);
CREATE INDEX entries_rev ON entries (rev) WHERE rev > 0;

-- The change feed. An 'update' is reported with what `entries` says now, and only by its latest
-- row; a 'delete' stands for the path and everything below it.
CREATE TABLE log (
    seq     INTEGER PRIMARY KEY,
    deleted INTEGER NOT NULL,
    key     TEXT NOT NULL,
    parent  TEXT NOT NULL,
    name    TEXT NOT NULL,      -- '' for updates
    display TEXT NOT NULL
);

-- Revisions that are no more: replaced, moved away or deleted.
CREATE TABLE history (
    key     TEXT NOT NULL,      -- the columns of `entries`, in its order, without seq
    parent  TEXT NOT NULL,
    name    TEXT NOT NULL,
    display TEXT NOT NULL,
    folder  INTEGER NOT NULL,
    fid     INTEGER NOT NULL,
    rev     INTEGER PRIMARY KEY,
    size    INTEGER NOT NULL,
    hash    TEXT NOT NULL,
    client_modified INTEGER NOT NULL,
    server_modified INTEGER NOT NULL,
    document TEXT NOT NULL,
    gone    INTEGER NOT NULL    -- when; seconds since the epoch
);
CREATE INDEX history_key ON history (key, rev);
CREATE INDEX history_fid ON history (fid, rev);

-- Paths where something was and nothing is (include_deleted).
CREATE TABLE tombs (
    key     TEXT PRIMARY KEY,
    parent  TEXT NOT NULL,
    name    TEXT NOT NULL,
    display TEXT NOT NULL,
    gone    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombs_parent ON tombs (parent);

-- Properties and their templates.
CREATE TABLE templates (id TEXT PRIMARY KEY, name TEXT, description TEXT, fields TEXT) STRICT;
CREATE TABLE properties (
    fid INTEGER NOT NULL, template TEXT NOT NULL, fields TEXT NOT NULL, -- JSON {name: value}
    PRIMARY KEY (fid, template)
) WITHOUT ROWID;

-- Upload sessions; their bytes are files of the same name in sessions/.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, concurrent INTEGER NOT NULL, closed INTEGER NOT NULL,
    committed INTEGER NOT NULL, size INTEGER NOT NULL, -- sequential: bytes taken so far
    final INTEGER,                                     -- concurrent: where the closing piece ends
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE pieces (
    session TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
    PRIMARY KEY (session, start)
) WITHOUT ROWID;

CREATE TABLE shares (
    id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, access TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE links (
    url TEXT PRIMARY KEY, fid INTEGER NOT NULL, visibility TEXT NOT NULL, password TEXT,
    expires INTEGER, created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, ready REAL NOT NULL, result BLOB NOT NULL
) WITHOUT ROWID;

-- OAuth: secrets that were handed out.
CREATE TABLE codes (
    code TEXT PRIMARY KEY, redirect TEXT NOT NULL, challenge TEXT NOT NULL, method TEXT NOT NULL,
    offline INTEGER NOT NULL, scope TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE refresh_tokens (
    token TEXT PRIMARY KEY, scope TEXT NOT NULL, pkce INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE access_tokens (
    token TEXT PRIMARY KEY, scope TEXT NOT NULL, refresh TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE temporary_links (
    token TEXT PRIMARY KEY, rev INTEGER NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class UnusableError(Exception):
    """The data folder holds something that this version cannot read."""


def open_database(path: Path) -> sqlite3.Connection:
    """Opens or makes the database. No implicit transactions. Raises UnusableError."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise UnusableError(f"{path} is not readable: {error}") from None
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -65536")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version != VERSION:
        raise sqlite3.DatabaseError("another version of the embedded Dropbox made it")


def setting(connection: sqlite3.Connection, name: str, default: str) -> str:
    """A setting; `default` is kept if there is none yet."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    if row is None:
        store_setting(connection, name, default)
        return default
    return str(row[0])


SYMLINK = "symlink "
"""Begins the name of a setting that holds a symbolic link's target; the identity follows."""


def symlinks(connection: sqlite3.Connection) -> dict[int, str]:
    """The targets of symbolic links, by identity."""
    rows = connection.execute(
        "SELECT name, value FROM settings WHERE name LIKE ?", (f"{SYMLINK}%",)
    )
    return {int(name.removeprefix(SYMLINK)): value for name, value in rows}


def store_setting(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Sets a setting."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
