"""Attributes through the kernel: getattr, setattr, access, statfs."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from tests.mount.mounted import Mounted, eventually, refused, works


def test_a_file_from_elsewhere_has_its_size_and_times(mounted: Mounted) -> None:
    mounted.server.edit(
        [
            {
                "op": "write",
                "path": "/a.txt",
                "text": "hello",
                "client_modified": "2020-02-03T04:05:06Z",
            }
        ]
    )
    mounted.sync()
    found = os.stat(mounted.path / "a.txt")
    assert found.st_size == 5
    assert found.st_mtime == 1580702706
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o644
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert found.st_nlink == 1
    assert found.st_blocks == 1


def test_a_file_shrinks_and_grows_by_path(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    mounted.sync()
    os.truncate(path, 2)
    mounted.sync()
    assert mounted.server.content("/a") == b"01"
    os.truncate(path, 5)
    assert path.read_bytes() == b"01\0\0\0"


def test_a_file_shrinks_and_grows_by_descriptor(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_bytes(b"0123456789")
    mounted.sync()
    with path.open("r+b") as file:
        os.ftruncate(file.fileno(), 3)
        assert os.fstat(file.fileno()).st_size == 3
        os.ftruncate(file.fileno(), 6)
        file.seek(8)
        file.write(b"x")
    assert path.read_bytes() == b"012\0\0\0\0\0x"
    mounted.sync()
    assert mounted.server.content("/a") == b"012\0\0\0\0\0x"


def test_truncating_a_remote_file_sends_no_more_than_needed(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "x" * 100_000}])
    mounted.sync()
    os.truncate(mounted.path / "a", 0)
    with mounted.requests() as made:
        mounted.sync()
    assert made.get("files/download", 0) == 0
    assert mounted.server.content("/a") == b""


def test_times_are_kept_to_the_nanosecond_over_upload_and_remount(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("a")
    moment = 1_234_567_890_123_456_789
    os.utime(path, ns=(moment, moment))
    (mounted.path / "d").mkdir()
    os.utime(mounted.path / "d", ns=(moment, moment))
    assert os.stat(path).st_mtime_ns == moment
    mounted.sync()
    assert os.stat(path).st_mtime_ns == moment
    mounted.remount()
    assert os.stat(path).st_mtime_ns == moment
    assert os.stat(mounted.path / "d").st_mtime_ns == moment


def test_the_servers_time_of_change_is_the_programs(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("a")
    os.utime(path, ns=(1_500_000_000 * 10**9, 1_500_000_000 * 10**9))
    mounted.sync()
    (entry,) = mounted.server.tree()
    assert entry["client_modified"] == "2017-07-14T02:40:00Z"


def test_times_survive_the_writing_that_follows_in_the_same_handle(mounted: Mounted) -> None:
    """What cp -p and rsync do: write, set the times by descriptor, close."""
    path = mounted.path / "a"
    with path.open("wb") as file:
        file.write(b"data")
        file.flush()
        os.utime(file.fileno(), ns=(5, 1_500_000_000_000_000_007))
    assert os.stat(path).st_mtime_ns == 1_500_000_000_000_000_007
    mounted.sync()
    assert os.stat(path).st_mtime_ns == 1_500_000_000_000_000_007


def test_touch_sets_the_time_to_now(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("a")
    os.utime(path, ns=(0, 0))
    before = time.time()
    works("touch", path)
    assert abs(os.stat(path).st_mtime - before) < 2
    works("touch", mounted.path / "new")
    assert os.stat(mounted.path / "new").st_size == 0


def test_a_time_set_on_a_synced_file_stays(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "hello"}])
    mounted.sync()
    os.utime(mounted.path / "a", ns=(7, 1_000_000_007))
    mounted.sync()
    mounted.server.edit([{"op": "write", "path": "/other", "text": "wakes the feed"}])
    mounted.sync()
    assert os.stat(mounted.path / "a").st_mtime_ns == 1_000_000_007


def test_mode_bits_are_kept_over_upload_and_remount(mounted: Mounted) -> None:
    path = mounted.path / "script"
    path.write_text("#!/bin/sh\necho it runs\n")
    path.chmod(0o755)
    assert works(path) == "it runs\n"
    (mounted.path / "d").mkdir()
    (mounted.path / "d").chmod(0o700)
    mounted.sync()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    mounted.remount()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(mounted.path / "d").st_mode) == 0o700
    assert works(path) == "it runs\n"


def test_a_file_is_created_with_the_mode_that_was_asked_for(mounted: Mounted) -> None:
    before = os.umask(0o022)
    try:
        os.close(os.open(mounted.path / "a", os.O_CREAT | os.O_WRONLY, 0o777))
        os.close(os.open(mounted.path / "b", os.O_CREAT | os.O_WRONLY, 0o400))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(mounted.path / "a").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(mounted.path / "b").st_mode) == 0o400


def test_chown_to_the_owner_works_and_to_others_is_refused(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("a")
    os.chown(path, os.getuid(), os.getgid())
    os.chown(path, -1, -1)
    with refused(errno.EPERM):
        os.chown(path, os.getuid() + 1, -1)


def test_access_follows_the_mode_bits(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("a")
    assert os.access(path, os.R_OK | os.W_OK)
    assert not os.access(path, os.X_OK)
    path.chmod(0o744)
    assert os.access(path, os.X_OK)


def test_a_read_only_shared_folder_cannot_be_written_to(mounted: Mounted) -> None:
    server = mounted.server
    server.edit([{"op": "write", "path": "/shared/a", "text": "a"}])
    server.control("shared_folder", {"path": "/shared", "access": "read_only"})
    mounted.sync()
    folder = mounted.path / "shared"
    eventually(lambda: not os.stat(folder).st_mode & 0o222, what="the folder being read-only")
    assert (folder / "a").read_text() == "a"
    for attempt in (
        lambda: (folder / "b").write_text("b"),
        lambda: (folder / "a").write_text("b"),
        lambda: (folder / "a").unlink(),
        lambda: os.rename(folder / "a", mounted.path / "a"),
    ):
        with refused(errno.EACCES, errno.EROFS):
            attempt()
    server.control("shared_folder", {"path": "/shared", "access": "editor"})


def test_the_file_system_is_as_large_as_the_quota(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount(start=False)
    mounted.server.control("quota", {"allocated": 5 * 1024**3})
    mounted.server.edit([{"op": "write", "path": "/a", "text": "x" * 1024**2}])
    mounted.start()

    def space() -> tuple[int, int]:
        found = os.statvfs(mounted.path)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    eventually(lambda: space() == (5 * 1024**3, 5 * 1024**3 - 1024**2), 3, "the quota in statfs")
    assert os.statvfs(mounted.path).f_namemax == 255


def test_a_sync_brings_the_free_space_up_to_date(mounted: Mounted) -> None:
    mounted.server.control("quota", {"allocated": 7 * 1024**3})
    (mounted.path / "a").write_bytes(bytes(3 * 1024**2))
    mounted.sync()
    found = os.statvfs(mounted.path)
    assert found.f_blocks * found.f_frsize == 7 * 1024**3
    assert (found.f_blocks - found.f_bavail) * found.f_frsize == 3 * 1024**2
