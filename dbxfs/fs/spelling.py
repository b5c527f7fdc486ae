"""Whether a lookup is made for a rename that changes nothing but the spelling of a name.

To the kernel a rename from `a` to `A` is no rename when both names lead to one inode: it returns
success and asks nobody. So in that one call `A` must not be there yet. FUSE does not say what a
lookup is for; the program that waits for the answer does: the system call that it is in, and the
paths that it gave, can be read in /proc by whoever may trace it. Root may, and so may the same
user unless Yama is told otherwise (kernel.yama.ptrace_scope).

Where it is not allowed, the kernel is made to tell (`Retries`): answered ESTALE, it goes the whole
way once more and trusts nothing that it holds, so a rename looks up `a` again before `A`, and what
wants `A` alone does not. It costs two lookups more, and while the kernel still holds an `A` that
was looked at just before, it asks twice for that and the rename does nothing; therefore the first
way where it can be had.

Rejected: to show the other spelling as another inode, since then cp(1) takes the two for two
files and empties the one by copying to the other.
"""

from __future__ import annotations

import os
import platform
import posixpath
import time
from dataclasses import dataclass

from dbxfs.core.names import decode_name, fold

PATH_MAX = 4096
PAGE = 4096
FALLS_ASLEEP_WITHIN = 0.05
"""Seconds in which a program that has just asked is waiting for the answer."""

_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class _Call:
    """A system call that renames: where its arguments are."""

    old: int
    new: int
    flags: int | None = None


_RENAME, _RENAMEAT, _RENAMEAT2 = _Call(0, 1), _Call(1, 3), _Call(1, 3, 4)

_I386 = {38: _RENAME, 302: _RENAMEAT, 353: _RENAMEAT2}
_ARM = {38: _RENAME, 329: _RENAMEAT, 382: _RENAMEAT2}
_GENERIC = {38: _RENAMEAT, 276: _RENAMEAT2}

_CALLS: dict[str, dict[int, _Call]] = {
    # What a 32-bit program's numbers mean to 64-bit ones takes no paths.
    "x86_64": {82: _RENAME, 264: _RENAMEAT, 316: _RENAMEAT2, **_I386},
    "i686": _I386,
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "armv7l": _ARM,
    "ppc64le": {38: _RENAME, 293: _RENAMEAT, 357: _RENAMEAT2},
    "s390x": {38: _RENAME, 295: _RENAMEAT, 347: _RENAMEAT2},
}


RETRY_WITHIN = 1.0
"""Seconds in which the kernel goes the way again; it does so once, then programs see ESTALE."""


@dataclass(slots=True)
class _Asked:
    """What a thread was answered ESTALE for: folder and key, the spelling, and when."""

    place: tuple[int, str]
    name: str
    at: float
    passed: bool = False
    """It has looked at another spelling since."""
    told: bool = False
    """It has come for this one again."""


class Retries:
    """Tells renames that change the spelling by how the kernel tries again after ESTALE."""

    def __init__(self) -> None:
        self._asked: dict[int, _Asked] = {}
        """By thread."""

    def noted(self, pid: int, parent: int, name: str) -> None:
        """A thread looks up a name, in whichever spelling."""
        asked = self._asked.get(pid)
        if asked is not None and asked.place == (parent, fold(name)) and asked.name != name:
            asked.passed = True

    def is_respelling(self, pid: int, parent: int, name: str) -> bool | None:
        """Whether the thread that looks up this spelling renames to it; None: answer ESTALE."""
        now, place = time.monotonic(), (parent, fold(name))
        fresh = {p: asked for p, asked in self._asked.items() if now - asked.at < RETRY_WITHIN}
        asked, self._asked = fresh.get(pid), fresh
        if asked is None:
            fresh[pid] = _Asked(place, name, now)
            return None
        if asked.told or (asked.place, asked.name) != (place, name):
            return False
        asked.told = True
        return asked.passed

    def renamed(self, pid: int) -> None:
        """A thread has come to rename something: it goes no way again."""
        self._asked.pop(pid, None)


def is_respelling(pid: int, name: bytes) -> bool | None:
    """Whether the thread is renaming something to `name` from another spelling of it.

    `pid`: the thread that waits for the lookup of `name`. Blocks; the memory that is read can lie
    in a file on this very mount. None where we may not look; False where it cannot be told.
    """
    try:
        number, *arguments = _system_call(pid)
        call = _CALLS.get(platform.machine(), {}).get(number)
        if call is None or (call.flags is not None and arguments[call.flags] & _EXCHANGE):
            return False
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            old = _names(_string(memory.fileno(), arguments[call.old]))
            new = _names(_string(memory.fileno(), arguments[call.new]))
    except PermissionError:
        return None
    except (OSError, ValueError, IndexError):
        return False
    # A folder on the way can have the same name; then nobody knows which of them is looked up.
    return (
        bool(old)
        and new[-1:] == [name]
        and [*old, *new].count(name) == 1
        and fold(decode_name(old[-1])) == fold(decode_name(name))
    )


def _system_call(pid: int) -> list[int]:
    """Number and arguments of the call that the thread waits in. Raises OSError, ValueError."""
    deadline = time.monotonic() + FALLS_ASLEEP_WITHIN
    while True:
        with open(f"/proc/{pid}/syscall") as file:
            said = file.read().split()
        if said != ["running"] or time.monotonic() > deadline:
            return [int(word, 0) for word in said]
        time.sleep(0)


def _string(memory: int, address: int) -> bytes:
    """The string there, page by page: what lies behind it may not be readable."""
    found = bytearray()
    while len(found) < PATH_MAX:
        piece = os.pread(memory, PAGE - (address + len(found)) % PAGE, address + len(found))
        end = piece.find(b"\0")
        if end >= 0:
            return bytes(found + piece[:end])
        if not piece:
            break
        found += piece
    raise ValueError("no string")


def _names(path: bytes) -> list[bytes]:
    return [name for name in posixpath.normpath(path).split(b"/") if name]
