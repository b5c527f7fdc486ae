"""Looking around: a tree of many files, before and after it is known, and over a remount."""

from __future__ import annotations

from pathlib import Path

from tests.bench.contenders import TOP
from tests.bench.figures import Bound, Work
from tests.bench.groups import Group, Sizes
from tests.bench.stage import Stage, WorkFailedError
from tests.embedded import Embedded

FOLDERS = 100


def prepare(server: Embedded, _folder: Path, sizes: Sizes) -> None:
    """A hundred folders of files."""
    server.populate(
        f"{TOP}/wide", folders=FOLDERS, files_per_folder=sizes.tree // FOLDERS, size=100
    )


def perform(stage: Stage, sizes: Sizes) -> None:
    """Find everything at once, again, and after a remount."""
    mounting = stage.start(settled=False)

    def find() -> dict[str, float]:
        done = stage.run("find", stage.path)
        # The top folder, "wide", its folders and their files.
        if len(done.output.splitlines()) != sizes.tree + FOLDERS + 2:
            raise WorkFailedError(f"find found {len(done.output.splitlines())} names")
        return {"seconds": done.seconds}

    stage.measure("find", lambda: {**find(), "mount_seconds": mounting})
    stage.settle()
    stage.measure("find again", find)
    stage.contender.unmount()
    remounting = stage.start(settled=False)

    def list_folder() -> dict[str, float]:
        done = stage.run("ls", "-l", stage.path / "wide" / "folder-0042")
        if len(done.output.splitlines()) != sizes.tree // FOLDERS + 1:
            raise WorkFailedError(f"ls listed {len(done.output.splitlines())} lines")
        return {"seconds": done.seconds, "mount_seconds": remounting}

    stage.measure("ls", list_folder)
    stage.measure("find after", find)


def groups(sizes: Sizes) -> list[Group]:
    """The group of this module."""
    works = (
        Work("find", f"`find` over {sizes.tree} files in {FOLDERS} folders, at once"),
        Work("find again", "`find` again", (Bound("requests", 0),)),
        Work("ls", "`ls -l` of one folder after a remount", (Bound("mount_seconds", 1),)),
        Work("find after", "`find` after that", (Bound("requests", 0),)),
    )
    return [Group("find", works, prepare, perform)]
