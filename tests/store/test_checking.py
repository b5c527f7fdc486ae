"""Each rule of the store's check: a sound store breaks none, and each harm is told for what it is.

The harms are done to the rows and files of a closed mount, as a mistake of ours or of the disk
would, in an account that has something of everything: folders, clean, edited, renamed and deleted
files, an upload under way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dbxfs.store.checking import LISTED, Rule, StoreCheck
from dbxfs.store.sessions import Sessions
from tests.fakes import FakeDropbox

from .mount import Mount


@pytest.fixture
def store(tmp_path: Path, dropbox: FakeDropbox) -> Path:
    """The folder of a mount that was closed in the middle of its work."""
    for path in ("/d/clean", "/d/e/edited", "/d/deleted", "/moved", "/other"):
        dropbox.write(path, path.encode())
    mount = Mount(tmp_path, dropbox)
    mount.follow()
    mount.mkdir("/~$kept")
    mount.write("/~$kept/here", b"only")
    mount.drain()
    mount.append("/d/e/edited", b" and more")
    mount.unlink("/d/deleted")
    mount.rename("/moved", "/d/elsewhere")
    mount.mkdir("/new")
    mount.write("/new/file", b"0123456789")
    Sessions(mount.database).begin(mount.ino("/new/file"), "session", 4)
    mount.journal.refused(mount.ino("/new"), "no room")
    mount.close()
    return tmp_path


def findings(store: Path, **known: Callable[[int], bool]) -> set[tuple[Rule, str]]:
    """What the check finds: rule and path."""
    check = StoreCheck(store / "tree.db", store / "staging", **known)
    return {(finding.rule, finding.path) for finding in check.run()}


def change(store: Path, *statements: str) -> None:
    """Do something to the rows. `:d` stands for the folder's inode number, and so on."""
    connection = sqlite3.connect(store / "tree.db")
    inos = dict(connection.execute("SELECT name, ino FROM inode WHERE ino != 1"))
    for statement in statements:
        connection.execute(statement, inos)
    connection.commit()
    connection.close()


def staged_file(store: Path, name: str) -> Path:
    """The staging file of the file with that name."""
    connection = sqlite3.connect(store / "tree.db")
    row = connection.execute(
        "SELECT file FROM staging JOIN inode USING (ino) WHERE name = ?", (name,)
    )
    (file,) = row.fetchone()
    connection.close()
    return store / "staging" / str(file)


def test_a_store_in_the_middle_of_its_work_is_clean(store: Path) -> None:
    assert findings(store) == set()


HARMS = {
    "a folder that does not exist": (
        "UPDATE inode SET parent = 4711 WHERE ino = :clean",
        {(Rule.PARENT, "(inode 4711)/clean"), (Rule.NOT_PENDING, "(inode 4711)/clean")},
    ),
    "a file as a folder": (
        "UPDATE inode SET parent = :other, base_parent = :other WHERE ino = :clean",
        {(Rule.PARENT, "/other/clean"), (Rule.BASE, "/other/clean")},
    ),
    "below what was removed": (
        "UPDATE inode SET parent = NULL WHERE ino = :e",
        {(Rule.UNREACHABLE, "(removed) e/edited"), (Rule.NOT_PENDING, "(removed) e")},
    ),
    "a key that is not the name's": (
        "UPDATE inode SET key = 'clear' WHERE ino = :clean",
        {(Rule.KEY, "/d/clean")},
    ),
    "a key in the place of Dropbox that is not the name's": (
        "UPDATE inode SET base_key = 'clear' WHERE ino = :clean",
        {(Rule.BASE, "/d/clean")},
    ),
    "half a place": (
        "UPDATE inode SET base_name = NULL, base_key = NULL WHERE ino = :clean",
        {(Rule.BASE, "/d/clean")},
    ),
    "an id without a place": (
        "UPDATE inode SET base_parent = NULL, base_name = NULL, base_key = NULL WHERE ino = :e",
        {
            (Rule.BASE, "/d/e"),
            (Rule.BASE, "/d/e/edited"),
            (Rule.NOT_PENDING, "/d/e"),
        },
    ),
    "no revision": (
        "UPDATE inode SET rev = NULL WHERE ino = :clean",
        {(Rule.BASE, "/d/clean"), (Rule.NO_CONTENT, "/d/clean")},
    ),
    "a listing to come": (
        "UPDATE inode SET seen = 99 WHERE ino = :clean",
        {(Rule.BASE, "/d/clean")},
    ),
    "a rename forgotten": (
        "DELETE FROM journal WHERE ino = :elsewhere",
        {(Rule.NOT_PENDING, "/d/elsewhere")},
    ),
    "a deletion forgotten": (
        "DELETE FROM journal WHERE ino = :deleted",
        {(Rule.NOT_PENDING, "(removed) deleted")},
    ),
    "an edit forgotten": (
        "DELETE FROM journal WHERE ino = :edited",
        {(Rule.NOT_PENDING, "/d/e/edited")},
    ),
    "a new folder forgotten": (
        "DELETE FROM journal WHERE ino = :new",
        {(Rule.NOT_PENDING, "/new")},
    ),
    "held for nothing": (
        "INSERT INTO journal (ino, since_ns, error) VALUES (:clean, 0, 'no')",
        {(Rule.NOTHING_PENDING, "/d/clean")},
    ),
    "a journal row of nothing": (
        "INSERT INTO journal (ino, since_ns) VALUES (4711, 0)",
        {(Rule.ORPHAN, "(inode 4711)")},
    ),
    "a session of nothing": (
        "INSERT INTO session (ino, session, part_size) VALUES (:clean, 's', 4)",
        {(Rule.ORPHAN, "/d/clean")},
    ),
    "removed and not needed": (
        "INSERT INTO inode (parent, name, key, kind, mtime_ns, ctime_ns)"
        " VALUES (NULL, 'gone', 'gone', 0, 0, 0)",
        {(Rule.UNUSED, "(removed) gone")},
    ),
    "another size": (
        "UPDATE inode SET size = 1 WHERE ino = :clean",
        {(Rule.SIZE, "/d/clean")},
    ),
    "written beyond the end": (
        "UPDATE inode SET size = 3 WHERE ino = :file",
        {(Rule.STAGING_RANGES, "/new/file")},
    ),
    "more of the old version than there was": (
        "UPDATE staging SET base_limit = 99 WHERE ino = :edited",
        {(Rule.STAGING_RANGES, "/d/e/edited")},
    ),
    "ranges cut short": (
        "UPDATE staging SET extents = x'ff' WHERE ino = :file",
        {(Rule.STAGING_RANGES, "/new/file")},
    ),
    "no root": ("UPDATE inode SET parent = 4 WHERE ino = 1", {(Rule.ROOT, "")}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_each_harm_to_the_rows_is_told(store: Path, harm: str) -> None:
    statement, expected = HARMS[harm]
    change(store, statement)
    assert findings(store) == expected


def test_folders_in_a_circle_are_told_and_the_check_ends(store: Path) -> None:
    change(store, "UPDATE inode SET parent = :e, base_parent = :e WHERE ino = :d")
    told = findings(store)
    assert {rule for rule, _ in told} == {Rule.UNREACHABLE, Rule.BASE}
    assert (Rule.UNREACHABLE, "(in a circle)/d/e/edited") in told


def test_a_staged_row_without_its_inode_is_told_and_its_file_is_not_called_a_stray(
    store: Path,
) -> None:
    change(store, "DELETE FROM journal WHERE ino = :file", "DELETE FROM inode WHERE ino = :file")
    assert {rule for rule, _ in findings(store)} == {Rule.ORPHAN}


def test_a_missing_and_a_short_staging_file_are_told(store: Path) -> None:
    staged_file(store, "file").unlink()
    edited = staged_file(store, "edited")
    edited.write_bytes(edited.read_bytes()[:-1])
    assert findings(store) == {
        (Rule.STAGING_GONE, "/new/file"),
        (Rule.STAGING_SHORT, "/d/e/edited"),
    }
    assert findings(store, is_staged=lambda ino: True) == set()


def test_a_staging_file_without_a_row_is_told(store: Path) -> None:
    (store / "staging" / "stray").write_bytes(b"somebody's")
    (store / "staging" / "2-17a-1").write_bytes(b"somebody else's")
    assert findings(store) == {(Rule.STRAY, "stray"), (Rule.STRAY, "2-17a-1")}
    assert findings(store, is_staged=lambda ino: ino == 2) == {(Rule.STRAY, "stray")}


def test_what_a_program_still_has_open_is_not_called_unused(store: Path) -> None:
    change(store, HARMS["removed and not needed"][0])
    assert findings(store, in_use=lambda ino: True) == set()


def test_damage_in_an_index_is_told(store: Path) -> None:
    connection = sqlite3.connect(store / "tree.db")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master"
        " WHERE name = 'inode_id') WHERE name = 'inode_listing'"
    )
    connection.commit()
    connection.close()
    assert {rule for rule, _ in findings(store)} <= {Rule.DAMAGED, Rule.UNREADABLE} != set()
    assert findings(store)


def test_a_missing_index_is_told(store: Path) -> None:
    change(store, "DROP INDEX inode_listing")
    check = StoreCheck(store / "tree.db", store / "staging")
    assert [finding.detail for finding in check.run()] == ["index inode_listing is missing"]


def test_bytes_flipped_in_the_database_are_told_without_a_traceback(store: Path) -> None:
    size = (store / "tree.db").stat().st_size
    with (store / "tree.db").open("r+b") as file:
        for offset in range(4096, size, 512):
            file.seek(offset)
            file.write(b"\xff" * 64)
    assert {rule for rule, _ in findings(store)} <= {Rule.DAMAGED, Rule.UNREADABLE}
    assert findings(store)


MANY = (
    "WITH RECURSIVE n (n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)"
    " INSERT INTO journal (ino, since_ns) SELECT n, 0 FROM n"
)


def test_the_list_of_one_rule_has_an_end(store: Path) -> None:
    change(store, MANY)
    assert len(findings(store)) == LISTED


def test_a_check_can_be_interrupted(store: Path) -> None:
    change(store, MANY)
    check = StoreCheck(store / "tree.db", store / "staging")
    check.interrupt()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        check.run()
