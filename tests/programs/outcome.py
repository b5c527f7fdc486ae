"""What a program does in a folder, so that two folders can be compared: one on a disk, one mounted.

A *work* is a function that is given a `Desk`, runs programs in its folder and lets the desk write
down what each of them said. What it leaves is read afterwards: names, kinds, modes, times, sizes,
contents, link targets, `user.*` attributes. Said and left together are the `Outcome`, and that of
the mount must be that of the disk.

What cannot be the same twice, also on one disk, is taken out: the folder's own path, and a time
that was not set by a program (it must lie within the work). What else may differ is named by the
test that allows it, with the reason; none of that is a rule here.

Rejected: comparing only exit codes and contents. A program that falls back on something slower, or
a time that is kept to the second, would not be seen.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from tests.mount.mounted import run

NONE: Mapping[str, str] = MappingProxyType({})

NOW = "now"
"""Stands for a time that nobody has set."""

COARSE_CLOCK = 5
"""CLOCK_REALTIME_COARSE of clock_gettime(2)."""

PYTHON = os.environ.get("DBXFS_PROGRAMS_PYTHON", sys.executable)
"""The Python whose programs work at a desk; other users may not be able to run ours."""

SLACK_NS = 20_000_000
"""By so much the kernel's coarse clock can be behind."""


@dataclass(frozen=True)
class Left:
    """One entry that a work left. `size` and `content` of files only; `time`: mtime_ns or NOW."""

    kind: str
    mode: str
    time: int | str
    size: int | None = None
    content: str | None = None
    target: str | None = None
    attributes: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What the programs said, one item a program, and what they left, by path in the folder."""

    said: list[str]
    left: dict[str, Left]


@dataclass
class Desk:
    """Where a work is done. `folder` is under test; `spare` is beside it, always on the disk."""

    folder: Path
    spare: Path
    env: Mapping[str, str]
    said: list[str] = field(default_factory=list)
    started_ns: int = field(default_factory=time.time_ns)

    def run(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        status: int = 0,
        said: Callable[[str], str] = str,
        timeout: float = 60,
    ) -> str:
        """Run a program in the folder; it must end with `status`. Returns what it printed.

        What it said is part of the outcome as far as `said` lets through. What is changed after it
        is newer than what it has changed, on the disk too.
        """
        done = run(
            *command,
            cwd=cwd or self.folder,
            env={**self.env, **(env or {})},
            input=input,
            timeout=timeout,
        )
        words = " ".join(map(str, command))
        both = done.stdout + done.stderr
        assert done.returncode == status, f"{words} gave {done.returncode}: {both[-4000:]}"
        self.note(f"$ {words}", said(both))
        a_tick_passes()
        return done.stdout

    def note(self, *lines: str) -> None:
        """Make something part of the outcome."""
        text = "\n".join(lines).replace(str(self.folder), "HERE").replace(str(self.spare), "SPARE")
        self.said.append(text)

    def outcome(self) -> Outcome:
        """All that was said and is left."""
        return Outcome(self.said, tree(self.folder, self.started_ns))


def a_tick_passes() -> None:
    """Wait until the clock of the disk has moved on: a few milliseconds.

    A disk takes the time from the kernel's coarse clock, so that two changes can be of the same
    time, and `find -newer` and make take neither for the newer one. Ours reads the exact clock.
    """
    now = time.clock_gettime_ns(COARSE_CLOCK)
    while time.clock_gettime_ns(COARSE_CLOCK) == now:
        time.sleep(0.0005)


def without(
    outcome: Outcome, unlike: Mapping[str, str] = NONE, ignored: Mapping[str, str] = NONE
) -> Outcome:
    """The outcome less what is never the same twice; the values are the reasons.

    Contents and sizes at paths that match a pattern of `unlike` are taken out, and all of what
    matches one of `ignored`.
    """
    left = {
        path: replace(entry, size=None, content=None) if _matches(path, unlike) else entry
        for path, entry in outcome.left.items()
        if not _matches(path, ignored)
    }
    return Outcome(outcome.said, left)


def _matches(path: str, patterns: Mapping[str, str]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def nothing(_: str) -> str:
    """For `said`: what the program says is not the same twice."""
    return ""


def in_order(said: str) -> str:
    """For `said`: a listing that has no order of its own."""
    return "\n".join(sorted(said.splitlines()))


def without_numbers(said: str) -> str:
    """For `said`: process ids, times and rates are not the same twice."""
    return re.sub(r"\d+(\.\d+)?", "N", said)


def tree(root: Path, started_ns: int | None = None) -> dict[str, Left]:
    """All that is below `root`, by path; times since `started_ns` are NOW."""
    found: dict[str, Left] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            found[str(path.relative_to(root))] = _left(path, started_ns)
    return found


def _left(path: Path, started_ns: int | None) -> Left:
    status = path.lstat()
    moment: int | str = status.st_mtime_ns
    if started_ns is not None and status.st_mtime_ns >= started_ns - SLACK_NS:
        assert status.st_mtime_ns <= time.time_ns(), f"{path} is from the future"
        moment = NOW
    mode = stat.filemode(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Left("link", mode, moment, target=os.readlink(path))
    attributes = tuple(
        (name, os.getxattr(path, name))
        for name in sorted(os.listxattr(path))
        if name.startswith("user.")
    )
    if stat.S_ISDIR(status.st_mode):
        return Left("folder", mode, moment, attributes=attributes)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Left("file", mode, moment, status.st_size, digest, attributes=attributes)


def differences(disk: Outcome, mount: Outcome) -> list[str]:
    """What is not the same, a line each."""
    there, here = ("\n".join(outcome.said).splitlines() for outcome in (disk, mount))
    said = difflib.unified_diff(there, here, "said on the disk", "in the mount", n=1, lineterm="")
    return [*said, *unequal(disk.left, mount.left)]


def unequal(disk: Mapping[str, Left], mount: Mapping[str, Left]) -> list[str]:
    """Entries that are not the same in two trees, a line each."""
    return [
        f"{path}:\n  {disk.get(path)}\n  {mount.get(path)}"
        for path in sorted(disk.keys() | mount.keys())
        if disk.get(path) != mount.get(path)
    ]
