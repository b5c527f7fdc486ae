"""What a programmer does all day: unpacking five thousand files, Git, and rsync.

What Git leaves in its folder is not known beforehand: names and sizes are taken from the mount when
the program has ended, the contents are compared when the clock has stopped.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.bench.figures import BARE, Bound, Work
from tests.bench.groups import Group, Sizes
from tests.bench.reads import KIB
from tests.bench.stage import Stage, Tree, WorkFailedError, remote_tree
from tests.bench.writes import is_there, make_files, runs, size_of, wanted
from tests.embedded import Embedded

FEED = 4 * KIB
"""Bytes that staying up to date may send meanwhile: a cursor a request."""


def prepare(_server: Embedded, folder: Path, sizes: Sizes) -> None:
    """Small files in a hundred folders, and an archive of them."""
    make_files(folder / "tree", 100, sizes.unpacked, (200, 4000))
    shutil.make_archive(str(folder / "tree"), "tar", folder / "tree")


def git(stage: Stage, *arguments: str) -> float:
    """Runs git in the mounted folder with no settings but these; the seconds it took.

    Should it think that a `gc` is due, that is part of it: in the background it would go on
    changing the folder while somebody compares.
    """
    who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")
    settings = (*who, "-c", "gc.autoDetach=false")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(stage.source),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    folder = stage.path / "tree"
    return stage.run("git", "-C", folder, *settings, *arguments, env=environment).seconds


def perform_unpack(stage: Stage, _sizes: Sizes) -> None:
    """tar x, git init, add, commit, status."""
    stage.start()
    target = stage.path / "tree"

    def unpack() -> dict[str, float]:
        spent = stage.run("mkdir", target).seconds
        spent += stage.run("tar", "-x", "-f", stage.source / "tree.tar", "-C", target).seconds
        spent += git(stage, "init", "-q")
        spent += git(stage, "add", ".")
        spent += git(stage, "commit", "-q", "-m", "Unpacked")
        return {"seconds": spent}

    shown: dict[str, tuple[str, int | None]] = {}

    def arrives() -> bool:
        if not shown:
            shown.update({path: shape[:2] for path, shape in _mounted_tree(stage).items()})
        there = remote_tree(stage.server)
        return {path: shape[:2] for path, shape in there.items()} == shown

    size = size_of(stage.source / "tree")
    if stage.contender.name == BARE:
        stage.measure("unpack", unpack, size=size)
    else:
        stage.measure("unpack", unpack, arrives=arrives, size=size)
    # The first one may write what it found out.
    stage.beforehand("status", lambda: git(stage, "status"), settled=True)
    stage.measure("status", lambda: {"seconds": git(stage, "status")})
    if stage.contender.name != BARE:
        _compare(stage)


def _mounted_tree(stage: Stage, *, hashes: bool = False) -> Tree:
    found = stage.ask("tree", path=stage.path, hashes=hashes)["tree"]
    return {path: (kind, size, digest) for path, (kind, size, digest) in found.items()}


def _compare(stage: Stage) -> None:
    here, there = _mounted_tree(stage, hashes=True), remote_tree(stage.server)
    differ = [path for path in here.keys() | there.keys() if here.get(path) != there.get(path)]
    if differ:
        raise WorkFailedError(f"{len(differ)} files differ on Dropbox, {min(differ)} is one")


def perform_rsync(stage: Stage, _sizes: Sizes) -> None:
    """A copy, and the same again."""
    stage.start()
    source = stage.source / "tree"
    copy = runs(stage, "rsync", "-a", f"{source}/", stage.path / "tree")
    arrives, size = is_there(stage, wanted(source, "tree")), size_of(source)
    stage.measure("rsync", copy, arrives=arrives, size=size)
    stage.measure("rsync again", copy, size=size)


def groups(sizes: Sizes) -> list[Group]:
    """The groups of this module."""
    unpack_works = (
        Work(
            "unpack",
            f"`tar x` of {sizes.unpacked} small files, `git init; add; commit`",
            (Bound("seconds", 3, versus=BARE), Bound("lag", 30), Bound("requests", 60)),
        ),
        Work("status", "`git status` again", (Bound("seconds", 0.5), Bound("requests", 0))),
    )
    rsync_works = (
        Work("rsync", f"`rsync -a` of {sizes.unpacked} small files"),
        Work(
            "rsync again",
            "`rsync -a` a second time",
            (Bound("seconds", 1.5), Bound("requests", 0), Bound("sent", FEED)),
        ),
    )
    return [
        Group("unpack", unpack_works, prepare, perform_unpack, empties=True, yardstick=True),
        Group("rsync", rsync_works, prepare, perform_rsync, empties=True),
    ]
