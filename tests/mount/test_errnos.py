"""Every errno that the man pages name and that can be had here, beside a plain folder's.

Each attempt is made on the mount and in a plain folder and must be refused with the same errno,
the one that is written down. `DIFFERENT` are those that Dropbox has no place for.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.folders import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.mount.mounted import Mounted, refused

_libc = ctypes.CDLL(None, use_errno=True)

LONG = "n" * 256
DEEP = "/".join(["d" * 200] * 25)
"""Longer than any path may be."""

Attempt = Callable[[Path], object]


def furnish(root: Path) -> None:
    """What the attempts find: a file, an empty folder, a full one, a deep one."""
    (root / "file").write_text("content")
    (root / "other").write_text("other")
    for folder in ("empty", "full", "deep/er/est"):
        (root / folder).mkdir(parents=True)
    (root / "full" / "inside").write_text("inside")


def opened(path: Path, flags: int, mode: int = 0o644) -> None:
    """open(2) and close(2)."""
    os.close(os.open(path, flags, mode))


def on_descriptor(path: Path, flags: int, work: Callable[[int], object]) -> None:
    """Something done to an open file."""
    descriptor = os.open(path, flags)
    try:
        work(descriptor)
    finally:
        os.close(descriptor)


def call(name: str, *arguments: object) -> None:
    """A C library function that returns -1 and sets errno."""
    converted = [
        ctypes.c_char_p(os.fsencode(a)) if isinstance(a, (str, Path)) else a for a in arguments
    ]
    if getattr(_libc, name)(*converted) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def utimensat(path: Path, nanoseconds: int) -> None:
    """utimensat(2) with a number of nanoseconds that Python would not let through."""
    times = (_Timespec * 2)(_Timespec(0, nanoseconds), _Timespec(0, nanoseconds))
    call("utimensat", -100, path, times, 0)


def while_it_runs(root: Path, work: Callable[[Path], object]) -> None:
    """Something done to a program that is being executed."""
    program = root / "program"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o755)
    running = subprocess.Popen([program, "60"])
    try:
        work(program)
    finally:
        running.kill()
        running.wait()


def from_within(folder: Path, work: Callable[[], object]) -> None:
    """Something done with another current folder."""
    before = os.open(".", os.O_PATH)
    try:
        os.chdir(folder)
        work()
    finally:
        os.fchdir(before)
        os.close(before)


def in_removed(root: Path, work: Callable[[int], object]) -> None:
    """Something done in a folder that was removed while it was open."""
    (root / "gone").mkdir()
    descriptor = os.open(root / "gone", os.O_RDONLY)
    try:
        (root / "gone").rmdir()
        work(descriptor)
    finally:
        os.close(descriptor)


W, C, X = os.O_WRONLY, os.O_CREAT, os.O_EXCL

ATTEMPTS: dict[str, tuple[int, Attempt]] = {
    # ---- open(2), creat(2) ----
    "open: nothing there": (errno.ENOENT, lambda r: opened(r / "no", os.O_RDONLY)),
    "open: no such folder": (errno.ENOENT, lambda r: opened(r / "no/no", C | W)),
    "open: empty name": (errno.ENOENT, lambda r: call("open", "", 0)),
    "open: below a file": (errno.ENOTDIR, lambda r: opened(r / "file/x", C | W)),
    "open: a file as a folder": (
        errno.ENOTDIR,
        lambda r: opened(r / "file", os.O_RDONLY | os.O_DIRECTORY),
    ),
    "open: with a slash behind": (errno.ENOTDIR, lambda r: call("open", f"{r}/file/", 0)),
    "open: make with a slash behind": (
        errno.EISDIR,
        lambda r: call("open", f"{r}/new/", C | W, 0o644),
    ),
    "open: taken": (errno.EEXIST, lambda r: opened(r / "file", C | X | W)),
    "open: taken by a folder": (errno.EEXIST, lambda r: opened(r / "empty", C | X | W)),
    "open: a folder for writing": (errno.EISDIR, lambda r: opened(r / "empty", W)),
    "open: a folder for both": (errno.EISDIR, lambda r: opened(r / "empty", os.O_RDWR)),
    "open: make a folder": (errno.EISDIR, lambda r: opened(r / "empty", C | os.O_RDONLY)),
    "open: truncate a folder": (errno.EISDIR, lambda r: opened(r / "empty", os.O_TRUNC | W)),
    "open: long name": (errno.ENAMETOOLONG, lambda r: opened(r / LONG, C | W)),
    "open: long path": (errno.ENAMETOOLONG, lambda r: opened(r / DEEP, os.O_RDONLY)),
    "open: a running program": (
        errno.ETXTBSY,
        lambda r: while_it_runs(r, lambda program: opened(program, W)),
    ),
    "open: in a removed folder": (
        errno.ENOENT,
        lambda r: in_removed(r, lambda d: os.open("x", C | W, dir_fd=d)),
    ),
    # ---- read(2), write(2), lseek(2), mmap(2) ----
    "read: a folder": (
        errno.EISDIR,
        lambda r: on_descriptor(r / "empty", os.O_RDONLY, lambda d: os.read(d, 1)),
    ),
    "read: opened for writing": (
        errno.EBADF,
        lambda r: on_descriptor(r / "file", W, lambda d: os.read(d, 1)),
    ),
    "write: opened for reading": (
        errno.EBADF,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: os.write(d, b"x")),
    ),
    "pread: before the beginning": (
        errno.EINVAL,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: os.pread(d, 1, -1)),
    ),
    "lseek: before the beginning": (
        errno.EINVAL,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: os.lseek(d, -1, 0)),
    ),
    "lseek: for data behind the end": (
        errno.ENXIO,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: os.lseek(d, 99, os.SEEK_DATA)),
    ),
    "lseek: for a hole behind the end": (
        errno.ENXIO,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: os.lseek(d, 99, os.SEEK_HOLE)),
    ),
    "mmap: shared writing of what is open for reading": (
        errno.EACCES,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: mmap.mmap(d, 1)),
    ),
    "mmap: a folder": (
        errno.ENODEV,
        lambda r: on_descriptor(
            r / "empty", os.O_RDONLY, lambda d: mmap.mmap(d, 1, prot=mmap.PROT_READ)
        ),
    ),
    "readdir: a file": (errno.ENOTDIR, lambda r: os.listdir(r / "file")),
    "flock: would wait": (
        errno.EWOULDBLOCK,
        lambda r: on_descriptor(
            r / "file",
            W,
            lambda d: (
                fcntl.flock(d, fcntl.LOCK_EX),
                on_descriptor(
                    r / "file", W, lambda e: fcntl.flock(e, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ),
            ),
        ),
    ),
    "fcntl: lock for writing what is open for reading": (
        errno.EBADF,
        lambda r: on_descriptor(
            r / "file", os.O_RDONLY, lambda d: fcntl.lockf(d, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ),
    ),
    # ---- truncate(2), ftruncate(2) ----
    "truncate: nothing there": (errno.ENOENT, lambda r: os.truncate(r / "no", 0)),
    "truncate: below a file": (errno.ENOTDIR, lambda r: os.truncate(r / "file/x", 0)),
    "truncate: a folder": (errno.EISDIR, lambda r: os.truncate(r / "empty", 0)),
    "truncate: negative": (errno.EINVAL, lambda r: os.truncate(r / "file", -1)),
    "truncate: larger than any": (errno.EFBIG, lambda r: os.truncate(r / "file", 2**63 - 1)),
    "truncate: long name": (errno.ENAMETOOLONG, lambda r: os.truncate(r / LONG, 0)),
    "truncate: a running program": (
        errno.ETXTBSY,
        lambda r: while_it_runs(r, lambda program: os.truncate(program, 0)),
    ),
    "ftruncate: opened for reading": (
        errno.EINVAL,
        lambda r: on_descriptor(r / "file", os.O_RDONLY, lambda d: os.ftruncate(d, 0)),
    ),
    "ftruncate: negative": (
        errno.EINVAL,
        lambda r: on_descriptor(r / "file", W, lambda d: os.ftruncate(d, -1)),
    ),
    "ftruncate: a folder": (
        errno.EINVAL,
        lambda r: on_descriptor(r / "empty", os.O_RDONLY, lambda d: os.ftruncate(d, 0)),
    ),
    # ---- unlink(2) ----
    "unlink: nothing there": (errno.ENOENT, lambda r: os.unlink(r / "no")),
    "unlink: no such folder": (errno.ENOENT, lambda r: os.unlink(r / "no/no")),
    "unlink: below a file": (errno.ENOTDIR, lambda r: os.unlink(r / "file/x")),
    "unlink: a folder": (errno.EISDIR, lambda r: os.unlink(r / "empty")),
    "unlink: with a slash behind": (errno.ENOTDIR, lambda r: call("unlink", f"{r}/file/")),
    "unlink: long name": (errno.ENAMETOOLONG, lambda r: os.unlink(r / LONG)),
    "unlink: dot": (errno.EISDIR, lambda r: call("unlink", f"{r}/.")),
    # ---- rmdir(2) ----
    "rmdir: nothing there": (errno.ENOENT, lambda r: os.rmdir(r / "no")),
    "rmdir: a file": (errno.ENOTDIR, lambda r: os.rmdir(r / "file")),
    "rmdir: below a file": (errno.ENOTDIR, lambda r: os.rmdir(r / "file/x")),
    "rmdir: full": (errno.ENOTEMPTY, lambda r: os.rmdir(r / "full")),
    "rmdir: dot": (errno.EINVAL, lambda r: call("rmdir", f"{r}/empty/.")),
    "rmdir: dot dot": (errno.ENOTEMPTY, lambda r: call("rmdir", f"{r}/deep/er/..")),
    "rmdir: long name": (errno.ENAMETOOLONG, lambda r: os.rmdir(r / LONG)),
    # ---- mkdir(2) ----
    "mkdir: taken": (errno.EEXIST, lambda r: os.mkdir(r / "empty")),
    "mkdir: taken by a file": (errno.EEXIST, lambda r: os.mkdir(r / "file")),
    "mkdir: dot": (errno.EEXIST, lambda r: call("mkdir", f"{r}/.", 0o755)),
    "mkdir: the top": (errno.EEXIST, lambda r: os.mkdir(r)),
    "mkdir: no such folder": (errno.ENOENT, lambda r: os.mkdir(r / "no/no")),
    "mkdir: below a file": (errno.ENOTDIR, lambda r: os.mkdir(r / "file/x")),
    "mkdir: long name": (errno.ENAMETOOLONG, lambda r: os.mkdir(r / LONG)),
    "mkdir: in a removed folder": (
        errno.ENOENT,
        lambda r: in_removed(r, lambda d: os.mkdir("x", dir_fd=d)),
    ),
    # ---- rename(2), renameat2(2) ----
    "rename: nothing there": (errno.ENOENT, lambda r: os.rename(r / "no", r / "x")),
    "rename: to no such folder": (errno.ENOENT, lambda r: os.rename(r / "file", r / "no/x")),
    "rename: below a file": (errno.ENOTDIR, lambda r: os.rename(r / "file/x", r / "x")),
    "rename: to below a file": (errno.ENOTDIR, lambda r: os.rename(r / "other", r / "file/x")),
    "rename: a folder over a file": (errno.ENOTDIR, lambda r: os.rename(r / "empty", r / "file")),
    "rename: a file over a folder": (errno.EISDIR, lambda r: os.rename(r / "file", r / "empty")),
    "rename: over a full folder": (errno.ENOTEMPTY, lambda r: os.rename(r / "empty", r / "full")),
    "rename: over the folder it is in": (
        errno.ENOTEMPTY,
        lambda r: os.rename(r / "full/inside", r / "full"),
    ),
    "rename: into itself": (errno.EINVAL, lambda r: os.rename(r / "deep", r / "deep/x")),
    "rename: deep into itself": (
        errno.EINVAL,
        lambda r: os.rename(r / "deep", r / "deep/er/est/x"),
    ),
    "rename: long old name": (errno.ENAMETOOLONG, lambda r: os.rename(r / LONG, r / "x")),
    "rename: long new name": (errno.ENAMETOOLONG, lambda r: os.rename(r / "file", r / LONG)),
    "rename: dot": (errno.EBUSY, lambda r: call("rename", f"{r}/empty/.", f"{r}/x")),
    "rename: to dot dot": (errno.EBUSY, lambda r: call("rename", f"{r}/empty", f"{r}/full/..")),
    "rename: a file to a slash behind": (
        errno.ENOTDIR,
        lambda r: call("rename", f"{r}/file", f"{r}/x/"),
    ),
    "rename: to elsewhere": (errno.EXDEV, lambda r: os.rename(r / "file", "/dev/shm/x")),
    "rename: into a removed folder": (
        errno.ENOENT,
        lambda r: in_removed(r, lambda d: os.rename(r / "file", "x", dst_dir_fd=d)),
    ),
    "renameat2: taken": (
        errno.EEXIST,
        lambda r: renameat2(r / "file", r / "other", RENAME_NOREPLACE),
    ),
    "renameat2: to itself": (
        errno.EEXIST,
        lambda r: renameat2(r / "file", r / "file", RENAME_NOREPLACE),
    ),
    "renameat2: exchange with nothing": (
        errno.ENOENT,
        lambda r: renameat2(r / "file", r / "no", RENAME_EXCHANGE),
    ),
    "renameat2: exchange with what is in it": (
        errno.EINVAL,
        lambda r: renameat2(r / "deep", r / "deep/er", RENAME_EXCHANGE),
    ),
    "renameat2: exchange with what it is in": (
        errno.EINVAL,
        lambda r: renameat2(r / "deep/er/est", r / "deep", RENAME_EXCHANGE),
    ),
    "renameat2: both flags": (
        errno.EINVAL,
        lambda r: renameat2(r / "file", r / "x", RENAME_NOREPLACE | RENAME_EXCHANGE),
    ),
    "renameat2: unknown flag": (errno.EINVAL, lambda r: renameat2(r / "file", r / "x", 1 << 10)),
    # ---- chmod(2), chown(2), utimensat(2), stat(2), access(2) ----
    "chmod: nothing there": (errno.ENOENT, lambda r: os.chmod(r / "no", 0o600)),
    "chmod: below a file": (errno.ENOTDIR, lambda r: os.chmod(r / "file/x", 0o600)),
    "chmod: long name": (errno.ENAMETOOLONG, lambda r: os.chmod(r / LONG, 0o600)),
    "chown: nothing there": (errno.ENOENT, lambda r: os.chown(r / "no", 0, 0)),
    "chown: below a file": (errno.ENOTDIR, lambda r: os.chown(r / "file/x", 0, 0)),
    "chown: long name": (errno.ENAMETOOLONG, lambda r: os.chown(r / LONG, 0, 0)),
    "utimensat: nothing there": (errno.ENOENT, lambda r: os.utime(r / "no")),
    "utimensat: below a file": (errno.ENOTDIR, lambda r: os.utime(r / "file/x")),
    "utimensat: long name": (errno.ENAMETOOLONG, lambda r: os.utime(r / LONG)),
    "utimensat: too many nanoseconds": (
        errno.EINVAL,
        lambda r: utimensat(r / "file", 1_000_000_000),
    ),
    "utimensat: negative nanoseconds": (errno.EINVAL, lambda r: utimensat(r / "file", -1)),
    "stat: nothing there": (errno.ENOENT, lambda r: os.stat(r / "no")),
    "stat: below a file": (errno.ENOTDIR, lambda r: os.stat(r / "file/x")),
    "stat: long name": (errno.ENAMETOOLONG, lambda r: os.stat(r / LONG)),
    "stat: long path": (errno.ENAMETOOLONG, lambda r: os.stat(r / DEEP)),
    "statfs: nothing there": (errno.ENOENT, lambda r: os.statvfs(r / "no")),
    "exec: no right to": (errno.EACCES, lambda r: subprocess.call([r / "file"])),
    "chdir: a file": (errno.ENOTDIR, lambda r: os.chdir(r / "file")),
    # ---- symlink(2), link(2), mknod(2) ----
    "symlink: taken": (errno.EEXIST, lambda r: os.symlink("x", r / "file")),
    "symlink: taken by a folder": (errno.EEXIST, lambda r: os.symlink("x", r / "empty")),
    "symlink: no such folder": (errno.ENOENT, lambda r: os.symlink("x", r / "no/no")),
    "symlink: to nothing": (errno.ENOENT, lambda r: call("symlink", "", r / "x")),
    "symlink: below a file": (errno.ENOTDIR, lambda r: os.symlink("x", r / "file/x")),
    "symlink: long name": (errno.ENAMETOOLONG, lambda r: os.symlink("x", r / LONG)),
    "symlink: long target": (errno.ENAMETOOLONG, lambda r: os.symlink("x" * 4096, r / "x")),
    "readlink: a file": (errno.EINVAL, lambda r: os.readlink(r / "file")),
    "readlink: nothing there": (errno.ENOENT, lambda r: os.readlink(r / "no")),
    "link: nothing there": (errno.ENOENT, lambda r: os.link(r / "no", r / "x")),
    "link: taken": (errno.EEXIST, lambda r: os.link(r / "file", r / "other")),
    "link: a folder": (errno.EPERM, lambda r: os.link(r / "empty", r / "x")),
    "link: below a file": (errno.ENOTDIR, lambda r: os.link(r / "file", r / "file/x")),
    "link: to elsewhere": (errno.EXDEV, lambda r: os.link(r / "file", "/dev/shm/x")),
    "link: long name": (errno.ENAMETOOLONG, lambda r: os.link(r / "file", r / LONG)),
    "mknod: taken": (errno.EEXIST, lambda r: os.mknod(r / "file")),
    "mknod: no such folder": (errno.ENOENT, lambda r: os.mknod(r / "no/no")),
    "mknod: below a file": (errno.ENOTDIR, lambda r: os.mknod(r / "file/x")),
    "mknod: long name": (errno.ENAMETOOLONG, lambda r: os.mknod(r / LONG)),
    "mknod: a folder": (errno.EPERM, lambda r: os.mknod(r / "x", stat.S_IFDIR | 0o755)),
    "mkfifo: taken": (errno.EEXIST, lambda r: os.mkfifo(r / "file")),
    "bind: taken": (errno.EADDRINUSE, lambda r: bind(r, "file")),
}

DIFFERENT: dict[str, tuple[int, Attempt]] = {
    "link: a file": (errno.EPERM, lambda r: os.link(r / "file", r / "x")),
    "mkfifo": (errno.EPERM, lambda r: os.mkfifo(r / "x")),
    "mknod: a device": (errno.EPERM, lambda r: os.mknod(r / "x", stat.S_IFCHR, os.makedev(1, 3))),
    "mknod: a disk": (errno.EPERM, lambda r: os.mknod(r / "x", stat.S_IFBLK, os.makedev(7, 0))),
    "chown: to somebody else": (errno.EPERM, lambda r: os.chown(r / "file", 12345, -1)),
    "truncate: larger than Dropbox takes": (
        errno.EFBIG,
        lambda r: os.truncate(r / "file", 3 * 1024**4),
    ),
    "write: beyond what Dropbox takes": (
        errno.EFBIG,
        lambda r: on_descriptor(r / "file", W, lambda d: os.pwrite(d, b"x", 3 * 1024**4)),
    ),
    "open: a file without a name": (
        errno.EOPNOTSUPP,
        lambda r: opened(r / "empty", os.O_TMPFILE | os.O_RDWR),
    ),
    "renameat2: whiteout": (errno.EINVAL, lambda r: renameat2(r / "file", r / "x", 4)),
}


def bind(root: Path, name: str) -> None:
    """bind(2) of a socket to a name, which is at most 107 bytes long."""

    def short() -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)

    from_within(root, short)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder, furnished."""
    folder = tmp_path_factory.mktemp("plain")
    furnish(folder)
    return folder


@pytest.fixture
def furnished(mounted: Mounted) -> Iterator[Path]:
    """The mount, furnished; nothing that is refused changes it."""
    furnish(mounted.path)
    before = shape(mounted.path)
    yield mounted.path
    (mounted.path / "program").unlink(missing_ok=True)
    assert shape(mounted.path) == before


def shape(root: Path) -> dict[str, bytes | None]:
    """Names, and contents of files."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


def test_everything_that_is_refused_on_a_plain_folder_is_refused_the_same_way(
    furnished: Path, plain: Path
) -> None:
    wrong = []
    for what, (code, attempt) in ATTEMPTS.items():
        on_plain, on_mount = outcome(attempt, plain), outcome(attempt, furnished)
        if not on_plain == on_mount == errno.errorcode[code]:
            wrong.append(f"{what}: {on_mount}, on a plain folder {on_plain}")
    assert wrong == []


def test_what_dropbox_has_no_place_for_is_refused(furnished: Path) -> None:
    wrong = []
    for what, (code, attempt) in DIFFERENT.items():
        found = outcome(attempt, furnished)
        if found != errno.errorcode[code]:
            wrong.append(f"{what}: {found}")
    assert wrong == []


def outcome(attempt: Attempt, root: Path) -> str:
    """The name of the errno, or that it was done."""
    try:
        attempt(root)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


# ---- What needs a mount of its own kind ----


def test_the_top_of_the_mount_can_be_neither_removed_nor_renamed(mounted: Mounted) -> None:
    with refused(errno.EBUSY):
        os.rmdir(mounted.path)
    with refused(errno.EBUSY, errno.EXDEV):
        os.rename(mounted.path, mounted.folder / "elsewhere")


def test_a_mount_for_reading_only_says_so(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount(options=["ro"], start=False)
    mounted.server.edit([{"op": "write", "path": f"/{n}", "text": n} for n in ("file", "full/i")])
    mounted.start()
    root = mounted.path
    mounted.sync()
    attempts: list[Callable[[], object]] = [
        lambda: opened(root / "file", W),
        lambda: opened(root / "new", C | W),
        lambda: os.truncate(root / "file", 0),
        lambda: os.mkdir(root / "new"),
        lambda: os.rmdir(root / "full"),
        lambda: os.unlink(root / "file"),
        lambda: os.rename(root / "file", root / "new"),
        lambda: os.chmod(root / "file", 0o600),
        lambda: os.chown(root / "file", 0, 0),
        lambda: os.utime(root / "file"),
        lambda: os.symlink("x", root / "new"),
        lambda: os.link(root / "file", root / "new"),
        lambda: os.mknod(root / "new"),
    ]
    for attempt in attempts:
        with refused(errno.EROFS):
            attempt()
    assert (root / "file").read_text() == "file"


NOBODY = 65534

FORBIDDEN: dict[str, tuple[int, Attempt]] = {
    "open: for reading": (errno.EACCES, lambda r: opened(r / "secret", os.O_RDONLY)),
    "open: for writing": (errno.EACCES, lambda r: opened(r / "file", W)),
    "open: make": (errno.EACCES, lambda r: opened(r / "new", C | W)),
    "open: not to keep the time of reading": (
        errno.EPERM,
        lambda r: opened(r / "file", os.O_NOATIME),
    ),
    "open: in a folder that cannot be entered": (
        errno.EACCES,
        lambda r: opened(r / "closed/inside", os.O_RDONLY),
    ),
    "stat: in a folder that cannot be entered": (
        errno.EACCES,
        lambda r: os.stat(r / "closed/inside"),
    ),
    "readdir: cannot be listed": (errno.EACCES, lambda r: os.listdir(r / "closed")),
    "chdir: cannot be entered": (errno.EACCES, lambda r: os.chdir(r / "closed")),
    "truncate": (errno.EACCES, lambda r: os.truncate(r / "file", 0)),
    "unlink": (errno.EACCES, lambda r: os.unlink(r / "file")),
    "unlink: of another's in a sticky folder": (errno.EPERM, lambda r: os.unlink(r / "tmp/file")),
    "rename: of another's in a sticky folder": (
        errno.EPERM,
        lambda r: os.rename(r / "tmp/file", r / "tmp/x"),
    ),
    "rename": (errno.EACCES, lambda r: os.rename(r / "file", r / "x")),
    "rename: into": (errno.EACCES, lambda r: os.rename(r / "file", r / "tmp/x")),
    "rmdir": (errno.EACCES, lambda r: os.rmdir(r / "empty")),
    "rmdir: of another's in a sticky folder": (errno.EPERM, lambda r: os.rmdir(r / "tmp/folder")),
    "mkdir": (errno.EACCES, lambda r: os.mkdir(r / "new")),
    "symlink": (errno.EACCES, lambda r: os.symlink("x", r / "new")),
    "mknod": (errno.EACCES, lambda r: os.mknod(r / "new")),
    "chmod": (errno.EPERM, lambda r: os.chmod(r / "file", 0o600)),
    "chown": (errno.EPERM, lambda r: os.chown(r / "file", NOBODY, NOBODY)),
    "utimensat: to now": (errno.EACCES, lambda r: os.utime(r / "file")),
    "utimensat: to then": (errno.EPERM, lambda r: os.utime(r / "tmp/open", ns=(0, 0))),
    "setxattr": (errno.EACCES, lambda r: os.setxattr(r / "file", "user.x", b"x")),
}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_else_is_refused_what_the_modes_forbid(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    mounted = make_mount(options=["allow_other"])
    plain = tmp_path / "plain"
    plain.mkdir()
    for root in (mounted.path, plain):
        furnish(root)
        root.chmod(0o755)
        (root / "secret").write_text("secret")
        (root / "secret").chmod(0o600)
        (root / "closed").mkdir()
        (root / "closed" / "inside").write_text("inside")
        (root / "closed").chmod(0o700)
        (root / "tmp" / "folder").mkdir(parents=True)
        for name in ("file", "open"):
            (root / "tmp" / name).write_text(name)
        (root / "tmp" / "open").chmod(0o666)
        (root / "tmp").chmod(0o1777)
    wrong = []
    for what, (code, attempt) in FORBIDDEN.items():
        found = [as_nobody(root, attempt) for root in (plain, mounted.path)]
        if found != [errno.errorcode[code]] * 2:
            wrong.append(f"{what}: on a plain folder and here {found}")
    assert wrong == []


def as_nobody(root: Path, attempt: Attempt) -> str:
    """How it ends for an ordinary user, in a process of its own that is in `root` already."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(root)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writer, outcome(attempt, Path()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        return os.read(reader, 100).decode()
    finally:
        os.close(reader)
        os.waitpid(child, 0)


@pytest.mark.parametrize("character", ["n", "ü", "語", "🦉"])
def test_a_name_of_255_characters_is_taken_and_one_more_is_not(
    mounted: Mounted, character: str
) -> None:
    """Dropbox counts characters; the kernel counts bytes, and lets 1024 of them through."""
    name = character * 255
    (mounted.path / name).write_text(name)
    assert os.listdir(mounted.path) == [name]
    assert os.pathconf(mounted.path, "PC_NAME_MAX") == 255
    for attempt in (
        lambda: (mounted.path / (name + "n")).write_text("x"),
        lambda: os.rename(mounted.path / name, mounted.path / (name + "n")),
        lambda: os.mkdir(mounted.path / (name + character)),
    ):
        with refused(errno.ENAMETOOLONG):
            attempt()
    mounted.sync()
    assert mounted.server.paths() == [f"/{name}"]
    mounted.remount()
    assert (mounted.path / name).read_text() == name
