"""Whatever lies where the database should be, a mount starts, or says in a line why it does not.

Bytes flipped, pieces cut out or doubled, the file cut short, another file altogether, another
version, rubbish in the log beside it: `open_state` gives a database that works (a new one, with
what could be saved, where the old one is set aside), and what comes right after it at every start
works with that. What was staged is then in the tree or in the folder of what was recovered.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dbxfs.cli.folders import Folders
from dbxfs.cli.options import MountOptions
from dbxfs.cli.state import open_state
from dbxfs.store.database import DatabaseNewerError, is_damage
from dbxfs.store.inode import ROOT_INO
from dbxfs.store.journal import Journal
from dbxfs.store.tree import Tree, TreeError
from tests.fakes import FakeDropbox
from tests.store.mount import Mount

FUZZ = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class State:
    """A mount's state folder as a kill has left it, to be copied for each case."""

    sound: Path
    scratch: Path
    cases: int = 0

    def copy(self) -> Folders:
        """A fresh one to spoil."""
        self.cases += 1
        place = self.scratch / str(self.cases)
        shutil.copytree(self.sound, place)
        (place / "cache").mkdir()
        return Folders(state=place, cache=place / "cache")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    """Thirty files, some of them edited here and not sent; part of it in the log only."""
    dropbox = FakeDropbox()
    mount = Mount(tmp_path_factory.mktemp("sound"), dropbox)
    for number in range(30):
        dropbox.write(f"/d{number % 7}/f{number}", b"base")
    mount.follow()
    connection = sqlite3.connect(mount.folder / "tree.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for number in range(0, 30, 3):
        mount.write(f"/d{number % 7}/f{number}", f"<{number}>".encode())
    sound = tmp_path_factory.mktemp("copies") / "sound"
    # While it is open, as after a kill: the log is there.
    shutil.copytree(mount.folder, sound)
    (sound / "tree.db-shm").unlink()
    mount.close()
    return State(sound, tmp_path_factory.mktemp("scratch"))


def start(folders: Folders) -> None:
    """What every start does with the database, and then the programs and the replicator.

    What comes to light only while the mount runs is logged there, and mended by the next start.
    """
    tree, staging = open_state(folders, MountOptions(mountpoint=folders.state))
    with contextlib.closing(tree.database), contextlib.closing(staging):
        try:
            use(tree)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            tree.database.trusted = False


def use(tree: Tree) -> None:
    """Look at all that is there."""
    journal = Journal(tree)
    for row in journal.rows():
        # The replicator holds such an inode and goes on with the others.
        with contextlib.suppress(TreeError, TypeError):
            journal.facts(row.ino)
    waiting, seen = [ROOT_INO], set()
    while waiting:
        for inode in tree.children(waiting.pop()):
            if inode.is_folder and inode.ino not in seen:
                seen.add(inode.ino)
                waiting.append(inode.ino)


def saved(folders: Folders) -> set[bytes]:
    """All bytes that are still staged or were put aside."""
    kept = [folders.staging]
    if folders.recovered.exists():
        kept.append(folders.recovered)
    return {path.read_bytes() for folder in kept for path in folder.iterdir()}


def spoiled_start(state: State, spoil: Callable[[Path], None], *, keeps: bool = True) -> None:
    """Spoil a copy, start over it twice: the second start finds nothing left to complain of."""
    folders = state.copy()
    before = saved(folders)
    spoil(folders.database)
    try:
        start(folders)
        start(folders)
        assert saved(folders) >= before or not keeps
    except DatabaseNewerError:
        # What the daemon reports in a line.
        assert saved(folders) >= before
    finally:
        shutil.rmtree(folders.state)


def in_place(at: int, data: bytes, name: str = "") -> Callable[[Path], None]:
    """Write bytes over others at a place, counted round the file's end."""

    def spoil(path: Path) -> None:
        target = path.with_name(path.name + name)
        with target.open("r+b") as file:
            file.seek(at % max(1, target.stat().st_size))
            file.write(data)

    return spoil


places = st.integers(0, 2**20)
patches = st.lists(st.tuples(places, st.binary(min_size=1, max_size=64)), min_size=1, max_size=6)


@FUZZ
@given(patches)
@example([(60442, b"\x80")])
@example([(41, b"\x00\x00\x00\x00\x00\x00\x05")])
@example([(18, b"\x09")])
@example([(16, b"\x00\x00")])
def test_bytes_flipped_in_the_database(state: State, damage: list[tuple[int, bytes]]) -> None:
    def spoil(path: Path) -> None:
        for at, data in damage:
            in_place(at, data)(path)

    spoiled_start(state, spoil)


@FUZZ
@given(patches)
def test_bytes_flipped_in_its_log(state: State, damage: list[tuple[int, bytes]]) -> None:
    def spoil(path: Path) -> None:
        for at, data in damage:
            in_place(at, data, "-wal")(path)

    spoiled_start(state, spoil)


@FUZZ
@given(places, st.sampled_from(["", "-wal"]))
def test_a_file_cut_short(state: State, size: int, name: str) -> None:
    def spoil(path: Path) -> None:
        target = path.with_name(path.name + name)
        with target.open("r+b") as file:
            file.truncate(size % target.stat().st_size)

    spoiled_start(state, spoil)


@FUZZ
@given(st.binary(max_size=5000), st.sampled_from(["", "-wal", "-shm", "-journal"]))
def test_rubbish_in_place_of_a_file(state: State, rubbish: bytes, name: str) -> None:
    spoiled_start(state, lambda path: bool(path.with_name(path.name + name).write_bytes(rubbish)))


@FUZZ
@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 20))
def test_pages_swapped_and_doubled(state: State, source: int, target: int, pages: int) -> None:
    def spoil(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        count = len(raw) // 4096
        at, to = source % count * 4096, target % count * 4096
        raw[to : to + pages * 4096] = raw[at : at + pages * 4096]
        path.write_bytes(raw)

    spoiled_start(state, spoil)


@FUZZ
@given(st.integers(-(2**31), 2**31 - 1))
def test_another_version(state: State, version: int) -> None:
    spoiled_start(state, changed(f"PRAGMA user_version = {version}"))


TABLES = ["inode", "staging", "session", "journal", "superseded", "moved", "meta"]
COLUMNS = ["ino", "parent", "name", "kind", "size", "extents", "file", "value", "seen", "seq", "id"]


def changed(*statements: str) -> Callable[[Path], None]:
    """Change the database by SQL, as another program could."""

    def spoil(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            with contextlib.suppress(sqlite3.Error):
                connection.execute(statement)
        connection.commit()
        connection.close()

    return spoil


@FUZZ
@given(st.lists(st.sampled_from(TABLES), min_size=1, unique=True))
def test_tables_that_are_gone(state: State, tables: list[str]) -> None:
    spoiled_start(state, changed(*(f"DROP TABLE {table}" for table in tables)))


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.sampled_from(TABLES),
            st.sampled_from(COLUMNS),
            st.sampled_from(["NULL", "-1", "'x'", "x'ff80'", "1e300", "CAST(x'80ff' AS TEXT)"]),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_values_that_cannot_be(state: State, values: list[tuple[str, str, str, int]]) -> None:
    statements = [
        f"UPDATE {table} SET {column} = {value} WHERE rowid = {row}"  # noqa: S608
        for table, column, value, row in values
    ]
    spoiled_start(state, changed(*statements), keeps=False)


@pytest.mark.parametrize("kind", ["folder", "link", "dangling", "device"])
def test_no_file_at_all(state: State, kind: str) -> None:
    folders = state.copy()
    path = folders.database
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("elsewhere")
        case "device":
            path.symlink_to("/dev/null")
    with contextlib.suppress(sqlite3.Error, OSError):
        start(folders)
