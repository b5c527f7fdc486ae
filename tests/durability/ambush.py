"""Killing the daemon at a chosen request, and knowing what must be there afterwards.

The embedded server holds the request: before its work ("stall") or between its work and its reply
("unanswered"). These are the two states in which a kill can leave a call, and the server says when
it is in one of them, so nothing depends on timing. What programs have done is done to a plain
folder as well; after every kill the mount must be equal to it at once, and after a sync Dropbox
must be, path by path: a second copy under another name is a difference like any other.

Rejected: fault points inside the daemon. They would be code that only tests run, they name the
transitions that somebody thought of, and the server sees all that matters: what has been asked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted, eventually, run_in_background

MIB = 1024 * 1024

Moment = Literal["before", "after"]
MOMENTS: tuple[Moment, Moment] = ("before", "after")

SESSION = "files/upload_session"
WRITES = (
    "files/upload",
    f"{SESSION}/start",
    f"{SESSION}/start_batch",
    f"{SESSION}/append_v2",
    f"{SESSION}/append_batch",
    f"{SESSION}/finish",
    f"{SESSION}/finish_batch_v2",
    "files/create_folder_v2",
    "files/create_folder_batch",
    "files/copy_v2",
    "files/copy_batch_v2",
    "files/delete_v2",
    "files/delete_batch",
    "files/move_v2",
    "files/move_batch_v2",
)
"""All routes that a journal's work can go by; those that are not used are never hit."""

EXPECTED = (
    r"cannot be (followed|sent)",
    "upload session",
    r"stays here for now: .*(gone|changed)",
)
"""What the daemon may say when its calls are held."""

CAUGHT_WITHIN = 20.0

KILLS = int(os.environ.get("DBXFS_KILLS", "12"))
"""How many random kills."""
THOROUGH = KILLS >= 100
"""Whether there is time for what says little more than something else does."""

Operation = Callable[[Path], object]


class Twins:
    """A mount and a plain folder to which the same is done."""

    def __init__(self, mounted: Mounted, plain: Path) -> None:
        """`plain` exists; both are empty."""
        self.mounted = mounted
        self.plain = plain
        mounted.announce(*EXPECTED)

    def do(self, operation: Operation) -> None:
        """Do it to both. What fails on one must fail on the other, with the same errno."""
        ends = []
        for root in (self.plain, self.mounted.path):
            try:
                operation(root)
            except OSError as error:
                ends.append(error.errno)
            else:
                ends.append(None)
        assert ends[0] == ends[1], f"the plain folder gave {ends[0]}, the mount {ends[1]}"

    def clear(self) -> None:
        """Remove everything that is there."""

        def work(root: Path) -> None:
            for path in list(root.iterdir()):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

        self.do(work)

    def settle(self, within: float = 60) -> None:
        """Nothing in the way any more: both sides must come to agree, and with the plain folder."""
        mounted = self.mounted
        mounted.server.faults()
        assert mounted.sync(within) == []
        self.check_local()
        assert difference(local_tree(self.plain), remote_tree(mounted.server)) == []
        assert mounted.status()["pending"] == 0
        assert [path.name for path in (mounted.state / "staging").iterdir()] == []
        assert [path.name for path in mounted.state.rglob("recovered/*")] == []

    def check_local(self) -> None:
        """Programs see what was done, to the last byte."""
        assert difference(local_tree(self.mounted.path), local_tree(self.plain)) == []

    def kill_and_start(self) -> None:
        """SIGKILL; whatever the server held for the dead daemon is given up. Then start again."""
        self.mounted.kill()
        self.mounted.server.faults()
        self.mounted.start()


def hold(
    mounted: Mounted, moment: Moment, routes: Iterable[str] = WRITES, skips: Iterable[int] = ()
) -> None:
    """Hold one request of each of `routes`, each after letting pass as many as `skips` says."""
    kind = {"before": "stall", "after": "unanswered"}[moment]
    routes = list(routes)
    skips = list(skips) or [0] * len(routes)
    mounted.server.faults(
        [
            {"route": route, "kind": kind, "count": 1, "skip": skip}
            for route, skip in zip(routes, skips, strict=True)
        ]
    )


def held(mounted: Mounted) -> list[str]:
    """The routes that the server holds a request of, in the state that was asked for."""
    faults = mounted.server.control("faults")
    counter = {"stall": "fired", "unanswered": "done"}
    return [fault["route"] for fault in faults if fault[counter[fault["kind"]]]]


def wait_held(mounted: Mounted, *, hurry: bool = False) -> str | None:
    """The route of the request that is held; None when all is sent without one.

    `hurry`: what programs have just done is sent without the settle delay.
    """
    if hurry:
        run_in_background(lambda: mounted.sync(CAUGHT_WITHIN))

    def either() -> list[str | None]:
        found: list[str | None] = [*held(mounted)]
        if not found and mounted.status()["pending"] == 0:
            found = [*held(mounted), None]
        return found

    return eventually(either, CAUGHT_WITHIN, "a request being held, or none left")[0]
