"""After an accident: what can be saved is saved, and no byte is invented."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbxfs.store.database import Database, DatabaseDamagedError, DatabaseNewerError
from dbxfs.store.inode import ROOT_INO
from dbxfs.store.pins import Pins
from dbxfs.store.recovery import mend_staging, rescue
from tests.fakes import FakeDropbox

from .mount import Mount


def with_new_database(mount: Mount) -> None:
    """What the daemon does when the database is damaged."""
    mount.close()
    damaged = mount.folder / "damaged.db"
    (mount.folder / "tree.db").rename(damaged)
    database = Database(mount.folder / "tree.db")
    rescue(damaged, database)
    database.close()
    mount.open()
    assert mount.staging.recover_strays(mount.folder / "recovered") == []


def mend(mount: Mount) -> list[str]:
    """What the daemon does at its start."""
    mount.restart()
    staging = mount.folder / "staging"
    return list(mend_staging(mount.tree, mount.staging, staging, mount.folder / "recovered"))


def staged(mount: Mount, path: str) -> Path:
    (file,) = mount.database.execute(
        "SELECT file FROM staging WHERE ino = ?", mount.ino(path)
    ).fetchone()
    return mount.folder / "staging" / str(file)


# ---- A damaged database ----


def test_pins_outlive_the_loss_of_the_tree(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/d/e/f", b"f")
    dropbox.write("/g", b"g")
    mount.follow()
    for path in ("/d/e", "/g", ""):
        Pins(mount.tree).add(mount.ino(path) if path else ROOT_INO)
    with_new_database(mount)
    mount.follow()
    pins = Pins(mount.tree)
    assert pins.is_set(mount.ino("/d/e"))
    assert pins.is_set(mount.ino("/g"))
    assert pins.is_set(ROOT_INO)
    assert mount.read("/d/e/f") == b"f"


def test_pending_work_outlives_the_loss_of_the_tree(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/d/edited", b"old")
    dropbox.write("/d/removed", b"gone soon")
    dropbox.write("/d/moved", b"moved")
    dropbox.write("/clean", b"clean")
    mount.follow()
    same = dropbox.find("/d/edited").id
    mount.write("/d/edited", b"new")
    mount.write("/new", b"new")
    mount.mkdir("/folder")
    mount.mkdir("/folder/below")
    mount.write("/folder/below/f", b"f")
    mount.unlink("/d/removed")
    mount.rename("/d/moved", "/folder/moved")
    with_new_database(mount)
    mount.follow(limit=1)
    mount.settle()
    expected = {
        "/clean": b"clean",
        "/d": None,
        "/d/edited": b"new",
        "/folder": None,
        "/folder/below": None,
        "/folder/below/f": b"f",
        "/folder/moved": b"moved",
        "/new": b"new",
    }
    assert mount.paths() == dropbox.tree() == expected
    assert dropbox.find("/d/edited").id == same


def test_an_edit_made_elsewhere_meanwhile_is_a_conflict_and_not_overwritten(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    mount.write("/f", b"ours")
    dropbox.write("/f", b"theirs")
    with_new_database(mount)
    mount.follow()
    mount.settle()
    assert sorted(dropbox.tree().values(), key=str) == [b"ours", b"theirs"]
    assert dropbox.tree()["/f"] == b"theirs"


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=600)), max_size=6))
def test_whatever_is_damaged_staged_bytes_are_in_the_tree_or_put_aside(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]]
) -> None:
    dropbox = FakeDropbox()
    mount = Mount(tmp_path_factory.mktemp("m"), dropbox)
    for number in range(30):
        dropbox.write(f"/d{number}/f", b"base")
    mount.follow()
    written = {f"<{number}>".encode() for number in range(30)}
    for number, data in enumerate(sorted(written)):
        mount.write(f"/d{number}/f", data)
    mount.close()
    path = mount.folder / "tree.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        size = path.stat().st_size
        for at, data in damage:
            file.seek(at % size)
            file.write(data[: size - at % size])
    try:
        Database(path).close()
    except DatabaseNewerError:
        # The damage looks like a later version: it is left alone.
        return
    except DatabaseDamagedError:
        path.rename(mount.folder / "damaged.db")
        database = Database(path)
        try:
            rescue(mount.folder / "damaged.db", database)
        except sqlite3.DatabaseError:
            pass
        finally:
            database.close()
    else:
        return
    mount.open()
    aside = {file.read_bytes() for file in mount.staging.recover_strays(mount.folder / "recovered")}
    list(
        mend_staging(
            mount.tree, mount.staging, mount.folder / "staging", mount.folder / "recovered"
        )
    )
    mount.follow()
    mount.settle()
    assert written <= aside | {node.data for node in dropbox.nodes.values()}
    mount.close()
    shutil.rmtree(mount.folder)


# ---- Staging files ----


def test_a_lost_staging_file_shows_what_dropbox_has(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    mount.write("/f", b"new")
    staged(mount, "/f").unlink()
    (loss,) = mend(mount)
    assert "/f" in loss
    assert mount.paths() == {"/f": b"old"}
    mount.settle()
    assert dropbox.tree() == {"/f": b"old"}


def test_what_was_cut_short_is_put_aside_and_not_padded_with_zeros(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    mount.write("/f", b"new and long")
    with staged(mount, "/f").open("r+b") as file:
        file.truncate(3)
    assert len(mend(mount)) == 1
    assert mount.paths() == {"/f": b"old"}
    assert [path.read_bytes() for path in (mount.folder / "recovered").iterdir()] == [b"new"]


def test_a_new_file_that_was_cut_short_keeps_what_is_left(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    mount.write("/f", b"new and long")
    mount.write("/g", b"gone")
    with staged(mount, "/f").open("r+b") as file:
        file.truncate(3)
    staged(mount, "/g").unlink()
    assert len(mend(mount)) == 2
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/f": b"new", "/g": b""}


def test_without_an_accident_nothing_is_mended(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/large", b"x" * 1000)
    mount.follow()
    mount.append("/large", b"more")
    mount.write("/new", b"")
    mount.rename("/large", "/other")
    assert mend(mount) == []
    mount.settle()
    assert mount.paths() == dropbox.tree()
