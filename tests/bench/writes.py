"""Writing: many small files, a large one, trees moved and removed, and Dropbox following behind.

Sources are random bytes, all different, in a folder beside the mount. What Dropbox must have in the
end is known beforehand, by path, size and content hash.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from dbxfs.core.content_hash import content_hash
from tests.bench.contenders import TOP
from tests.bench.figures import MIB, RCLONE, Bound, Work
from tests.bench.groups import Group, Sizes
from tests.bench.reads import FULL, KIB
from tests.bench.stage import Stage, Tree, remote_tree
from tests.embedded import Embedded

SENDING = (
    "files/upload",
    "files/upload_session/",
    "files/create_folder",
    "files/move",
    "files/delete",
    "files/copy",
)
"""Beginnings of routes that only send what was changed here."""


def prepare_nothing(_server: Embedded, _folder: Path, _sizes: Sizes) -> None:
    """An empty account."""


def make_files(folder: Path, folders: int, files: int, sizes: tuple[int, int]) -> None:
    """`files` files of `sizes` (least and most bytes) of their own in `folders` folders."""
    dice = random.Random(6)
    for number in range(files):
        place = folder / f"part-{number % folders:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number:05d}.dat").write_bytes(dice.randbytes(dice.randint(*sizes)))


def make_file(path: Path, size: int) -> None:
    """A file of random bytes; `size` is in whole MiB."""
    dice = random.Random(7)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(dice.randbytes(MIB))


def size_of(folder: Path) -> int:
    """Bytes in the files below a local folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def wanted(folder: Path, name: str) -> Tree:
    """What Dropbox has when it has all of a local folder as `name`."""
    found: Tree = {f"/{name}": ("folder", None, None)}
    for path in folder.rglob("*"):
        place = f"/{name}/{path.relative_to(folder)}"
        if path.is_dir():
            found[place] = ("folder", None, None)
        else:
            data = path.read_bytes()
            found[place] = ("file", len(data), content_hash(data))
    return found


def is_there(stage: Stage, tree: Tree) -> Callable[[], bool]:
    """Whether the server has this and nothing else."""
    return lambda: remote_tree(stage.server) == tree


def runs(stage: Stage, *command: str | Path) -> Callable[[], dict[str, float]]:
    """A work that is one program."""
    return lambda: {"seconds": stage.run(*command).seconds}


# ---- A folder of small files ----


def prepare_copy(_server: Embedded, folder: Path, sizes: Sizes) -> None:
    """The folder to copy from."""
    make_files(folder / "small", 20, sizes.copied, (8 * KIB, 8 * KIB))


def perform_copy(stage: Stage, sizes: Sizes) -> None:
    """Copied in, moved, removed."""
    stage.start()
    size = sizes.copied * 8 * KIB
    source = stage.source / "small"
    here, there = stage.path / "small", stage.path / "moved"
    copied, moved = wanted(source, "small"), wanted(source, "moved")
    copy = runs(stage, "cp", "-r", source, here)
    stage.measure("cp", copy, arrives=is_there(stage, copied), size=size)
    stage.measure("mv", runs(stage, "mv", here, there), arrives=is_there(stage, moved))
    stage.measure("rm", runs(stage, "rm", "-rf", there), arrives=is_there(stage, {}))


def perform_diff(stage: Stage, sizes: Sizes) -> None:
    """Compared while it is still on its way to Dropbox."""
    stage.start()
    source, here = stage.source / "small", stage.path / "small"
    stage.beforehand("diff", runs(stage, "cp", "-r", source, here))
    diff = runs(stage, "diff", "-r", source, here)
    stage.measure("diff", diff, size=sizes.copied * 8 * KIB, ignoring=SENDING)


# ---- A large file ----


def prepare_large(_server: Embedded, folder: Path, sizes: Sizes) -> None:
    """The file to copy."""
    make_file(folder / "large", sizes.large)


def perform_large(stage: Stage, sizes: Sizes) -> None:
    """Copied in, and then within the mount."""
    stage.start()
    source = stage.source / "large"
    shape = ("file", sizes.large, stage.ask("content_hash", path=source)["hash"])
    first, second = stage.path / "large", stage.path / "again"
    one: Tree = {"/large": shape}
    copy = runs(stage, "cp", source, first)
    stage.measure("cp large", copy, arrives=is_there(stage, one), size=sizes.large)
    both: Tree = {**one, "/again": shape}
    copy = runs(stage, "cp", first, second)
    stage.measure("cp inside", copy, arrives=is_there(stage, both), size=sizes.large)


# ---- A document, here and elsewhere ----


def perform_save(stage: Stage, sizes: Sizes) -> None:
    """Saved once a second."""
    stage.start()
    stage.worker()
    path = stage.path / "document.txt"
    saved: Tree = {}

    def save() -> dict[str, float]:
        done = stage.ask("save", path=path, size=20 * KIB, times=sizes.saves, every=1.0)
        saved["/document.txt"] = ("file", 20 * KIB, done["hash"])
        return {"seconds": done["seconds"], "each_seconds": done["longest"]}

    stage.measure("save", save, arrives=is_there(stage, saved))


def perform_edits(stage: Stage, sizes: Sizes) -> None:
    """Somebody else edits a file that is known here."""
    path, remote = stage.path / "shared.txt", f"{TOP}/shared.txt"
    stage.server.edit([{"op": "write", "path": remote, "text": "."}])
    stage.start()
    stage.beforehand("edits", lambda: stage.ask("start", path=path, length=1))
    taken: list[float] = []

    def edit() -> dict[str, float]:
        for number in range(sizes.edits):
            text = "x" * (10 + number)
            began = time.monotonic()
            stage.server.edit([{"op": "write", "path": remote, "text": text}])
            taken.append(stage.ask("see", path=path, size=len(text))["at"] - began)
        return {
            "seconds": sum(taken),
            "median_seconds": statistics.median(taken),
            "each_seconds": max(taken),
        }

    stage.measure("edits", edit)


def groups(sizes: Sizes) -> list[Group]:
    """The groups of this module."""
    large = f"{sizes.large // MIB} MiB"
    copy_works = (
        Work(
            "cp",
            f"`cp -r` of {sizes.copied} × 8 KiB in 20 folders",
            (Bound("seconds", 2), Bound("arrived", 6), Bound("requests", 15)),
        ),
        Work(
            "mv",
            "`mv` of that folder",
            (Bound("seconds", 0.1), Bound("arrived", 2), Bound("requests", 2)),
        ),
        Work(
            "rm",
            "`rm -rf` of it",
            (Bound("seconds", 1.5), Bound("arrived", 3), Bound("requests", 3)),
        ),
    )
    diff_works = (
        Work(
            "diff",
            "`diff -r` of such a copy with its source, at once",
            (Bound("seconds", 1), Bound("requests", 0)),
        ),
    )
    large_works = (
        Work(
            "cp large",
            f"`cp` of {large} in",
            (
                Bound("seconds", 1, versus=RCLONE),
                Bound("rate", FULL, least=True),
                Bound("requests", 40),
            ),
        ),
        Work(
            "cp inside",
            f"`cp` of those {large} inside the mount",
            (
                Bound("seconds", 1, versus=RCLONE),
                Bound("lag", 3),
                Bound("sent", MIB),
                Bound("requests", 5),
            ),
        ),
    )
    save_works = (
        Work(
            "save",
            f"a 20 KiB document saved as editors do, {sizes.saves} times in {sizes.saves} s",
            (Bound("lag", 2), Bound("requests", 70)),
        ),
    )
    edit_works = (
        Work(
            "edits",
            f"{sizes.edits} edits made elsewhere, until seen",
            (Bound("median_seconds", 1),),
        ),
    )
    return [
        Group("copy", copy_works, prepare_copy, perform_copy, empties=True),
        Group("diff", diff_works, prepare_copy, perform_diff, empties=True),
        Group("large", large_works, prepare_large, perform_large, empties=True),
        Group("save", save_works, prepare_nothing, perform_save, empties=True),
        Group("edits", edit_works, prepare_nothing, perform_edits, empties=True),
    ]
