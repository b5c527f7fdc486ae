"""Everything at once: the first crawl, a huge upload and a page of changes, and somebody who works.

A daemon that was just mounted crawls a large account while a huge file is copied in and two
thousand files change elsewhere. Meanwhile a program does what people do in a folder of their own,
one operation after the other: it makes, lists, reads, renames and removes small files. None of that
needs the network, so each operation is as quick as the daemon finds time for it; the slowest of a
hundred is what people would notice.

The work is over when Dropbox has the huge file and the mount has the crawl and the changes. The
moments of the two are shown, so that one sees that the three really met.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from tests.bench.figures import MIB, Bound, Work
from tests.bench.groups import Group, Sizes
from tests.bench.stage import LimitReachedError, Stage, Tree, Worker, remote_tree
from tests.bench.writes import make_file
from tests.embedded import Embedded

CHANGES = 2000
"""Files that change elsewhere at one moment: as many as Dropbox puts on a page."""
LAST = "last.txt"
CHANGE_AFTER = 2.0
"""Seconds after which they do."""
TURN = 0.5
"""Seconds for which the program works before somebody looks how far the rest is."""
FOLDERS = 100


def prepare(server: Embedded, folder: Path, sizes: Sizes) -> None:
    """A large account beside the folder that is worked in, and the huge file."""
    server.populate("/crawled", FOLDERS, sizes.crawled // FOLDERS, size=100)
    server.edit([{"op": "mkdir", "path": "/changed"}])
    make_file(folder / "huge", sizes.huge)


def perform(stage: Stage, sizes: Sizes) -> None:
    """Mounts, and sets everything going at once."""
    source = stage.source / "huge"
    huge: Tree = {"/huge": ("file", sizes.huge, stage.ask("content_hash", path=source)["hash"])}
    copier, watcher = stage.worker(), stage.worker()
    stage.start(settled=False)
    stage.measure("crowded", lambda: _all_at_once(stage, copier, watcher, huge), size=sizes.huge)


def _all_at_once(stage: Stage, copier: Worker, watcher: Worker, huge: Tree) -> dict[str, float]:
    began = time.monotonic()
    desk, account = stage.path / "desk", stage.path.parent
    stage.run("mkdir", desk)
    copier.send("copy", source=stage.source / "huge", target=stage.path / "huge")
    taken: list[float] = []
    moments: dict[str, float] = {}
    changed = False
    while len(moments) < 4:
        taken += stage.ask("operate", path=desk, seconds=TURN)["taken"]
        now = time.monotonic() - began
        if now > CHANGE_AFTER and not changed:
            changed = True
            stage.server.edit(_changes())
            watcher.send("see", path=account / "changed" / LAST, size=len(LAST), every=0.05)
        if "seconds" not in moments and copier.has_answered():
            moments["seconds"] = copier.receive(stage.deadline)["seconds"]
        if "crawled" not in moments and stage.contender.has_crawled():
            moments["crawled"] = now
        if "arrived" not in moments and huge.items() <= remote_tree(stage.server).items():
            moments["arrived"] = now
        if changed and "paged" not in moments and watcher.has_answered():
            moments["paged"] = watcher.receive(stage.deadline)["at"] - began
        if time.monotonic() > stage.deadline:
            raise LimitReachedError({**moments, **_summary(taken)})
    return {**moments, **_summary(taken)}


def _summary(taken: list[float]) -> dict[str, float]:
    return {
        "operations": len(taken),
        "median_seconds": statistics.median(taken),
        "p99": statistics.quantiles(taken, n=100)[98],
        "each_seconds": max(taken),
    }


def _changes() -> list[dict[str, str]]:
    names = [*(f"file-{number:05d}.txt" for number in range(CHANGES - 1)), LAST]
    return [{"op": "write", "path": f"/changed/{name}", "text": name} for name in names]


def groups(sizes: Sizes) -> list[Group]:
    """The group of this module."""
    title = (
        f"small operations during the first crawl of {sizes.crawled} files, a copy of "
        f"{sizes.huge // MIB} MiB in and {CHANGES} changes elsewhere"
    )
    works = (Work("crowded", title, (Bound("p99", 0.02),)),)
    return [Group("crowded", works, prepare, perform, empties=True, alone=True)]
