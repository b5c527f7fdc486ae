"""Who watches: the inodes of a file system that programs have inotify or fanotify marks on.

Nobody tells a FUSE daemon of them, but the kernel lists each mark in the fdinfo of the descriptor
that it belongs to (proc_pid_fdinfo(5)), with the device number and, since FUSE inodes bear our
numbers, ours. An ordinary user can read those of the own processes, which is who can use the
mount; who looks without being seen is told nothing.
"""

from __future__ import annotations

import os
import re

_KINDS = frozenset(("anon_inode:inotify", "anon_inode:[fanotify]"))
_MARK = re.compile(rb"^(?:inotify wd:\S+|fanotify) ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
_MINOR_BITS = 20


def watched_inodes(device: int, proc: str = "/proc") -> frozenset[int]:
    """The inode numbers that are watched on the file system of `device` (as of stat(2)). Blocks.

    Costs about two system calls for each descriptor of each process that may be looked at.
    """
    found: set[int] = set()
    for process in os.listdir(proc):
        if process.isdigit():
            for info in _infos(f"{proc}/{process}"):
                found |= marks(info, device)
    return frozenset(found)


def _infos(process: str) -> list[bytes]:
    """The fdinfo of the process's descriptors for notifications; none, if we may not look."""
    infos = []
    try:
        for descriptor in os.listdir(f"{process}/fd"):
            try:
                if os.readlink(f"{process}/fd/{descriptor}") in _KINDS:
                    with open(f"{process}/fdinfo/{descriptor}", "rb", buffering=0) as file:
                        infos.append(file.readall())
            except FileNotFoundError:
                continue
    except OSError:
        return infos
    return infos


def marks(info: bytes, device: int) -> set[int]:
    """The inode numbers in one fdinfo that are on the device."""
    kernel_device = os.major(device) << _MINOR_BITS | os.minor(device)
    return {int(ino, 16) for ino, at in _MARK.findall(info) if int(at, 16) == kernel_device}
