"""Ended and mounted again: after unmounting, after a kill, and with the server away."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import (
    FAILURE,
    Mounted,
    ensure_running,
    eventually,
    is_mounted,
    refused,
    run,
    run_in_background,
    works,
)

MIB = 1024 * 1024

AWAY = r"cannot be (followed|sent)|failed: "
"""What the daemon may say when its server is away."""
DAMAGE = r"database is damaged|not all of|were saved from it|bytes without a place"
"""What it says when its database is damaged."""


@pytest.fixture
def tree(mounted: Mounted) -> Iterator[Mounted]:
    """A mount whose tree of 200 files is known; the server is there again when it is over."""
    mounted.server.populate("/p", folders=10, files_per_folder=20, size=100)
    mounted.server.edit([{"op": "write", "path": "/cached.txt", "text": "cached"}])
    # No other test has had this content in the cache.
    mounted.server.edit([{"op": "write", "path": "/uncached.txt", "text": f"{time.time_ns():08x}"}])
    mounted.sync()
    assert (mounted.path / "cached.txt").read_text() == "cached"
    yield mounted
    ensure_running(mounted.server)


def go_away(mounted: Mounted) -> None:
    """End the server; the daemon will complain."""
    mounted.announce(AWAY)
    mounted.server.stop()


# ---- Unmounted and mounted again ----


def test_a_known_tree_is_there_at_once_without_a_request(tree: Mounted) -> None:
    tree.unmount()
    tree.server.faults([{"route": "files/list_folder/continue", "kind": "stall"}])
    with tree.requests() as made:
        tree.start()
        assert len(works("find", tree.path, "-ls").splitlines()) == 214
        assert (tree.path / "cached.txt").read_text() == "cached"
    assert made == {}
    tree.announce(AWAY)
    tree.kill()


def test_what_changed_meanwhile_is_caught_up_by_the_cursor(tree: Mounted) -> None:
    folder = next((tree.path / "p").iterdir())
    number = os.stat(folder).st_ino
    remote = f"/{folder.relative_to(tree.path)}"
    tree.unmount()
    tree.server.edit(
        [
            {"op": "write", "path": "/added.txt", "text": "added"},
            {"op": "write", "path": "/cached.txt", "text": "changed"},
            {"op": "delete", "path": "/uncached.txt"},
            {"op": "move", "from": remote, "to": "/moved"},
        ]
    )
    with tree.requests() as made:
        tree.start()
        eventually(lambda: (tree.path / "added.txt").read_text() == "added", 3)
        eventually(lambda: (tree.path / "cached.txt").read_text() == "changed", 3)
        assert not (tree.path / "uncached.txt").exists()
        assert os.stat(tree.path / "moved").st_ino == number
    assert "files/list_folder" not in made
    assert made == {"files/download": 2}


def test_inode_numbers_are_the_same_after_a_remount(tree: Mounted) -> None:
    before = {path: os.stat(path).st_ino for path in tree.path.rglob("*")}
    tree.remount()
    assert {path: os.stat(path).st_ino for path in tree.path.rglob("*")} == before


def test_state_files_are_for_nobody_else(tree: Mounted) -> None:
    (tree.path / "new").write_text("staged")
    for top in (tree.state, tree.cache):
        assert stat.S_IMODE(os.stat(top).st_mode) == 0o700
        for path in top.rglob("*"):
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                assert stat.S_IMODE(mode) & 0o077 == 0 or path.parent != top, path
            elif top == tree.state:
                assert stat.S_IMODE(mode) == 0o600, path


# ---- Killed ----


def test_bytes_of_closed_files_survive_a_kill(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/known.txt", "text": "before"}])
    mounted.sync()
    content = os.urandom(3 * MIB)
    (mounted.path / "d" / "e").mkdir(parents=True)
    (mounted.path / "d" / "e" / "new.bin").write_bytes(content)
    (mounted.path / "known.txt").write_text("after")
    (mounted.path / "empty").write_text("")
    mounted.kill()
    assert "/d" not in mounted.server.paths(), "too late to test anything"
    mounted.start()
    assert (mounted.path / "d" / "e" / "new.bin").read_bytes() == content
    assert (mounted.path / "known.txt").read_text() == "after"
    mounted.sync()
    assert mounted.server.content("/d/e/new.bin") == content
    assert mounted.server.content("/known.txt") == b"after"
    assert mounted.server.content("/empty") == b""


def test_renames_and_deletions_survive_a_kill(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": f"/{n}", "text": n} for n in "abcd"])
    mounted.sync()
    os.rename(mounted.path / "a", mounted.path / "A2")
    os.rename(mounted.path / "b", mounted.path / "c")
    (mounted.path / "d").unlink()
    os.utime(mounted.path / "A2", ns=(3, 3))
    (mounted.path / "A2").chmod(0o700)
    mounted.kill()
    mounted.start()
    assert {name: (mounted.path / name).read_text() for name in os.listdir(mounted.path)} == {
        "A2": "a",
        "c": "b",
    }
    assert os.stat(mounted.path / "A2").st_mtime_ns == 3
    assert os.stat(mounted.path / "A2").st_mode & 0o777 == 0o700
    mounted.sync()
    assert mounted.server.paths() == ["/A2", "/c"]


@pytest.mark.parametrize("moment", range(8))
def test_a_kill_in_the_middle_of_sending_loses_nothing(mounted: Mounted, moment: int) -> None:
    mounted.server.network(round_trip_ms=20, commit_ms=20)
    mounted.server.edit([{"op": "write", "path": f"/old/{n}", "text": str(n)} for n in range(5)])
    mounted.sync()
    expected = {}
    (mounted.path / "new").mkdir()
    for number in range(5):
        (mounted.path / "new" / str(number)).write_text(f"new {number}")
        expected[f"new/{number}"] = f"new {number}"
    os.rename(mounted.path / "old" / "0", mounted.path / "new" / "moved")
    expected["new/moved"] = "0"
    (mounted.path / "old" / "1").unlink()
    (mounted.path / "tmp").write_text("saved")
    os.rename(mounted.path / "tmp", mounted.path / "old" / "2")
    expected |= {"old/2": "saved", "old/3": "3", "old/4": "4"}
    mounted.server.reset_counters()
    syncing = run_in_background(lambda: mounted.sync())
    eventually(lambda: mounted.server.counters()["total"] >= 2 * moment, 5, "the moment")
    mounted.kill()
    syncing()
    mounted.start()

    def texts() -> dict[str, str]:
        return {
            str(path.relative_to(mounted.path)): path.read_text()
            for path in mounted.path.rglob("*")
            if path.is_file()
        }

    assert texts() == expected
    mounted.sync()
    assert texts() == expected
    assert {path for path in mounted.server.paths() if path.count("/") == 2} == {
        f"/{name}" for name in expected
    }


def test_a_kill_during_the_upload_of_a_large_file_goes_on_where_it_was(mounted: Mounted) -> None:
    content = os.urandom(40 * MIB)
    mounted.server.network(total_mbit=400)
    (mounted.path / "large").write_bytes(content)
    eventually(
        lambda: (mounted.status()["uploading"] or {}).get("sent", 0) >= 16 * MIB, 10, "half of it"
    )
    mounted.kill()
    assert mounted.server.tree() == []
    mounted.server.network()
    with mounted.requests() as made:
        mounted.start()
        mounted.sync()
    assert mounted.server.content("/large") == content
    assert "files/upload_session/start" not in made
    assert 1 <= made["files/upload_session/append_v2"] <= 3


def test_what_was_written_and_not_closed_is_kept_aside_after_a_kill(mounted: Mounted) -> None:
    """Nobody promised it, but the bytes are somebody's."""
    mounted.announce("bytes without a place in the tree are kept in")
    mounted.server.edit([{"op": "write", "path": "/a", "text": "before"}])
    mounted.sync()
    file = (mounted.path / "a").open("r+b", buffering=0)
    file.write(b"never closed")
    staging = mounted.state / "staging"
    eventually(
        lambda: [path.read_bytes() for path in staging.iterdir()] == [b"never closed"],
        5,
        "the bytes in the state folder",
    )
    mounted.kill()
    with refused(errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
        file.write(b"more")
    with refused(errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
        file.close()
    mounted.start()
    kept = [path.read_bytes() for path in mounted.state.rglob("recovered/*")]
    assert (mounted.path / "a").read_text() in ("before", "never closed")
    assert (mounted.path / "a").read_text() == "never closed" or kept == [b"never closed"]


def test_fsync_of_an_open_file_survives_a_kill(mounted: Mounted) -> None:
    file = (mounted.path / "log").open("wb", buffering=0)
    file.write(b"synced")
    os.fsync(file.fileno())
    mounted.kill()
    with refused(errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
        file.close()
    mounted.start()
    assert (mounted.path / "log").read_bytes() == b"synced"


def test_a_dead_mount_is_replaced(mounted: Mounted) -> None:
    (mounted.path / "a").write_text("a")
    assert mounted.process is not None
    mounted.process.kill()
    mounted.process.wait()
    mounted.process = None
    with refused(errno.ENOTCONN):
        os.listdir(mounted.path)
    mounted.start()
    assert (mounted.path / "a").read_text() == "a"
    mounted.unmount()
    assert not is_mounted(mounted.path)


def test_a_kill_during_the_first_crawl_goes_on_where_it_was(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(start=False)
    mounted.server.populate("/p", folders=40, files_per_folder=500, size=10)
    mounted.server.network(round_trip_ms=30)
    mounted.start()
    eventually(lambda: mounted.status()["entries"] > 4000, 10, "some of the crawl")
    mounted.kill()
    mounted.server.network()
    with mounted.requests(ignoring=frozenset()) as made:
        mounted.start()
        mounted.sync()
        assert mounted.status()["listing"] == "complete"
    assert "files/list_folder" not in made
    assert made["files/list_folder/continue"] < 20_000 / 1000
    assert mounted.status()["entries"] == len(mounted.server.tree())


# ---- Two of them ----


def test_a_second_mount_of_the_same_state_is_refused(
    mounted: Mounted, make_mount: Callable[..., Mounted]
) -> None:
    second = make_mount(server=mounted.server, start=False)
    second.state = mounted.state
    for background in (False, True):
        done = run(*second.arguments(foreground=not background), env=second.env)
        assert done.returncode == FAILURE
        assert "in use by another mount" in done.stderr
        assert str(mounted.pid) in done.stderr
        assert "Traceback" not in done.stderr
    done = run(*mounted.arguments(), env=mounted.env)
    assert done.returncode == FAILURE
    assert "already" in done.stderr


# ---- The server is away ----


def test_the_server_going_and_coming_back_is_noticed_by_itself(tree: Mounted) -> None:
    go_away(tree)
    (tree.path / "note.txt").write_text("offline")
    eventually(lambda: not tree.status()["online"], 10, "being offline")
    tree.server.start()
    tree.server.edit([{"op": "write", "path": "/theirs.txt", "text": "theirs"}])
    eventually(lambda: (tree.path / "theirs.txt").read_text() == "theirs", 35)
    eventually(lambda: tree.server.content("/note.txt") == b"offline", 35)
    assert tree.status()["online"] is True


def test_a_wrong_token_fails_the_first_mount_and_says_why(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(start=False)
    env = {**mounted.env, "DBXFS_ACCESS_TOKEN": "wrong-token"}
    done = run(*mounted.arguments(), env=env)
    assert done.returncode == FAILURE
    assert "wrong-token" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 3


def test_a_stalled_server_never_hangs_a_stat_of_what_is_known(tree: Mounted) -> None:
    tree.announce(AWAY)
    tree.server.faults([{"route": "*", "kind": "stall"}])
    files = [path for path in tree.path.rglob("*") if path.is_file()]
    began = time.monotonic()
    for path in files:
        os.stat(path)
    assert not (tree.path / "nothing").exists()
    assert (tree.path / "cached.txt").read_text() == "cached"
    (tree.path / "written").write_text("w")
    (tree.path / "written").unlink()
    os.statvfs(tree.path)
    assert time.monotonic() - began < 2


def test_a_reader_that_waits_for_the_network_can_be_interrupted(tree: Mounted) -> None:
    tree.announce(AWAY)
    tree.server.faults([{"route": "files/download", "kind": "stall"}])
    # In a folder of its own: nothing read elsewhere makes it likely to be read next.
    tree.server.edit([{"op": "write", "path": "/apart/waits.txt", "text": f"{time.time_ns():x}"}])
    tree.sync()
    done = run("timeout", "-s", "INT", "1", "cat", tree.path / "apart" / "waits.txt", timeout=10)
    assert done.returncode == 124
    (tree.path / "apart" / "waits.txt").unlink()


# ---- The database ----


def test_a_database_beyond_rescue_takes_no_unsent_bytes_with_it(tree: Mounted) -> None:
    tree.announce(DAMAGE, AWAY)
    tree.server.stop()
    (tree.path / "unsent").write_text("unsent bytes")
    tree.kill()
    for suffix in ("", "-wal"):
        (tree.state / f"tree.db{suffix}").write_bytes(b"\xa5" * 8192)
    tree.server.start()
    tree.start()
    tree.sync()
    assert difference(local_tree(tree.path), remote_tree(tree.server)) == []
    recovered = tree.status()["recovered"]
    assert [Path(path).read_text() for path in recovered] == ["unsent bytes"]
    assert recovered[0] in tree.dbxfs("status", str(tree.path)).stdout
    Path(recovered[0]).unlink()


def test_pending_work_outlives_a_damaged_tree(tree: Mounted) -> None:
    tree.announce(DAMAGE, AWAY)
    tree.sync()
    tree.server.stop()
    (tree.path / "unsent").write_text("unsent bytes")
    tree.unmount()
    with contextlib.closing(sqlite3.connect(tree.state / "tree.db")) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'inode_id'")
        database.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
        database.commit()
    tree.server.start()
    tree.start()
    assert tree.sync() == []
    assert tree.server.content("/unsent") == b"unsent bytes"
    assert difference(local_tree(tree.path), remote_tree(tree.server)) == []
    assert [Path(path).read_text() for path in tree.status()["recovered"]] == []


def test_a_damaged_database_is_set_aside_and_rebuilt(tree: Mounted) -> None:
    tree.announce(DAMAGE)
    tree.unmount()
    database = tree.state / "tree.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(0)
        file.write(b"\xa5" * min(size, 8192))
    tree.start()
    tree.sync()
    assert difference(local_tree(tree.path), remote_tree(tree.server)) == []
