"""The times of files and folders change when POSIX says so, and not otherwise."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.mounted import Mounted, refused, works

LONG_AGO = 10**18


def times(path: Path) -> tuple[int, int]:
    """When content and inode were changed: ns."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ctime_ns


CHANGES: dict[str, tuple[Callable[[Path], object], bool, bool]] = {
    # name: (what is done, does mtime change, does ctime change)
    "write": (lambda p: p.write_text("longer content"), True, True),
    "append": (lambda p: p.open("a").write("x"), True, True),
    "truncate": (lambda p: os.truncate(p, 2), True, True),
    "truncate to the same size": (lambda p: os.truncate(p, 7), True, True),
    "open with O_TRUNC": (lambda p: p.open("w").close(), True, True),
    "mapped write": (lambda p: mapped_write(p), True, True),
    "chmod": (lambda p: p.chmod(0o600), False, True),
    "chmod to the same mode": (lambda p: p.chmod(0o644), False, True),
    "chown to the same owner": (lambda p: os.chown(p, os.getuid(), os.getgid()), False, True),
    "chown to nobody else": (lambda p: os.chown(p, -1, -1), False, True),
    "rename": (lambda p: back_and_forth(p), False, True),
    "utime": (lambda p: os.utime(p, ns=(LONG_AGO, LONG_AGO)), False, True),
    "utime of the access alone": (lambda p: works("touch", "-a", p), False, True),
    "read": (lambda p: p.read_bytes(), False, False),
    "open for writing": (lambda p: p.open("r+").close(), False, False),
    "stat": (os.stat, False, False),
    "write of nothing": (lambda p: write_nothing(p), False, False),
}


def mapped_write(path: Path) -> None:
    """Change a byte by way of memory."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"X"
        mapped.flush()


def write_nothing(path: Path) -> None:
    """write(2) of no bytes."""
    with path.open("r+b", buffering=0) as file:
        file.write(b"")


def back_and_forth(path: Path) -> None:
    """A rename that leaves no trace but the time."""
    os.rename(path, path.with_name("elsewhere"))
    os.rename(path.with_name("elsewhere"), path)


@pytest.mark.parametrize("change", CHANGES)
def test_the_times_of_a_file_change_as_posix_says(mounted: Mounted, change: str) -> None:
    do, content, inode = CHANGES[change]
    path = mounted.path / "file"
    path.write_text("content")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    mtime, ctime = times(path)
    do(path)
    after = times(path)
    assert (after[0] > mtime, after[1] > ctime) == (content, inode)


def test_the_time_of_access_is_what_a_program_sets_and_stays_here(mounted: Mounted) -> None:
    path = mounted.path / "file"
    path.write_text("content")
    assert os.stat(path).st_atime_ns == os.stat(path).st_mtime_ns
    created = os.stat(path).st_atime_ns
    works("touch", "-m", "-d", "@1234567890", path)
    assert os.stat(path).st_atime_ns == created
    mounted.sync()
    with mounted.requests() as made:
        works("touch", "-a", "-d", "@1000000000", path)
        path.read_bytes()
        mounted.sync()
    assert made == {}
    mounted.remount()
    found = os.stat(path)
    assert (found.st_atime_ns, found.st_mtime_ns) == (10**18, 1234567890 * 10**9)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    path.write_text("more content")
    assert os.stat(path).st_atime_ns == os.stat(path).st_mtime_ns


def refuse(folder: Path) -> None:
    """A folder that is not empty stays; what is there is neither made anew nor replaced by it."""
    with refused(errno.ENOTEMPTY):
        os.rmdir(folder / "full")
    with refused(errno.EEXIST):
        os.mkdir(folder / "full")
    with refused(errno.EEXIST):
        os.symlink("x", folder / "file")
    with refused(errno.EISDIR):
        os.unlink(folder / "full")
    with refused(errno.ENOENT):
        os.unlink(folder / "nothing")
    with refused(errno.EISDIR):
        os.rename(folder / "file", folder / "full")
    with refused(errno.EPERM):
        os.mkfifo(folder / "pipe")


IN_FOLDER: dict[str, tuple[Callable[[Path], object], bool]] = {
    "make a file": (lambda d: (d / "new").touch(), True),
    "make a folder": (lambda d: (d / "new").mkdir(), True),
    "make a link": (lambda d: (d / "new").symlink_to("x"), True),
    "make a node": (lambda d: os.mknod(d / "new"), True),
    "rename over": (lambda d: os.rename(d / "file", d / "other"), True),
    "unlink": (lambda d: (d / "file").unlink(), True),
    "rmdir": (lambda d: (d / "folder").rmdir(), True),
    "rename within": (lambda d: os.rename(d / "file", d / "new"), True),
    "rename away": (lambda d: os.rename(d / "file", d.parent / "new"), True),
    "rename into": (lambda d: os.rename(d.parent / "beside", d / "new"), True),
    "write to a file": (lambda d: (d / "file").write_text("x"), False),
    "chmod of a file": (lambda d: (d / "file").chmod(0o600), False),
    "list": (os.listdir, False),
    "what is refused": (lambda d: refuse(d), False),
}


@pytest.mark.parametrize("change", IN_FOLDER)
def test_the_times_of_a_folder_change_with_its_names(mounted: Mounted, change: str) -> None:
    do, changes = IN_FOLDER[change]
    folder = mounted.path / "folder"
    for name in ("folder", "full/inside"):
        (folder / name).mkdir(parents=True)
    for name in ("file", "other"):
        (folder / name).write_text("f")
    (mounted.path / "beside").write_text("b")
    os.utime(folder, ns=(LONG_AGO, LONG_AGO))
    mtime, ctime = times(folder)
    do(folder)
    after = times(folder)
    assert (after[0] > mtime, after[1] > ctime) == (changes, changes)


def test_what_loses_its_name_changes_its_status(mounted: Mounted) -> None:
    for name in ("file", "over", "new"):
        (mounted.path / name).write_text(name)
    with (mounted.path / "file").open() as file, (mounted.path / "over").open() as over:
        before = [os.fstat(f.fileno()).st_ctime_ns for f in (file, over)]
        (mounted.path / "file").unlink()
        os.rename(mounted.path / "new", mounted.path / "over")
        after = [os.fstat(f.fileno()) for f in (file, over)]
    assert [found.st_nlink for found in after] == [0, 0]
    assert all(found.st_ctime_ns > was for found, was in zip(after, before, strict=True))


def test_a_refused_change_of_attributes_changes_no_status(mounted: Mounted) -> None:
    path = mounted.path / "file"
    path.write_text("content")
    before = times(path)
    for refusal, change in (
        (errno.EPERM, lambda: os.chown(path, 12345, -1)),
        (errno.EFBIG, lambda: os.truncate(path, 3 * 1024**4)),
        (errno.ENOTSUP, lambda: os.setxattr(path, "system.x", b"x")),
        (errno.ENODATA, lambda: os.removexattr(path, "user.x")),
    ):
        with refused(refusal):
            change()
    assert times(path) == before
