"""What is mounted where, as the kernel's table says (proc(5), mountinfo).

A mount whose daemon died or hangs answers nothing, or keeps the asker waiting, so whoever wants
to know of a mount point, or to unmount it, must not ask the mount itself: no stat, no realpath of
the last component.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

DROPBOX = "fuse.dbxfs"
"""The file system type of our mounts."""

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_MOST_LINKS = 40


def place(mountpoint: Path) -> Path:
    """The mount point's real path; the file system that is mounted there is not asked.

    OSError (ELOOP) when symbolic links lead nowhere.
    """
    if mountpoint.name in ("", ".."):
        return Path(os.path.realpath(mountpoint))
    for _ in range(_MOST_LINKS):
        mountpoint = Path(os.path.realpath(mountpoint.parent)) / mountpoint.name
        try:
            mountpoint = mountpoint.parent / os.readlink(mountpoint)
        except OSError:
            return mountpoint
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(mountpoint))


def mounted_type(real: Path, table: Path = _TABLE) -> str | None:
    """The type of what is mounted at a real path, the uppermost where there are several."""
    found = _uppermost(real, table)
    return None if found is None else found[1][0].decode(errors="replace")


def mounted_device(real: Path, table: Path = _TABLE) -> int | None:
    """The device number, as stat(2) would give it, of what is mounted at a real path."""
    found = _uppermost(real, table)
    if found is None:
        return None
    major, _, minor = found[0][2].partition(b":")
    return os.makedev(int(major), int(minor))


def _uppermost(real: Path, table: Path) -> tuple[list[bytes], list[bytes]] | None:
    """The fields of its line before and after the separator."""
    wanted = os.fsencode(real)
    found = None
    for line in table.read_bytes().splitlines():
        before, separator, after = line.partition(b" - ")
        fields = before.split(b" ")
        if separator and _plain(fields[4]) == wanted:
            found = fields, after.split(b" ")
    return found


def _plain(field: bytes) -> bytes:
    """The kernel writes blanks, line ends and backslashes in octal."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
