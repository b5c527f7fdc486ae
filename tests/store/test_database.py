"""The database: transactions, damage, versions, and what it takes to open it again."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from dbxfs.store import schema
from dbxfs.store.database import Database, DatabaseDamagedError, DatabaseNewerError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tree.db"


def test_an_exception_rolls_back_the_outermost_transaction(path: Path) -> None:
    database = Database(path)
    done: list[str] = []

    def fail_inside() -> None:
        with database.transaction():
            database.set_meta("a", "1")
            with database.transaction():
                database.set_meta("b", "2")
                database.after_commit(lambda: done.append("after"))
            raise LookupError

    with pytest.raises(LookupError):
        fail_inside()
    assert database.get_meta("a") is None
    assert database.get_meta("b") is None
    assert done == []
    database.close()


def test_what_waits_for_the_commit_comes_after_it(path: Path) -> None:
    database = Database(path)
    seen: list[bool] = []
    with database.transaction():
        database.set_meta("a", "1")
        database.after_commit(lambda: seen.append(database._connection.in_transaction))
        assert seen == []
    assert seen == [False]
    database.close()


def test_a_kill_loses_nothing_that_was_committed(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.set_meta("a", "1")
    # No close: the next start finds the log as a kill leaves it.
    other = Database(path)
    assert other.get_meta("a") == "1"
    other.close()
    database.close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"\0" * 8192])
def test_another_file_is_called_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatabaseDamagedError):
        Database(path)


def test_a_database_of_another_program_is_not_touched(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseDamagedError, match="not a dbxfs database"):
        Database(path)


def test_a_truncated_or_flipped_database_is_called_damaged(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        for number in range(3000):
            database.set_meta(f"key {number}", "value" * 20)
    database.close()
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:8192] + b"\xff" * 4096 + whole[12288:]):
        path.write_bytes(broken)
        # Not closed cleanly: this is what makes the next start look.
        connection = sqlite3.connect(path)
        try:
            connection.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
            connection.commit()
        except sqlite3.DatabaseError:
            pass
        finally:
            connection.close()
        with pytest.raises(DatabaseDamagedError):
            Database(path)


def schema_of(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        return sorted(
            (table, column[1])
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})")
        )


UNDONE = {
    7: ["ALTER TABLE inode DROP COLUMN atime_ns"],
    6: [
        f"ALTER TABLE inode DROP COLUMN {column}"
        for column in (
            "uid",
            "gid",
            "link",
            "xattrs",
            "mtime_set",
            "attributes_refused",
            "base_attributes",
        )
    ],
    5: ["ALTER TABLE inode DROP COLUMN export_as"],
    4: ["DROP TABLE pin"],
    3: [
        "DROP INDEX inode_hash",
        "DROP TABLE part",
        "DROP TABLE session",
        "CREATE TABLE session (ino INTEGER PRIMARY KEY REFERENCES staging (ino),"
        " session TEXT NOT NULL, sent INTEGER NOT NULL, hash TEXT NOT NULL)",
    ],
    2: [
        "DROP TABLE moved",
        "DROP TABLE sent",
        "DROP TABLE journal",
        "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, ino INTEGER NOT NULL"
        " UNIQUE REFERENCES inode (ino), since_ns INTEGER NOT NULL, attempts INTEGER NOT NULL"
        " DEFAULT 0, error TEXT, shown_rev TEXT)",
    ],
}
"""What takes a version's news away again."""


def as_version(version: int, path: Path) -> None:
    """Make a new database what an old version would have left."""
    Database(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for later in range(schema.VERSION, version, -1):
            for statement in UNDONE[later]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_a_database_of_an_old_version_becomes_one_of_this(
    path: Path, tmp_path: Path, version: int
) -> None:
    as_version(version, path)
    Database(path).close()
    Database(tmp_path / "new.db").close()
    assert schema_of(path) == schema_of(tmp_path / "new.db")


def test_a_migration_that_fails_halfway_leaves_the_old_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_version(1, path)
    before = schema_of(path)
    monkeypatch.setitem(
        schema.MIGRATIONS, 1, f"{schema.MIGRATIONS[1]}\nINSERT INTO nowhere VALUES (1);"
    )
    with pytest.raises(sqlite3.OperationalError):
        Database(path)
    assert schema_of(path) == before
    monkeypatch.undo()
    Database(path).close()


def test_a_later_version_is_refused_by_name_and_left_alone(path: Path) -> None:
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(DatabaseNewerError, match="999"):
        Database(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (999,)
    connection.close()


def test_syncing_keeps_the_locks_that_keep_others_out(path: Path) -> None:
    """Closing any descriptor of the file would drop SQLite's locks on it."""
    database = Database(path)
    with database.transaction():
        database.set_meta("a", "1")
    worker = threading.Thread(target=database.sync)
    worker.start()
    worker.join()
    assert path.with_name("tree.db-wal").exists()
    with database.transaction():
        database.set_meta("b", "2")
    other = Database(path)
    assert other.get_meta("b") == "2"
    other.close()
    database.close()


def test_the_log_is_folded_in_by_another_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbxfs.store.database.WAL_CHECKPOINT_BYTES", 100_000)
    database = Database(path)
    with database.transaction():
        for number in range(2_000):
            database.set_meta(f"key {number}", "value" * 20)
    before = path.stat().st_size
    worker = threading.Thread(target=database.checkpoint)
    worker.start()
    worker.join()
    assert path.stat().st_size > before
    database.close()
