"""A full disk is an error of the call that needs room, and of nothing else.

State and cache lie on small file systems of their own, which takes root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.durability.ambush import MIB
from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import FAILURE, DaemonFailedError, Mounted, refused

FULL = r"(No space left|database or disk is full|block cache cannot be written|disk I/O error)"
KIB = 1024


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in memory at `path`. Skips where none can be mounted."""
    path.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.decode(errors='replace')}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def on_small_disks(
    make_mount: Callable[..., Mounted], request: pytest.FixtureRequest
) -> Iterator[Mounted]:
    """A mount, not started, with state (8 MiB) and cache (3 MiB) on disks of their own."""
    mounted = make_mount(start=False)
    mounted.announce(FULL)
    with small_disk(mounted.state, 8 * MIB), small_disk(mounted.cache, 3 * MIB):
        yield mounted
        mounted.close()


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4 * KIB)):
            pass
    return ballast


def agree(mounted: Mounted) -> None:
    """Both sides hold the same, and nothing is left to do."""
    assert mounted.sync() == []
    assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == []
    assert mounted.status()["pending"] == 0
    assert list((mounted.state / "staging").iterdir()) == []


def test_a_file_larger_than_the_room_is_refused_and_others_are_not(on_small_disks: Mounted) -> None:
    mounted = on_small_disks
    mounted.server.edit([{"op": "write", "path": "/known", "text": "known"}])
    mounted.start()
    mounted.sync()
    (mounted.path / "before").write_bytes(b"before")
    with refused(errno.ENOSPC):
        (mounted.path / "huge").write_bytes(bytes(range(256)) * 4 * 20 * KIB)
    (mounted.path / "huge").unlink()
    (mounted.path / "known").write_bytes(b"changed")
    (mounted.path / "after").write_bytes(os.urandom(2 * MIB))
    agree(mounted)
    assert mounted.server.paths() == ["/after", "/before", "/known"]
    assert mounted.server.content("/known") == b"changed"


def test_what_was_written_when_the_room_ended_is_whole_or_as_it_was(
    on_small_disks: Mounted,
) -> None:
    """Appending until it is full: all that write(2) accepted is there, nothing else."""
    mounted = on_small_disks
    mounted.start()
    mounted.sync()
    accepted = 0
    with (mounted.path / "log").open("wb", buffering=0) as file, refused(errno.ENOSPC):
        while accepted < 16 * MIB:
            accepted += file.write(accepted.to_bytes(8, "big") * 1024)
    assert MIB < accepted < 8 * MIB
    expected = b"".join(place.to_bytes(8, "big") * 1024 for place in range(0, accepted, 8 * KIB))
    assert (mounted.path / "log").read_bytes() == expected
    agree(mounted)
    assert mounted.server.content("/log") == expected


def test_a_full_disk_refuses_what_needs_room_and_all_goes_on_when_there_is_some(
    on_small_disks: Mounted,
) -> None:
    mounted = on_small_disks
    mounted.server.edit([{"op": "write", "path": "/d/known", "text": "known"}])
    mounted.start()
    mounted.sync()
    mounted.server.faults([{"route": "files/upload", "kind": "stall"}])
    (mounted.path / "accepted").write_bytes(b"accepted")
    ballast = fill(mounted.state)
    with refused(errno.ENOSPC):
        for number in range(1000):
            (mounted.path / f"new {number}").write_bytes(bytes(8 * KIB))
    made = {path.name: path.read_bytes() for path in mounted.path.iterdir() if path.is_file()}
    assert made.pop("accepted") == b"accepted"
    assert (mounted.path / "d" / "known").read_bytes() == b"known"
    mounted.server.edit([{"op": "write", "path": "/theirs", "text": "theirs"}])
    mounted.server.faults()
    ballast.unlink()
    agree(mounted)
    assert (mounted.path / "theirs").read_bytes() == b"theirs"
    assert (mounted.path / "accepted").read_bytes() == b"accepted"
    for name, data in made.items():
        assert (mounted.path / name).read_bytes() == data


def test_a_daemon_that_finds_the_disk_full_says_so_and_loses_nothing(
    on_small_disks: Mounted,
) -> None:
    mounted = on_small_disks
    mounted.start()
    mounted.sync()
    mounted.server.faults([{"route": "files/upload", "kind": "stall"}])
    (mounted.path / "accepted").write_bytes(b"accepted")
    mounted.kill()
    mounted.server.faults()
    ballast = fill(mounted.state)
    with pytest.raises(DaemonFailedError, match="full") as failed:
        mounted.start()
    assert failed.value.status == FAILURE
    assert "Traceback" not in failed.value.said
    ballast.unlink()
    mounted.start()
    assert (mounted.path / "accepted").read_bytes() == b"accepted"
    agree(mounted)
    assert mounted.server.content("/accepted") == b"accepted"


def test_reads_work_when_the_cache_has_no_room(on_small_disks: Mounted) -> None:
    mounted = on_small_disks
    mounted.start()
    text = "".join(f"{number:07}\n" for number in range(MIB))
    mounted.server.edit([{"op": "write", "path": "/data", "text": text}])
    mounted.sync()
    fill(mounted.cache)
    for _ in range(2):
        assert (mounted.path / "data").read_text() == text
    (mounted.path / "small").write_bytes(b"small")
    agree(mounted)


def test_a_pin_that_the_disk_has_no_room_for_is_refused_with_the_figures(
    on_small_disks: Mounted,
) -> None:
    mounted = on_small_disks
    mounted.server.edit([{"op": "write", "path": "/d/data", "text": "data" * 500_000}])
    mounted.start()
    mounted.sync()
    done = mounted.dbxfs("pin", str(mounted.path / "d"))
    assert done.returncode == 1
    assert "2.0 MB are still to be fetched" in done.stderr
    assert "room for 0.0 MB" in done.stderr
    with refused(errno.ENOSPC):
        os.setxattr(mounted.path / "d", "user.dbxfs.pin", b"1")
    assert mounted.status()["pinned"]["files"] == 0
    assert "user.dbxfs.pin" not in os.listxattr(mounted.path / "d")
    (mounted.path / "empty").mkdir()
    os.setxattr(mounted.path / "empty", "user.dbxfs.pin", b"1")
    agree(mounted)
