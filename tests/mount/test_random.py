"""The mount beside a plain folder: random operations over very few names, so that they collide.

Each operation is done on both and must end the same way, with the same errno; now and then both
sides are synced and compared. In the second half somebody else edits the account at the same time:
then only what follows from every order of events is asked, that both sides agree in the end and
that no content is gone that nobody removed.

A seed that failed once is kept in `REGRESSIONS` with the name of what was wrong.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted

SEEDS = range(int(os.environ.get("DBXFS_SEED", "0")), int(os.environ.get("DBXFS_SEEDS", "4")))
STEPS = 120
NAMES = ("a", "b", "c", "d.txt")

KINDS = (
    *("write", "write", "write", "append", "patch", "truncate", "cut", "replace"),
    *("mkdir", "mkdir", "rmdir", "rename", "rename", "rename", "unlink", "rmtree"),
)

Operation = Callable[[Path], object]


class Chooser:
    """Random operations, as functions of the root that they are done under."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._serial = 0

    def path(self) -> str:
        """A path of one to three names."""
        return "/".join(self._source.choices(NAMES, k=self._source.choice((1, 1, 2, 2, 3))))

    def content(self) -> str:
        """A content like no other."""
        self._serial += 1
        return f"content {self._serial} " * self._source.choice((1, 10, 1000))

    def operation(self) -> tuple[str, Operation]:
        """The next one, with a description."""
        kind = self._source.choice(KINDS)
        one, two, text = self.path(), self.path(), self.content()
        place = self._source.randrange(200)

        def patch(root: Path) -> None:
            with (root / one).open("r+b", buffering=0) as file:
                file.seek(place)
                file.write(b"patched")

        def append(root: Path) -> None:
            with (root / one).open("a") as file:
                file.write(text)

        def replace(root: Path) -> None:
            """An editor's save."""
            if not (root / one).is_file():
                return
            temporary = root / f"{one}.new"
            temporary.write_text(text)
            os.rename(temporary, root / one)

        def rmtree(root: Path) -> None:
            if (root / one).is_dir():
                shutil.rmtree(root / one)

        operations: dict[str, Operation] = {
            "write": lambda root: (root / one).write_text(text),
            "append": append,
            "patch": patch,
            "truncate": lambda root: os.truncate(root / one, place),
            "mkdir": lambda root: os.mkdir(root / one),
            "unlink": lambda root: os.unlink(root / one),
            "rmdir": lambda root: os.rmdir(root / one),
            "rename": lambda root: os.rename(root / one, root / two),
            "replace": replace,
            "rmtree": rmtree,
            "cut": lambda root: (root / one).write_text(""),
        }
        return f"{kind} {one} {two if kind == 'rename' else ''}".strip(), operations[kind]

    def edit(self, server_tree: dict[str, Any]) -> dict[str, Any]:
        """An edit made elsewhere that the account can take."""
        paths = sorted(server_tree)
        target = f"/{self.path()}"
        blocked = any(
            server_tree.get(upper, ("folder",))[0] == "file"
            for upper in (target[:end] for end in range(2, len(target)) if target[end] == "/")
        )
        kind = self._source.choice(("write", "write", "change", "delete", "move", "mkdir"))
        files = [path for path in paths if server_tree[path][0] == "file"]
        free = not blocked and target not in server_tree
        if kind == "change" and files:
            path = self._source.choice(files)
            return {"op": "write", "path": path, "text": self.content()}
        if kind == "delete" and paths:
            return {"op": "delete", "path": self._source.choice(paths)}
        if kind == "move" and paths and free:
            moved = self._source.choice(paths)
            if not target.startswith(moved):
                return {"op": "move", "from": moved, "to": target}
        if kind == "mkdir" and free:
            return {"op": "mkdir", "path": target}
        if free:
            return {"op": "write", "path": target, "text": self.content()}
        return {"op": "write", "path": "/else", "text": self.content()}


def outcome(operation: Operation, root: Path) -> str:
    """How it ended."""
    try:
        operation(root)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "done"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mount_does_what_a_plain_folder_does(
    mounted: Mounted, tmp_path: Path, seed: int
) -> None:
    source = random.Random(seed)
    chooser = Chooser(source)
    history: list[str] = []
    for step in range(STEPS):
        description, operation = chooser.operation()
        expected, found = outcome(operation, tmp_path), outcome(operation, mounted.path)
        history.append(f"{description}: {expected}")
        assert found == expected, history
        if step % 10 == 9:
            assert local_tree(mounted.path) == local_tree(tmp_path), history
        if step % 25 == 24:
            assert mounted.sync() == [], history
            assert difference(local_tree(tmp_path), remote_tree(mounted.server)) == [], history
        if step % 60 == 59:
            mounted.kill() if source.random() < 0.5 else mounted.unmount()
            mounted.start()
            assert local_tree(mounted.path) == local_tree(tmp_path), history


@pytest.mark.parametrize("seed", SEEDS)
def test_both_sides_agree_whatever_is_edited_elsewhere_meanwhile(
    mounted: Mounted, seed: int
) -> None:
    source = random.Random(1000 + seed)
    chooser = Chooser(source)
    history: list[str] = []
    for step in range(STEPS):
        if source.random() < 0.4:
            edit = chooser.edit(remote_tree(mounted.server))
            history.append(f"elsewhere {edit}"[:90])
            mounted.server.edit([edit])
        else:
            description, operation = chooser.operation()
            history.append(f"{description}: {outcome(operation, mounted.path)}")
        if step % 20 == 19:
            assert mounted.sync() == [], history
            assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == [], history
