"""Whether a lookup is made for a rename that changes nothing but the spelling of a name.

To the kernel a rename from `a` to `A` is no rename when both names lead to one inode: it returns
success and asks nobody. So in that one call `A` must not be there yet. FUSE does not say what a
lookup is for; the program that waits for the answer does: the system call that it is in, and the
paths that it gave, can be read in /proc by whoever may trace it. Root may, and so may the same
user unless Yama is told otherwise (kernel.yama.ptrace_scope); where it is not allowed, nothing is
said and such a rename does nothing, as on other file systems that ignore case.

Rejected: to show the other spelling as another inode, since then cp(1) takes the two for two
files and empties the one by copying to the other; and to answer ESTALE, upon which the kernel
looks up both names anew, since it cannot be told apart from other work when `A` was looked at
before.
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


def is_respelling(pid: int, name: bytes) -> bool:
    """Whether the thread is renaming something to `name` from another spelling of it.

    `pid`: the thread that waits for the lookup of `name`. Blocks; the memory that is read can lie
    in a file on this very mount. False where it cannot be told.
    """
    try:
        number, *arguments = _system_call(pid)
        call = _CALLS.get(platform.machine(), {}).get(number)
        if call is None or (call.flags is not None and arguments[call.flags] & _EXCHANGE):
            return False
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            old = _names(_string(memory.fileno(), arguments[call.old]))
            new = _names(_string(memory.fileno(), arguments[call.new]))
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
