"""What inotify tells of a folder or file: a reader of the kernel's events, by way of libc.

The descriptor belongs to the process of the tests, so it is also what the daemon finds when it
looks for watchers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAMES = {
    0x2: "MODIFY",
    0x4: "ATTRIB",
    0x8: "CLOSE_WRITE",
    0x40: "MOVED_FROM",
    0x80: "MOVED_TO",
    0x100: "CREATE",
    0x200: "DELETE",
    0x400: "DELETE_SELF",
    0x800: "MOVE_SELF",
}
"""The events that are asked for; of reading and of opening there is too much."""

_EVENT = struct.Struct("iIII")
_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Notice:
    """One event: of which watched path, what, and the name in it."""

    path: Path
    what: str
    name: str
    cookie: int

    def __str__(self) -> str:
        """The event in short, like "CREATE a.txt"."""
        return f"{self.what} {self.name}".strip()


class Watcher:
    """Watches some paths and collects what is told of them."""

    def __init__(self, *paths: Path) -> None:
        self.notices: list[Notice] = []
        self._descriptor = _libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        self._paths: dict[int, Path] = {}
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> None:
        """Watch it too."""
        watch = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), sum(NAMES))
        assert watch >= 0, os.strerror(ctypes.get_errno())
        self._paths[watch] = path

    def read(self, seconds: float) -> None:
        """Collect what comes, after waiting for the first event for at most so long."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return
        data = os.read(self._descriptor, 65536)
        at = 0
        while at < len(data):
            watch, mask, cookie, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + length].rstrip(b"\0").decode()
            at += length
            what = NAMES.get(mask & sum(NAMES))
            if what is not None:
                self.notices.append(Notice(self._paths[watch], what, name, cookie))

    def told(self, *wanted: str, within: float = 4.0) -> list[Notice]:
        """The notices once all that is wanted has come, in that order, with others between.

        AssertionError when it has not come in time (seconds).
        """
        deadline = time.monotonic() + within
        while True:
            if _is_within(list(wanted), [str(notice) for notice in self.notices]):
                return self.notices
            left = deadline - time.monotonic()
            if left < 0:
                had = [str(notice) for notice in self.notices]
                raise AssertionError(f"not told of {wanted} within {within:g} s, but of {had}")
            self.read(left)

    def close(self) -> None:
        """Watch no more."""
        os.close(self._descriptor)


def _is_within(wanted: list[str], had: list[str]) -> bool:
    remaining = iter(had)
    return all(one in remaining for one in wanted)


@contextlib.contextmanager
def watching(*paths: Path) -> Iterator[Watcher]:
    """Watches the paths within."""
    watcher = Watcher(*paths)
    try:
        yield watcher
    finally:
        watcher.close()
