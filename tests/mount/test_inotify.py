"""Programs that watch files and folders are told of what was changed elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.mounted import UMOUNT, Mounted, eventually, run
from tests.mount.notices import Watcher, watching
from tests.mount.test_freshness import missing, warm, warm_up, write
from tests.mount.users import Namespace, as_nobody, namespace, place, users_mount

__all__ = ["namespace", "place", "users_mount", "warm"]


def test_a_file_made_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path / "docs") as watcher:
        warm.server.edit([write("/docs/new.txt", "new")])
        watcher.told("CREATE new.txt", "MODIFY new.txt", "CLOSE_WRITE new.txt")
        assert (warm.path / "docs" / "new.txt").read_text() == "new"


def test_a_folder_made_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.server.edit([{"op": "mkdir", "path": "/made"}])
        watcher.told("CREATE made")
        assert os.listdir(warm.path / "made") == []


def test_a_file_changed_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path) as folder, watching(warm.path / "a.txt") as file:
        warm.server.edit([write("/a.txt", "second, longer")])
        folder.told("MODIFY a.txt", "CLOSE_WRITE a.txt")
        file.told("MODIFY", "CLOSE_WRITE")
        assert (warm.path / "a.txt").read_text() == "second, longer"


def test_a_file_removed_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path / "docs") as folder, watching(warm.path / "docs/b.txt") as file:
        warm.server.edit([{"op": "delete", "path": "/docs/b.txt"}])
        folder.told("DELETE b.txt")
        file.told("DELETE_SELF")
        assert missing(warm.path / "docs/b.txt")


def test_a_folder_removed_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.server.edit([{"op": "delete", "path": "/docs"}])
        watcher.told("DELETE docs")
        assert missing(warm.path / "docs")


@pytest.mark.parametrize("name", ["a.txt", "docs"])
def test_a_rename_made_elsewhere_is_told_as_one(warm: Mounted, name: str) -> None:
    with watching(warm.path) as watcher, watching(warm.path / name) as itself:
        number = os.stat(warm.path / name).st_ino
        warm.server.edit([{"op": "move", "from": f"/{name}", "to": "/other"}])
        notices = watcher.told(f"MOVED_FROM {name}", "MOVED_TO other")
        assert len({notice.cookie for notice in notices if "MOVED" in notice.what}) == 1
        itself.told("MOVE_SELF")
        assert os.stat(warm.path / "other").st_ino == number
        assert missing(warm.path / name)


@pytest.mark.parametrize("name", ["a.txt", "docs"])
def test_a_move_to_another_folder_made_elsewhere_is_told_in_both(warm: Mounted, name: str) -> None:
    with watching(warm.path, warm.path / "empty") as watcher:
        warm.server.edit([{"op": "move", "from": f"/{name}", "to": "/empty/moved"}])
        notices = watcher.told(f"MOVED_FROM {name}", "MOVED_TO moved")
        assert {n.cookie for n in notices if n.what == "MOVED_FROM"} == {
            n.cookie for n in notices if n.what == "MOVED_TO"
        }
        assert missing(warm.path / name)
        os.stat(warm.path / "empty" / "moved")


def test_what_is_in_a_folder_made_elsewhere_is_told_once_it_is_watched(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.server.edit([write("/made/one", "1")])
        watcher.told("CREATE made")
        watcher.add(warm.path / "made")
        warm.server.edit([write("/made/two", "2")])
        watcher.told("CREATE two", "CLOSE_WRITE two")
    assert sorted(os.listdir(warm.path / "made")) == ["one", "two"]


def test_a_file_replaced_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.server.edit(
            [
                {"op": "delete", "path": "/a.txt"},
                {"op": "move", "from": "/docs/b.txt", "to": "/a.txt"},
            ]
        )
        watcher.told("DELETE a.txt", "MOVED_TO a.txt")
        assert (warm.path / "a.txt").read_text() == "bee"


def test_a_name_that_is_another_file_elsewhere_is_told_of(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.server.edit([{"op": "delete", "path": "/a.txt"}, write("/a.txt", "another")])
        watcher.told("CLOSE_WRITE a.txt")
        assert (warm.path / "a.txt").read_text() == "another"
        assert os.stat(warm.path / "a.txt").st_nlink == 1


def test_another_spelling_given_elsewhere_is_told_as_a_rename(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.server.edit(
            [
                {"op": "move", "from": "/a.txt", "to": "/passing"},
                {"op": "move", "from": "/passing", "to": "/A.txt"},
            ]
        )
        watcher.told("MOVED_FROM a.txt", "MOVED_TO A.txt")
    assert "A.txt" in os.listdir(warm.path)
    assert (warm.path / "a.txt").read_text() == "first"


def test_files_swapped_elsewhere_are_told_of_and_right_in_the_end(warm: Mounted) -> None:
    with watching(warm.path, warm.path / "docs") as watcher:
        warm.server.edit(
            [
                {"op": "move", "from": "/a.txt", "to": "/passing"},
                {"op": "move", "from": "/docs/b.txt", "to": "/a.txt"},
                {"op": "move", "from": "/passing", "to": "/docs/b.txt"},
            ]
        )
        watcher.told("MOVED_FROM a.txt", "MOVED_TO a.txt")
        eventually(lambda: (warm.path / "a.txt").read_text() == "bee")
        eventually(lambda: (warm.path / "docs" / "b.txt").read_text() == "first")
    for path in (warm.path / "a.txt", warm.path / "docs" / "b.txt"):
        assert os.stat(path).st_nlink == 1


def test_many_changes_made_elsewhere_are_all_told(warm: Mounted) -> None:
    (warm.path / "many").mkdir()
    warm.sync()
    names = {f"{number}.txt" for number in range(250)}
    with watching(warm.path / "many") as watcher:
        warm.server.edit([write(f"/many/{name}", name) for name in sorted(names)])
        eventually(
            lambda: (
                watcher.read(0.1)
                or {n.name for n in watcher.notices if n.what == "CLOSE_WRITE"} == names
            ),
            15,
        )
        assert len([n for n in watcher.notices if n.what == "CREATE"]) == len(names)
    assert set(os.listdir(warm.path / "many")) == names


def test_a_tail_shows_the_lines_that_are_appended_elsewhere(warm: Mounted) -> None:
    # GNU tail trusts inotify on no FUSE file system: it looks again and again.
    log = warm.path / "docs" / "b.txt"
    command = ["tail", "-n", "+1", "-s", "0.1", "-F", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tail:
        try:
            assert tail.stdout is not None
            os.set_blocking(tail.stdout.fileno(), False)
            shown = bytearray()

            def shows(text: bytes) -> bool:
                assert tail.stdout is not None
                shown.extend(tail.stdout.read() or b"")
                return bytes(shown) == text

            eventually(lambda: shows(b"bee"), 5)
            with watching(warm.path / "docs") as watcher:
                for text in (b"bee\nwasp\n", b"bee\nwasp\nhornet\n"):
                    warm.server.edit([write("/docs/b.txt", text.decode())])
                    eventually(lambda text=text: shows(text), 5)
                    watcher.told("CLOSE_WRITE b.txt")
                    watcher.notices.clear()
        finally:
            tail.kill()


# ---- What it must not do ----


def test_telling_watchers_changes_and_sends_nothing(warm: Mounted) -> None:
    paths = [warm.path / name for name in ("a.txt", "docs", "docs/deep/c.txt", "empty")]
    with watching(warm.path, warm.path / "docs", warm.path / "docs/deep") as watcher:
        warm.server.edit([write("/a.txt", "again"), write("/docs/new.txt", "new")])
        watcher.told("CREATE new.txt", "CLOSE_WRITE new.txt")
        watcher.told("CLOSE_WRITE a.txt")
        before = [os.stat(path) for path in paths]
        rows = warm.ask("status", 10)["pending"]
        with warm.requests() as made:
            warm.server.edit(
                [
                    write("/docs/deep/made", "m"),
                    {"op": "delete", "path": "/docs/deep/made"},
                    {"op": "move", "from": "/docs/new.txt", "to": "/docs/deep/newer.txt"},
                ]
            )
            watcher.told("MOVED_FROM new.txt", "MOVED_TO newer.txt")
            warm.sync()
        assert {route: count for route, count in made.items() if "upload" in route} == {}
        assert not [route for route in made if "delete" in route or "move" in route]
        assert rows == warm.status()["pending"] == 0
    for path, was in zip(paths, before, strict=True):
        now = os.stat(path)
        if path.name not in ("docs", "deep"):
            assert (now.st_mtime_ns, now.st_ctime_ns) == (was.st_mtime_ns, was.st_ctime_ns)


def test_the_time_of_a_file_changed_elsewhere_is_the_one_that_it_was_given(warm: Mounted) -> None:
    edit = {**write("/a.txt", "second"), "client_modified": "2021-01-01T00:00:00Z"}
    with watching(warm.path) as watcher:
        warm.server.edit([edit])
        watcher.told("MODIFY a.txt", "CLOSE_WRITE a.txt")
        changed = os.stat(warm.path / "a.txt")
        assert changed.st_mtime == 1609459200
        warm.sync()
        assert os.stat(warm.path / "a.txt").st_ctime_ns == changed.st_ctime_ns


def test_what_programs_do_here_is_told_once(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        (warm.path / "mine").write_text("mine")
        (warm.path / "mine").rename(warm.path / "yours")
        warm.sync()
        warm.server.edit([{"op": "mkdir", "path": "/end"}])
        notices = watcher.told("CREATE end")
        said = [str(n) for n in notices if n.name in ("mine", "yours")]
        assert said == [
            "CREATE mine",
            "MODIFY mine",
            "CLOSE_WRITE mine",
            "MOVED_FROM mine",
            "MOVED_TO yours",
        ]


def test_a_conflicted_copy_is_told_as_a_rename_and_a_new_file(warm: Mounted) -> None:
    with watching(warm.path) as watcher:
        warm.dbxfs("pause", str(warm.path))
        (warm.path / "a.txt").write_text("mine")
        warm.server.edit([write("/a.txt", "theirs")])
        warm.dbxfs("resume", str(warm.path))
        warm.sync()
        (copy,) = [name for name in os.listdir(warm.path) if "conflicted copy" in name]
        watcher.told("MOVED_FROM a.txt", f"MOVED_TO {copy}", "CREATE a.txt", "CLOSE_WRITE a.txt")
        assert (warm.path / copy).read_text() == "mine"
        assert (warm.path / "a.txt").read_text() == "theirs"


def players(mounted: Mounted) -> list[int]:
    """The processes that the daemon has started to tell watchers."""
    found = []
    for thread in Path(f"/proc/{mounted.pid}/task").iterdir():
        for pid in map(int, (thread / "children").read_text().split()):
            if b"replay.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def change_all(mounted: Mounted) -> None:
    """Edits of each kind, seen without watching."""
    mounted.server.edit(
        [
            write("/a.txt", "changed"),
            write("/docs/new.txt", "new"),
            {"op": "delete", "path": "/docs/b.txt"},
            {"op": "move", "from": "/docs/deep", "to": "/deeper"},
        ]
    )
    eventually(lambda: (mounted.path / "a.txt").read_text() == "changed")
    eventually(lambda: os.listdir(mounted.path / "deeper") == ["c.txt"])


def test_where_nobody_watches_nothing_is_carried_out(warm: Mounted) -> None:
    present = players(warm)
    for pid in present:
        os.kill(pid, signal.SIGKILL)
    warm.announce("what tells watchers")
    with watching(warm.folder):
        change_all(warm)
        warm.sync()
    assert set(players(warm)) <= set(present)


def started(make_mount: Callable[..., Mounted], option: str) -> Mounted:
    """A mount of its own with the option, and the small tree that the kernel knows."""
    mounted = make_mount(options=[f"inotify={option}"])
    mounted.server.edit(
        [write("/a.txt", "first"), write("/docs/b.txt", "bee"), write("/docs/deep/c.txt", "sea")]
    )
    mounted.sync()
    warm_up(mounted.path)
    return mounted


def test_with_inotify_never_nobody_is_told(make_mount: Callable[..., Mounted]) -> None:
    mounted = started(make_mount, "never")
    with watching(mounted.path) as watcher:
        change_all(mounted)
        mounted.sync()
        watcher.read(0)
        assert [notice for notice in watcher.notices if notice.what != "DELETE_SELF"] == []
    assert players(mounted) == []


def test_with_inotify_always_changes_are_carried_out_unseen(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = started(make_mount, "always")
    change_all(mounted)
    assert eventually(lambda: players(mounted))
    # It may just be in the mount, where umount(8) would find it busy.
    done = run(*UMOUNT, mounted.path, env=mounted.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert mounted.wait_end() == 0


def stopped(mounted: Mounted, watcher: Watcher) -> int:
    """The process that tells watchers; it answers nothing from here on, and holds nothing."""
    eventually(lambda: told_of_a_change(mounted, watcher), 10)
    (player,) = players(mounted)
    os.kill(player, signal.SIGSTOP)
    return player


def test_a_process_that_is_stuck_holds_nothing_up(make_mount: Callable[..., Mounted]) -> None:
    mounted = started(make_mount, "auto")
    with watching(mounted.path) as watcher:
        player = stopped(mounted, watcher)
        change_all(mounted)
        (mounted.path / "mine").write_text("mine")
        assert mounted.sync() == []
        os.kill(player, signal.SIGCONT)
        player = stopped(mounted, watcher)
        mounted.server.edit([write("/two", "2")])
        eventually(lambda: (mounted.path / "two").read_text() == "2")
        assert mounted.terminate() == 0
    eventually(lambda: not Path(f"/proc/{player}").exists(), 5)


def told_of_a_change(mounted: Mounted, watcher: Watcher) -> bool:
    """Whether a change that is made now is told of."""
    name = f"probe{time.monotonic_ns()}"
    mounted.server.edit([write(f"/{name}", "p")])
    try:
        watcher.told(f"CREATE {name}", f"CLOSE_WRITE {name}", within=1.5)
    except AssertionError:
        return False
    return True


def test_a_process_that_ends_is_started_again(make_mount: Callable[..., Mounted]) -> None:
    mounted = started(make_mount, "auto")
    with watching(mounted.path) as watcher:
        mounted.server.edit([write("/one", "1")])
        watcher.told("CREATE one")
        (player,) = players(mounted)
        os.kill(player, signal.SIGKILL)
        eventually(lambda: told_of_a_change(mounted, watcher), 10)
        assert player not in players(mounted)
    mounted.unmount()


def test_a_daemon_killed_with_watchers_leaves_nothing_behind(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = started(make_mount, "auto")
    with watching(mounted.path) as watcher:
        mounted.server.edit([write("/one", "1")])
        watcher.told("CREATE one")
        (player,) = players(mounted)
        mounted.server.edit([write(f"/many/{number}", "m") for number in range(50)])
        mounted.kill()
        eventually(lambda: not Path(f"/proc/{player}").exists(), 5)
    mounted.start()
    mounted.sync()
    assert len(os.listdir(mounted.path / "many")) == 50


def test_umount_dbxfs_works_while_watchers_are_told(make_mount: Callable[..., Mounted]) -> None:
    mounted = started(make_mount, "auto")
    with watching(mounted.path) as watcher:
        mounted.server.edit([write(f"/{number}", "m") for number in range(100)])
        watcher.told("CREATE 0")
        done = run(*UMOUNT, mounted.path, env=mounted.env)
        assert (done.returncode, done.stderr) == (0, "")
        assert mounted.wait_end() == 0


WATCH = """
import sys
from pathlib import Path
from tests.mount.notices import watching
with watching(Path(sys.argv[1])) as watcher:
    print("watching", flush=True)
    watcher.told(*sys.argv[2:], within=10)
    print("told", flush=True)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_an_ordinary_users_watchers_are_told(
    users_mount: Callable[..., Mounted], namespace: Namespace
) -> None:
    if run(*as_nobody("sh", "-c", 'exec "$1" -c ""', "sh", sys.executable)).returncode:
        pytest.skip("an ordinary user cannot start this Python")
    mounted = users_mount()
    mounted.server.edit([write("/old", "o"), write("/moving", "m"), write("/changing", "c")])
    mounted.sync()
    wanted = ("CREATE new", "DELETE old", "MOVED_FROM moving", "MOVED_TO moved", "MODIFY changing")
    command = as_nobody(sys.executable, "-c", WATCH, mounted.path, *wanted)
    env = {**mounted.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [*namespace.enter, *command], env=env, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        for edit in (
            write("/new", "n"),
            {"op": "delete", "path": "/old"},
            {"op": "move", "from": "/moving", "to": "/moved"},
            write("/changing", "changed"),
        ):
            mounted.server.edit([edit])
            mounted.sync()
        assert watcher.stdout.readline() == "told\n"


def test_what_another_machine_makes_of_modes_times_and_links_is_told(
    make_mount: Callable[..., Mounted],
) -> None:
    here = started(make_mount, "auto")
    there = make_mount(server=here.server)
    there.sync()
    with watching(here.path) as watcher:
        (there.path / "a.txt").chmod(0o750)
        there.sync()
        watcher.told("ATTRIB a.txt")
        assert os.stat(here.path / "a.txt").st_mode & 0o777 == 0o750
        os.utime(there.path / "a.txt", ns=(5, 10**18 + 1))
        there.sync()
        watcher.notices.clear()
        watcher.told("ATTRIB a.txt")
        assert os.stat(here.path / "a.txt").st_mtime_ns == 10**18 + 1
        (there.path / "link").symlink_to("a.txt")
        there.sync()
        watcher.told("CREATE link")
        assert os.readlink(here.path / "link") == "a.txt"
        # What may only be read is written to by nobody, but has changed all the same.
        (there.path / "a.txt").chmod(0o444)
        (there.path / "a.txt").write_text("changed by root")
        there.sync()
        watcher.told("MODIFY a.txt")
        assert here.sync() == []
    assert here.status()["pending"] == 0
