"""The program that carries out operations on the mount so that the kernel tells its watchers.

It runs as a process of its own, told one operation after another in lines of JSON, and answers
each with an errno. It imports nothing of dbxfs, so that it starts in a moment and stays small.
The daemon knows its process id and changes nothing at its requests.

A thread of the daemon would hold the connection to the kernel open: killed while it waits for an
answer that nobody gives any more, neither it nor the mount could ever end.

A folder is opened by its path and taken only if it is the inode that is meant; what is mounted
over it is never touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

Message = dict[str, Any]

_UTIME_OMIT = (1 << 30) - 2
_AT_SYMLINK_NOFOLLOW = 0x100
_FIRST_OPEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def main() -> None:
    """Serve until standard input ends. Arguments: the mount point, its device number."""
    mountpoint, device = os.fsencode(sys.argv[1]), int(sys.argv[2])
    for line in sys.stdin.buffer:
        code = 0
        try:
            carry_out(json.loads(line), mountpoint, device)
        except OSError as error:
            code = error.errno or errno.EIO
        try:
            os.write(sys.stdout.fileno(), b"%d\n" % code)
        except BrokenPipeError:
            # The daemon was killed.
            return


def carry_out(message: Message, mountpoint: bytes, device: int) -> None:
    """One operation. Raises OSError."""
    with _folder(message["folder"], mountpoint, device) as folder:
        name = message["name"].encode("latin-1")
        if message["do"] == "move":
            with _folder(message["into"], mountpoint, device) as into:
                _move(message, folder, name, into)
        else:
            _OPERATIONS[message["do"]](message, folder, name)


@contextlib.contextmanager
def _folder(where: list[Any], mountpoint: bytes, device: int) -> Iterator[int]:
    """A descriptor of the folder: its inode number, and its path from the mount point."""
    ino, path = where[0], where[1].encode("latin-1")
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(mountpoint, flags & ~os.O_NOFOLLOW)
    try:
        _check(top, device)
        folder = os.open(path or b".", flags, dir_fd=top)
    finally:
        os.close(top)
    try:
        _check(folder, device, ino)
        yield folder
    finally:
        os.close(folder)


def _check(descriptor: int, device: int, ino: int | None = None) -> None:
    found = os.fstat(descriptor)
    if found.st_dev != device or ino not in (None, found.st_ino):
        raise OSError(errno.ESTALE, "another one is there")


def _create(message: Message, folder: int, name: bytes) -> None:
    descriptor = os.open(name, _FIRST_OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    try:
        if message["size"]:
            os.ftruncate(descriptor, message["size"])
    finally:
        os.close(descriptor)


def _mkdir(message: Message, folder: int, name: bytes) -> None:
    os.mkdir(name, 0o700, dir_fd=folder)


def _symlink(message: Message, folder: int, name: bytes) -> None:
    os.symlink(message["link"].encode("latin-1"), name, dir_fd=folder)


def _unlink(message: Message, folder: int, name: bytes) -> None:
    os.unlink(name, dir_fd=folder)


def _rmdir(message: Message, folder: int, name: bytes) -> None:
    os.rmdir(name, dir_fd=folder)


def _write(message: Message, folder: int, name: bytes) -> None:
    try:
        descriptor = os.open(name, _FIRST_OPEN, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ETXTBSY):
            raise
        # Nobody may write to it here: then at least that it is modified.
        _set_mtime_alone(folder, name, message["mtime_ns"])
        return
    try:
        os.ftruncate(descriptor, message["size"])
    finally:
        os.close(descriptor)


def _set_mtime_alone(folder: int, name: bytes, mtime_ns: int) -> None:
    """utimensat(2) that leaves the other time out, which os.utime cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    times = (_Timespec * 2)(_Timespec(0, _UTIME_OMIT), _Timespec(*divmod(mtime_ns, 10**9)))
    if libc.utimensat(folder, name, times, _AT_SYMLINK_NOFOLLOW):
        raise OSError(ctypes.get_errno(), "utimensat")


def _touch(message: Message, folder: int, name: bytes) -> None:
    mtime_ns = message["mtime_ns"]
    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)


def _move(message: Message, folder: int, name: bytes, into: int) -> None:
    # It also has the kernel learn of it before the folders are locked: a folder that it knows
    # under another name cannot be put here within a rename.
    if os.lstat(name, dir_fd=folder).st_ino != message["ino"]:
        raise OSError(errno.ESTALE, "another one is there")
    target = message["as"].encode("latin-1")
    os.rename(name, target, src_dir_fd=folder, dst_dir_fd=into)


_OPERATIONS: dict[str, Callable[[Message, int, bytes], None]] = {
    "create": _create,
    "mkdir": _mkdir,
    "symlink": _symlink,
    "unlink": _unlink,
    "rmdir": _rmdir,
    "write": _write,
    "touch": _touch,
}


if __name__ == "__main__":
    main()
