"""The SQLite database of a mount: opening, checking, transactions, and what makes them durable.

The connection belongs to the event loop's thread: a query by key costs some microseconds, less
than the hop to a thread. What can take long does not happen on it. A commit in WAL mode with
`synchronous=NORMAL` is a write into the page cache; syncing the log (`sync`) and moving it into
the database (`checkpoint`) use files and connections of their own and are called from threads.

A transaction is a plain `with` block, so nothing can be awaited inside one. Blocks nest: the
outermost one commits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import schema

log = logging.getLogger(__name__)

WAL_CHECKPOINT_BYTES = 16 * 1024 * 1024


class DatabaseDamagedError(Exception):
    """The file is no usable dbxfs database; `str()` says why."""


class DatabaseNewerError(Exception):
    """The file was written by a later version of dbxfs; it must not be touched."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What Dropbox does not have."""

    changes: int
    held: int
    """Those that Dropbox has refused."""
    size: int
    """Bytes of the files that are to be sent."""
    local: int
    """Files that are not to be sent at all."""


class Database:
    """The open database of one mount."""

    def __init__(self, path: Path) -> None:
        """Open or create the database at `path`.

        Raises `DatabaseDamagedError` when it cannot be trusted, `DatabaseNewerError` when it is
        of a later version, `OSError`/`sqlite3.OperationalError` when the disk refuses.
        """
        self.path = path
        self.trusted = True
        """False when damage was seen: the next start looks for it, and sets the file aside."""
        self._depth = 0
        self._descriptors: list[int] = []
        self._after: list[Callable[[], object]] = []
        self._meta: dict[str, str | None] = {}
        self.rolled_back: list[Callable[[], object]] = [self._meta.clear]
        """Called after a rollback: what was read or made within the transaction is void."""
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(
            path, timeout=5, isolation_level=None, cached_statements=256
        )
        try:
            self._configure()
            self._prepare()
        except BaseException as error:
            self._connection.close()
            if is_damage(error) or self._claims_read_only(error):
                raise DatabaseDamagedError(str(error)) from error
            raise

    def _claims_read_only(self, error: BaseException) -> bool:
        """Whether only the file's own header says that it must not be written to."""
        code = getattr(error, "sqlite_errorcode", 0)
        return bool(code == sqlite3.SQLITE_READONLY and os.access(self.path, os.W_OK))

    def _configure(self) -> None:
        for setting in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "wal_autocheckpoint = 0",
            "cache_size = -16384",
            "temp_store = MEMORY",
        ):
            self._connection.execute(f"PRAGMA {setting}")

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise DatabaseNewerError(
                f"{self.path} was written by a later dbxfs (schema {version}, this one knows "
                f"{schema.VERSION}); install that version again"
            )
        if version < 0:
            raise DatabaseDamagedError(f"{self.path} is not a dbxfs database")
        if version == 0:
            if self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise DatabaseDamagedError(f"{self.path} is not a dbxfs database")
            with self.transaction():
                for statement in _statements(schema.CREATE):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        for step in range(version or schema.VERSION, schema.VERSION):
            with self.transaction():
                for statement in _statements(schema.MIGRATIONS[step]):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {step + 1}")
        if version:
            self._look_for_damage()
        self.set_meta("clean", "0")
        # Opened once and closed after the connection: closing any descriptor of the file would
        # drop the locks that SQLite holds on it (sqlite.org/howtocorrupt.html, 2.2).
        self._descriptors = [
            os.open(name, os.O_RDONLY | os.O_CLOEXEC) for name in (f"{self.path}-wal", self.path)
        ]

    def _look_for_damage(self) -> None:
        missing = schema.missing(self._connection)
        if missing:
            raise DatabaseDamagedError(f"{missing[0]} is missing")
        clean = self.get_meta("clean")
        if clean == "1":
            return
        # The longer check also compares the indexes with the rows.
        check = "integrity_check" if clean == "damaged" else "quick_check"
        (verdict,) = self._connection.execute(f"PRAGMA {check}(1)").fetchone()
        if verdict != "ok":
            raise DatabaseDamagedError(str(verdict))
        for table in schema.misfits(self._connection, schema.SMALL):
            raise DatabaseDamagedError(f"{table} has values that cannot be")

    def close(self) -> None:
        """Note whether all is in order, so that the next start need not check, and close."""
        with contextlib.suppress(sqlite3.Error):
            self.set_meta("clean", "1" if self.trusted else "damaged")
        self._connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; an exception rolls the outermost block back."""
        if self._depth:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._after.clear()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._depth = 0
            for action in self.rolled_back:
                action()
            raise
        finally:
            self._depth = 0
        after, self._after = self._after, []
        for action in after:
            action()

    def after_commit(self, action: Callable[[], object]) -> None:
        """Do something when the transaction under way is committed, and only then."""
        if self._depth:
            self._after.append(action)
        else:
            action()

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement with positional values."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.DatabaseError as error:
            self.trusted = self.trusted and not is_damage(error)
            raise

    def exists(self, table: str, ino: int) -> bool:
        """Whether the table has a row of that inode."""
        row = self.execute(f"SELECT 1 FROM {table} WHERE ino = ?", ino)  # noqa: S608
        return row.fetchone() is not None

    def get_meta(self, key: str) -> str | None:
        """One of the settings that belong to the tree as a whole, which are asked for often."""
        if key not in self._meta:
            row = self.execute("SELECT value FROM meta WHERE key = ?", key).fetchone()
            self._meta[key] = row[0] if row else None
        return self._meta[key]

    def set_meta(self, key: str, value: str | None) -> None:
        """Set it, or with None remove it."""
        if value is None:
            self.execute("DELETE FROM meta WHERE key = ?", key)
        else:
            self.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", key, value)
        self._meta[key] = value

    def sync(self) -> None:
        """Bring all committed transactions to the disk itself. Blocks: call it in a thread.

        A committed transaction is in the log file or already in the database file; syncing both
        covers a checkpoint that runs meanwhile.
        """
        for descriptor in self._descriptors:
            os.fdatasync(descriptor)

    def count(self, table: str) -> int:
        """How many rows a table has. Blocks for long when they are many: call it in a thread."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=1)) as connection:
            (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(rows)

    def backlog(self) -> Backlog:
        """How much is pending. As `count`."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=1)) as connection:
            changes, held, size = connection.execute(
                "SELECT count(*), count(error), coalesce(sum(iif(staging.ino, inode.size, 0)), 0)"
                " FROM journal JOIN inode USING (ino) LEFT JOIN staging USING (ino)"
            ).fetchone()
            (local,) = connection.execute(
                "SELECT count(*) FROM staging LEFT JOIN journal USING (ino)"
                " WHERE journal.ino IS NULL"
            ).fetchone()
        return Backlog(changes, held, size, local)

    def unsent(self) -> int:
        """Bytes by which Dropbox's files grow when all that is pending is sent. As `count`."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=1)) as connection:
            (size,) = connection.execute(
                "SELECT coalesce(sum(max(0, inode.size - coalesce(inode.base_size, 0))), 0)"
                " FROM journal JOIN staging USING (ino) JOIN inode USING (ino)"
            ).fetchone()
        return int(size)

    def checkpoint(self) -> None:
        """Move a grown log into the database file. Blocks: call it in a thread."""
        try:
            if os.path.getsize(f"{self.path}-wal") < WAL_CHECKPOINT_BYTES:
                return
        except FileNotFoundError:
            return
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=1)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            log.warning("the database's log cannot be folded in: %s", error)


def is_damage(error: BaseException) -> bool:
    """Whether the failure means that the file does not hold what was written to it."""
    if isinstance(error, UnicodeDecodeError):
        # sqlite3 cannot read SQLite's own message, which quotes the damaged schema.
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return True
    # These two have no code of their own.
    return "Could not decode" in str(error) or str(error) == "unsupported file format"


def _statements(script: str) -> Iterator[str]:
    """The script's statements one by one: `executescript` would commit behind our back."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
