"""Every way to end a mount: nothing is lost, nothing is left behind, and the state stays usable."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.mounted import (
    FAILURE,
    UMOUNT,
    Mounted,
    eventually,
    is_mounted,
    refused,
    run,
    run_in_background,
    works,
)

CONTENT = b"not on Dropbox yet " * 1000


@pytest.fixture
def busy(mounted: Mounted) -> Mounted:
    """A mount with work that has not been sent: new files, a rename, a deletion."""
    mounted.server.edit([{"op": "write", "path": f"/{n}", "text": n} for n in "ab"])
    mounted.sync()
    (mounted.path / "d").mkdir()
    for number in range(5):
        (mounted.path / "d" / str(number)).write_bytes(CONTENT)
    os.rename(mounted.path / "a", mounted.path / "d" / "a")
    (mounted.path / "b").unlink()
    return mounted


def check_all_is_there(mounted: Mounted) -> None:
    """What was done before is done, here and, after a sync, on the server."""
    assert not is_mounted(mounted.path)
    assert os.listdir(mounted.path) == []
    assert not (mounted.state / "socket").exists()
    mounted.start()
    names = [*"01234", "a"]
    assert os.listdir(mounted.path) == ["d"]
    assert sorted(os.listdir(mounted.path / "d")) == names
    assert (mounted.path / "d" / "0").read_bytes() == CONTENT
    mounted.sync()
    assert mounted.server.paths() == ["/d", *(f"/d/{name}" for name in names)]
    assert mounted.server.content("/d/4") == CONTENT


def umount_dbxfs(mounted: Mounted, *arguments: str) -> None:
    """Run umount.dbxfs, which must succeed without a word."""
    done = run(*UMOUNT, *arguments, mounted.path, env=mounted.env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_umount_at_once_loses_nothing(busy: Mounted) -> None:
    busy.unmount()
    check_all_is_there(busy)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_and_loses_nothing(busy: Mounted, number: signal.Signals) -> None:
    assert busy.process is not None
    busy.process.send_signal(number)
    assert busy.wait_end(5) == 0
    check_all_is_there(busy)


def test_a_signal_while_a_program_has_a_file_open_unmounts_and_keeps_what_it_wrote(
    busy: Mounted,
) -> None:
    file = (busy.path / "d" / "0").open("wb", buffering=0)
    file.write(CONTENT)
    assert busy.terminate() == 0
    with refused(errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
        file.close()
    busy.detach()
    check_all_is_there(busy)


def test_fusermount_loses_nothing(busy: Mounted) -> None:
    works("fusermount3", "-u", busy.path)
    assert busy.wait_end() == 0
    check_all_is_there(busy)


def test_umount_dbxfs_waits_until_all_is_on_dropbox(busy: Mounted) -> None:
    umount_dbxfs(busy)
    assert busy.wait_end() == 0
    assert len(busy.server.paths()) == 7
    check_all_is_there(busy)


def test_umount_dbxfs_now_leaves_the_rest_to_the_next_mount(busy: Mounted) -> None:
    busy.server.network(round_trip_ms=400)
    umount_dbxfs(busy, "--now")
    assert busy.wait_end() == 0
    busy.server.network()
    assert len(busy.server.paths()) < 7
    check_all_is_there(busy)


def test_dbxfs_umount_does_the_same(busy: Mounted) -> None:
    done = busy.dbxfs("umount", str(busy.path))
    assert done.returncode == 0, done.stderr
    assert busy.wait_end() == 0
    check_all_is_there(busy)


def test_umount_of_a_busy_mount_is_refused_and_it_goes_on(busy: Mounted) -> None:
    with (busy.path / "d" / "0").open("rb") as file:
        done = run(*UMOUNT, busy.path, env=busy.env)
        assert done.returncode == FAILURE
        assert "busy" in done.stderr
        assert file.read() == CONTENT
    busy.unmount()
    check_all_is_there(busy)


def test_umount_dbxfs_of_something_else_is_refused(mounted: Mounted, tmp_path: Path) -> None:
    done = run(*UMOUNT, tmp_path, env=mounted.env)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("umount.dbxfs: ")


def test_a_large_upload_is_interrupted_by_umount_and_finished_later(mounted: Mounted) -> None:
    content = os.urandom(30 * 1024**2)
    mounted.server.network(total_mbit=200)
    (mounted.path / "large").write_bytes(content)
    eventually(lambda: (mounted.status()["uploading"] or {}).get("sent"), 10, "the upload")
    began = time.monotonic()
    mounted.unmount()
    assert time.monotonic() - began < 5
    mounted.server.network()
    mounted.start()
    assert (mounted.path / "large").read_bytes() == content
    mounted.sync()
    assert mounted.server.content("/large") == content


@pytest.mark.parametrize("how", ["signal", "lazy"])
def test_a_read_that_waits_for_the_network_holds_up_no_end(mounted: Mounted, how: str) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": f"{time.time_ns()}"}])
    mounted.sync()
    mounted.server.faults([{"route": "files/download", "kind": "stall"}])
    with subprocess.Popen(["cat", mounted.path / "a"], stderr=subprocess.DEVNULL) as reader:
        eventually(lambda: mounted.server.control("faults")[0]["fired"], 5, "the stall")
        began = time.monotonic()
        if how == "signal":
            assert mounted.terminate() == 0
        else:
            mounted.detach()
            reader.kill()
            assert mounted.wait_end() == 0
        assert time.monotonic() - began < 5
        assert reader.wait(5) != 0
    assert not is_mounted(mounted.path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root could free what would be stuck")
def test_regression_a_kill_while_the_kernel_is_told_leaves_nothing_stuck(
    mounted: Mounted,
) -> None:
    """Telling it waited for the read under way, the read for the daemon: neither ended."""
    mounted.server.edit([{"op": "write", "path": "/f", "text": "x" * 100_000}])
    mounted.sync()
    os.listdir(mounted.path)
    mounted.server.faults([{"kind": "stall", "route": "files/download"}])
    with subprocess.Popen(["cat", mounted.path / "f"], stderr=subprocess.DEVNULL) as reader:
        eventually(lambda: "files/download" in mounted.server.counters()["requests"], 5)
        mounted.server.edit([{"op": "write", "path": "/f", "text": "y"}])
        mounted.sync()
        kill_and_start_again(mounted, reader)
    assert (mounted.path / "f").read_text() == "y"


@pytest.mark.skipif(os.getuid() != 0, reason="only root could free what would be stuck")
def test_a_kill_while_the_kernel_holds_the_thread_that_tells_it_leaves_nothing_stuck(
    make_mount: Callable[..., Mounted],
) -> None:
    """A name is told while a lookup in its folder waits: no signal ends the one who tells it."""
    mounted = make_mount(start=False)
    mounted.server.populate("/p", folders=5, files_per_folder=500, size=1)
    mounted.server.edit([{"op": "write", "path": "/zoo/animal.txt", "text": "elephant"}])
    later = {"kind": "error", "route": "files/list_folder/continue"}
    mounted.server.faults([later])
    mounted.start()
    assert sorted(os.listdir(mounted.path)) == ["p", "zoo"]
    eventually(lambda: mounted.server.control("faults")[0]["fired"], 10, "the crawl's second page")
    mounted.server.faults([later, {"kind": "stall", "route": "files/list_folder"}])
    animal = mounted.path / "zoo" / "animal.txt"
    with subprocess.Popen(["stat", animal], stderr=subprocess.DEVNULL) as program:
        eventually(lambda: mounted.server.control("faults")[1]["fired"], 5, "the lookup")
        mounted.server.faults([{"kind": "stall", "route": "files/list_folder"}])
        eventually(lambda: "D" in thread_states(mounted.pid), 20, "a thread held by the kernel")
        kill_and_start_again(mounted, program)
    assert animal.read_text() == "elephant"


def kill_and_start_again(mounted: Mounted, waiting: subprocess.Popen[bytes]) -> None:
    """SIGKILL the daemon: it ends, and so does the program that waits for it, in seconds."""
    assert mounted.process is not None
    mounted.process.kill()
    try:
        mounted.process.wait(5)
        assert waiting.wait(5) == 1
    finally:
        subprocess.run(["umount", "-f", mounted.path], check=False, capture_output=True)
    mounted.process = None
    mounted.detach()
    mounted.server.faults()
    mounted.start()


def thread_states(pid: int) -> list[str]:
    """What each thread of a process does, as in ps(1); "D": no signal reaches it."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]


def test_a_lazy_umount_leaves_who_has_something_open_alone(mounted: Mounted) -> None:
    with (mounted.path / "a").open("w+b", buffering=0) as file:
        file.write(b"before")
        works("umount", "-l", mounted.path)
        assert not is_mounted(mounted.path)
        file.write(b" and after")
        deadline = time.monotonic() + 2
        eventually(lambda: time.monotonic() > deadline, 3)
        file.seek(0)
        assert file.read() == b"before and after"
    assert mounted.wait_end() == 0
    mounted.start()
    assert (mounted.path / "a").read_bytes() == b"before and after"


def test_umount_ends_at_once_when_the_server_stalls(mounted: Mounted) -> None:
    mounted.announce("cannot be (followed|sent)")
    (mounted.path / "a").write_text("a")
    mounted.server.faults([{"route": "*", "kind": "stall"}])
    eventually(lambda: mounted.server.control("faults")[0]["fired"], 5, "the stall")
    began = time.monotonic()
    mounted.unmount()
    assert time.monotonic() - began < 5
    mounted.server.faults()
    mounted.start()
    mounted.sync()
    assert mounted.server.content("/a") == b"a"


# ---- In the background, as people mount ----


@pytest.fixture
def background(make_mount: Callable[..., Mounted]) -> Mounted:
    """Mounted by a command that returns when the mount answers."""
    mounted = make_mount(start=False)
    done = run(*mounted.arguments(foreground=False), env=mounted.env)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    return mounted


def test_a_background_mount_answers_when_the_command_returns(background: Mounted) -> None:
    (background.path / "a").write_text("a")
    assert os.listdir(background.path) == ["a"]
    done = background.dbxfs("sync", str(background.path))
    assert (done.returncode, done.stderr) == (0, "")
    assert background.server.content("/a") == b"a"
    shown = background.dbxfs("status", str(background.path))
    assert str(background.path) in shown.stdout
    assert "online" in shown.stdout
    pid = int((background.state / "lock").read_text())
    umount_dbxfs(background)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 10, "the daemon's end")
    assert "Traceback" not in (background.state / "log").read_text()
    assert (background.state / "log").stat().st_mode & 0o077 == 0


def test_a_background_daemon_keeps_nothing_of_its_starter(background: Mounted) -> None:
    pid = int((background.state / "lock").read_text())
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    for descriptor in (0, 1, 2):
        assert os.readlink(f"/proc/{pid}/fd/{descriptor}") in (
            "/dev/null",
            str(background.state / "log"),
        )
    umount_dbxfs(background)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 10, "the daemon's end")


def test_mounting_again_right_after_umount_works(background: Mounted) -> None:
    for number in range(5):
        (background.path / str(number)).write_text(str(number))
        works("umount", background.path)
        done = run_in_background(
            lambda: run(*background.arguments(foreground=False), env=background.env)
        )()
        if done.returncode == FAILURE and "in use" in done.stderr:
            pytest.fail(f"the state was still in use: {done.stderr}")
        assert done.returncode == 0, done.stderr
    assert len(os.listdir(background.path)) == 5
    pid = int((background.state / "lock").read_text())
    umount_dbxfs(background)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 10, "the daemon's end")
    assert len(background.server.paths()) == 5
