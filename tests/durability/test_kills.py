"""SIGKILL of the daemon at every request that its journal makes: nothing is lost, nothing twice.

Each case is one piece of work and the request of it that is held, before the server has done it
and after, while the daemon still waits for the reply. Then the daemon is killed and started again.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.durability.ambush import (
    MIB,
    MOMENTS,
    SESSION,
    THOROUGH,
    WRITES,
    Moment,
    Operation,
    Twins,
    hold,
    wait_held,
)

pytestmark = [pytest.mark.timeout(150), pytest.mark.hangs_after(120)]

LARGE = bytes(range(256)) * 40 * 1024
"""10 MiB: an upload session of two parts."""

KILLED: tuple[Moment, ...] = MOMENTS if THOROUGH else ("after",)
"""A kill before the request's work is like one before the request, which is always there."""


@dataclass(frozen=True)
class Case:
    """A piece of work, and the request of it that is held: the `skip`+1st of `route`."""

    work: Operation
    route: str
    skip: int = 0


def write(name: str, data: bytes) -> Operation:
    """Write a whole file."""
    return lambda root: (root / name).write_bytes(data)


def save(name: str, data: bytes) -> Operation:
    """Write a temporary file and rename it over the other, as editors do."""

    def work(root: Path) -> None:
        (root / "temporary").write_bytes(data)
        os.rename(root / "temporary", root / name)

    return work


def rename(*names: str) -> Operation:
    """Rename pairs of names, one after the other."""

    def work(root: Path) -> None:
        for old, new in zip(names[::2], names[1::2], strict=True):
            os.rename(root / old, root / new)

    return work


def patch(root: Path) -> None:
    """Change a few bytes in the middle of a large file."""
    with (root / "large").open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"patched")


CASES = {
    "a new file": Case(write("new", b"new"), "files/upload"),
    "an empty file": Case(write("new", b""), "files/upload"),
    "a changed file": Case(write("one", b"one, changed"), "files/upload"),
    "the same content": Case(write("one", b"one"), "files/upload"),
    "a save by rename": Case(save("one", b"one, saved"), "files/upload"),
    "session start": Case(write("new", LARGE), f"{SESSION}/start"),
    "first append": Case(write("new", LARGE), f"{SESSION}/append_v2"),
    "last append": Case(write("new", LARGE), f"{SESSION}/append_v2", 1),
    "session finish": Case(write("new", LARGE), f"{SESSION}/finish"),
    "change of a large file": Case(patch, f"{SESSION}/finish"),
    "rename": Case(rename("one", "uno"), "files/move_v2"),
    "rename into a folder": Case(rename("one", "d/one"), "files/move_v2"),
    "rename over another": Case(rename("one", "two"), "files/move_v2"),
    "rename over another, then": Case(rename("one", "two"), "files/delete_v2"),
    "rename of case": Case(rename("one", "t", "t", "ONE"), "files/move_v2"),
    "rename of case, then": Case(rename("one", "t", "t", "ONE"), "files/move_v2", 1),
    "swap": Case(rename("one", "t", "two", "one", "t", "two"), "files/move_v2"),
    "swap, then": Case(rename("one", "t", "two", "one", "t", "two"), "files/move_v2", 1),
    "swap, at last": Case(rename("one", "t", "two", "one", "t", "two"), "files/move_v2", 2),
    "rename of a folder": Case(rename("d", "e"), "files/move_v2"),
    "delete": Case(lambda root: (root / "one").unlink(), "files/delete_v2"),
    "delete of a folder": Case(lambda root: shutil.rmtree(root / "d"), "files/delete_v2"),
    "new folder": Case(lambda root: (root / "new").mkdir(), "files/create_folder_v2"),
    "folder in a new one": Case(
        lambda root: (root / "new" / "er").mkdir(parents=True), "files/create_folder_v2", 1
    ),
}


USUAL = (
    *("a new file", "a save by rename", "session start", "first append", "session finish"),
    *("rename over another", "swap, then", "rename of a folder", "delete", "delete of a folder"),
    *("new folder", "folder in a new one"),
)
"""One of each request and what is hardest; the others as well where there is time."""


def begin(root: Path) -> None:
    """What each case finds, and Dropbox has."""
    (root / "d" / "deep").mkdir(parents=True)
    for name in ("one", "two", "d/three", "d/deep/four"):
        (root / name).write_bytes(name.encode())
    (root / "large").write_bytes(LARGE[::-1])


@pytest.mark.parametrize("name", CASES if THOROUGH else USUAL)
def test_a_kill_at_a_request_loses_nothing_and_does_nothing_twice(twins: Twins, name: str) -> None:
    """Killed before the first request, and each time when it comes back and is at that request."""
    case, mounted = CASES[name], twins.mounted
    twins.clear()
    twins.do(lambda root: begin(root / name))
    twins.settle()
    mounted.server.reset_counters()
    twins.do(lambda root: case.work(root / name))
    mounted.kill()
    made = mounted.server.counters()["requests"]
    assert not made.keys() & set(WRITES), "too late to test anything"
    for moment in KILLED:
        # After the first of these kills, what came before the request is done.
        hold(mounted, moment, [case.route], [case.skip if moment == KILLED[0] else 0])
        mounted.start()
        twins.check_local()
        assert wait_held(mounted) == case.route, "the work takes another way"
        mounted.kill()
    mounted.server.faults()
    mounted.start()
    twins.check_local()
    twins.settle()
