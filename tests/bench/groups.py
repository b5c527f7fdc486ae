"""What a group of works is, and how large things are in it.

The works of a group follow one another on one mount (read cold, read again); each group begins with
a fresh server and fresh contenders, so groups do not depend on one another and `--only` changes no
figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import MIB, Work
from tests.bench.stage import Stage
from tests.embedded import Embedded


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of everything: bytes, or numbers of files."""

    large: int = 512 * MIB
    random: int = 256 * MIB
    middle: int = 64 * MIB
    grep: int = 500
    tree: int = 10_000
    copied: int = 1000
    unpacked: int = 5000
    crawled: int = 50_000
    huge: int = 1024 * MIB
    saves: int = 30
    edits: int = 5


QUICK = Sizes(
    large=64 * MIB,
    random=64 * MIB,
    middle=8 * MIB,
    grep=100,
    tree=1000,
    copied=100,
    unpacked=300,
    crawled=5_000,
    huge=128 * MIB,
    saves=5,
    edits=3,
)


@dataclass(frozen=True, slots=True)
class Group:
    """Works that belong together.

    `prepare` fills the server's account, and the folder it is given with sources to copy from.
    `perform` mounts and works. `empties`: the account is emptied between the contenders.
    `yardstick`: a bare FUSE file system is measured as well. `alone`: only ours is measured.
    `faults`: what goes wrong on the server while the clock runs.
    """

    name: str
    works: tuple[Work, ...]
    prepare: Callable[[Embedded, Path, Sizes], None]
    perform: Callable[[Stage, Sizes], None]
    empties: bool = False
    yardstick: bool = False
    alone: bool = False
    faults: tuple[dict[str, Any], ...] = ()
    variant: str = ""
    """Goes behind the names of the works, where another group has the same ones."""
