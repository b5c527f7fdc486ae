"""A thread with descriptors of its own, so that one stuck in the kernel does not keep the mount.

Telling the kernel that something is stale can wait, in a way that no signal ends, for a request
that is under way in the same file or folder. When the daemon is killed just then, the answer never
comes; the thread holds the connection open, so the kernel does not give the request up either:
neither the daemon nor the program nor the mount would ever end.

The kernel lets go of the requests that were read from a descriptor when that one is closed. So the
thread leaves the table of descriptors that threads share (unshare(2)) and puts in the place of the
connection another one to the same file system (FUSE_DEV_IOC_CLONE), since libfuse writes to the
descriptor by its number. A killed daemon then closes the one that it reads from, the program gets
its error, and the thread gets on and ends.

Whatever the thread does from then on must touch no descriptor that others open or close: no
logging (files are rotated), no waking of the event loop.

Rejected: a process for it, which would have to be given every change by way of a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct

DEVICE = "/dev/fuse"
STANDARD = 2
"""Descriptors up to this one are for all."""

_OWN = "/proc/thread-self/fd"
_CLONE_FILES = 0x400
_FUSE_DEV_IOC_CLONE = 0x8004E500


def set_apart() -> bool:
    """Give the calling thread descriptors of its own, of which only the connection is left.

    False where that cannot be had: then it is as it was, or has copies of all. An ordinary user
    needs the right to open /dev/fuse, which is everybody's on common systems.
    """
    connections = [number for number in _numbers() if _leads_to(number) == DEVICE]
    if len(connections) != 1:
        return False
    (connection,) = connections
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_FILES):
        return False
    try:
        clone = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(clone, _FUSE_DEV_IOC_CLONE, struct.pack("I", connection))
        os.dup2(clone, connection, inheritable=False)
    except OSError:
        clone = -1
    for number in _numbers():
        if number > STANDARD and number != connection:
            with contextlib.suppress(OSError):
                os.close(number)
    return clone >= 0


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir(_OWN)]


def _leads_to(number: int) -> str | None:
    try:
        return os.readlink(f"{_OWN}/{number}")
    except OSError:
        return None
