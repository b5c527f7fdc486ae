"""Random operations on a tree, each checked against a model, in the spirit of fsstress.

A program of its own: `python -m tests.mount.fsstress FOLDER MODEL SEED OPERATIONS [spellings]`. It
works in FOLDER, which must exist, and keeps the model in MODEL; the next run begins by comparing
the two, so nothing that is done to the mount between two runs may change anything. Names are so
few that they collide. With `spellings` they come in any case, and every name is one file whatever
its case. At the first difference it says what, and what was done before, and exits with 1.

The model is a plain tree in memory with the rules of the man pages, errno by errno in the order in
which the kernel looks at things.
"""

from __future__ import annotations

import errno
import os
import pickle
import random
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.mount.folders import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2

NAMES = ("a", "b", "c", "d", "é")
DEPTH = 3
HELD = 4
TOLD = 40
STALE_WITHIN = 2.0
"""Seconds that the kernel may take to hear that a name has changed by another spelling."""


class DifferentError(Exception):
    """The mount did not do what the model did."""


@dataclass
class Node:
    """A file (with content) or a folder (with children, by folded name)."""

    name: str
    mode: int
    content: bytearray | None = None
    children: dict[str, Node] = field(default_factory=dict)
    mtime_ns: int | None = None
    """As it was set; None: whenever it was written."""

    @property
    def is_folder(self) -> bool:
        return self.content is None


class Model:
    """The tree as it must be. Operations raise OSError as the kernel would."""

    def __init__(self, spellings: bool) -> None:
        self.top = Node("", 0o755)
        self._spellings = spellings

    def key(self, name: str) -> str:
        return name.lower() if self._spellings else name

    def folder(self, path: tuple[str, ...]) -> Node:
        at = self.top
        for name in path:
            found = at.children.get(self.key(name))
            if found is None:
                raise OSError(errno.ENOENT, "")
            if not found.is_folder:
                raise OSError(errno.ENOTDIR, "")
            at = found
        return at

    def find(self, path: tuple[str, ...]) -> tuple[Node, Node | None]:
        """The folder, and what has the name in it."""
        folder = self.folder(path[:-1])
        return folder, folder.children.get(self.key(path[-1]))

    def get(self, path: tuple[str, ...]) -> Node:
        _, node = self.find(path)
        if node is None:
            raise OSError(errno.ENOENT, "")
        return node

    def file(self, path: tuple[str, ...]) -> Node:
        node = self.get(path)
        if node.is_folder:
            raise OSError(errno.EISDIR, "")
        return node

    def put(self, folder: Node, node: Node, name: str) -> None:
        node.name = name
        folder.children[self.key(name)] = node

    def make(self, path: tuple[str, ...], *, exclusive: bool = False) -> Node:
        folder, node = self.find(path)
        if node is None:
            node = Node(path[-1], 0o644, bytearray())
            self.put(folder, node, path[-1])
        elif exclusive:
            raise OSError(errno.EEXIST, "")
        elif node.is_folder:
            raise OSError(errno.EISDIR, "")
        return node

    def mkdir(self, path: tuple[str, ...]) -> None:
        folder, node = self.find(path)
        if node is not None:
            raise OSError(errno.EEXIST, "")
        self.put(folder, Node(path[-1], 0o755), path[-1])

    def unlink(self, path: tuple[str, ...]) -> None:
        self.file(path)
        del self.folder(path[:-1]).children[self.key(path[-1])]

    def rmdir(self, path: tuple[str, ...]) -> None:
        node = self.get(path)
        if not node.is_folder:
            raise OSError(errno.ENOTDIR, "")
        if node.children:
            raise OSError(errno.ENOTEMPTY, "")
        del self.folder(path[:-1]).children[self.key(path[-1])]

    def rename(self, old: tuple[str, ...], new: tuple[str, ...], flags: int) -> None:
        self.folder(old[:-1])
        self.folder(new[:-1])
        source_folder, node = self.find(old)
        target_folder, target = self.find(new)
        if node is None or (flags == RENAME_EXCHANGE and target is None):
            raise OSError(errno.ENOENT, "")
        respelled = node is target and new[-1] not in (node.name, old[-1])
        if flags == RENAME_NOREPLACE and target is not None and not respelled:
            raise OSError(errno.EEXIST, "")
        if self._above(node, new):
            raise OSError(errno.EINVAL, "")
        if target is not None and self._above(target, old):
            raise OSError(errno.EINVAL if flags == RENAME_EXCHANGE else errno.ENOTEMPTY, "")
        if node is target and (not respelled or flags == RENAME_EXCHANGE):
            return
        if target is not None and node is not target and flags != RENAME_EXCHANGE:
            if node.is_folder != target.is_folder:
                raise OSError(errno.ENOTDIR if node.is_folder else errno.EISDIR, "")
            if target.children:
                raise OSError(errno.ENOTEMPTY, "")
        del source_folder.children[self.key(old[-1])]
        if flags == RENAME_EXCHANGE and target is not None:
            self.put(source_folder, target, old[-1])
        self.put(target_folder, node, new[-1])

    def _above(self, node: Node, path: tuple[str, ...]) -> bool:
        """Whether the node is a folder that the path leads through."""
        return any(self.get(path[:end]) is node for end in range(1, len(path)))


class Exerciser:
    """A folder, the model of it, and handles that are kept open."""

    def __init__(self, root: Path, model: Model, source: random.Random, spellings: bool) -> None:
        self.root = root
        self.model = model
        self.history: list[str] = []
        self._source = source
        self._spellings = spellings
        self._held: list[tuple[int, Node]] = []

    def run(self, operations: int) -> None:
        """Raises DifferentError."""
        self.compare()
        for _ in range(operations):
            self._source.choice(self._kinds())()
        for descriptor, _ in self._held:
            os.close(descriptor)
        self.compare()

    def _kinds(self) -> list[Callable[[], None]]:
        often = [self.write, self.mkdir, self.rename, self.unlink, self.listdir, self.stat]
        seldom = [
            *(self.make, self.append, self.truncate, self.rmdir, self.exchange),
            *(self.rename_to_free, self.chmod, self.utime, self.read, self.hold, self.let_go),
            *(self.read_held, self.write_held, self.replace),
        ]
        return often * 2 + seldom

    # ---- Choices ----

    def _path(self) -> tuple[str, ...]:
        length = self._source.choice((1, 1, 2, 2, 2, DEPTH))
        names = self._source.choices(NAMES, k=length)
        if self._spellings:
            # Twice the same name in a path: nobody can tell which of them is looked up.
            names = self._source.sample(NAMES, length)
            names = [self._source.choice((name, name.upper())) for name in names]
        return tuple(names)

    def _real(self, path: tuple[str, ...]) -> Path:
        return self.root.joinpath(*path)

    def _content(self) -> bytes:
        return self._source.randbytes(self._source.choice((0, 1, 100, 5000, 40_000)))

    # ---- Operations ----

    def write(self) -> None:
        path, content = self._path(), self._content()

        def expected() -> None:
            node = self.model.make(path)
            node.content, node.mtime_ns = bytearray(content), None

        self._both("write", [path], expected, lambda: self._real(path).write_bytes(content))

    def replace(self) -> None:
        """As editors save."""
        path, content = self._path(), self._content()
        temporary = (*path[:-1], "temporary")

        def expected() -> None:
            self.model.make(temporary).content = bytearray(content)
            try:
                self.model.rename(temporary, path, 0)
            except OSError:
                self.model.unlink(temporary)
                raise

        def real() -> None:
            self._real(temporary).write_bytes(content)
            try:
                os.rename(self._real(temporary), self._real(path))
            except OSError:
                os.unlink(self._real(temporary))
                raise

        self._both("replace", [path], expected, real)

    def make(self) -> None:
        path = self._path()
        self._both(
            "make",
            [path],
            lambda: self.model.make(path, exclusive=True),
            lambda: self._real(path).open("x").close(),
        )

    def append(self) -> None:
        path, content = self._path(), self._content()

        def expected() -> None:
            node = self.model.make(path)
            assert node.content is not None
            node.content += content
            if content:
                node.mtime_ns = None

        def real() -> None:
            with self._real(path).open("ab") as file:
                file.write(content)

        self._both("append", [path], expected, real)

    def truncate(self) -> None:
        path, size = self._path(), self._source.choice((0, 50, 4096, 10_000))

        def expected() -> None:
            node = self.model.file(path)
            node.content = bytearray(bytes(node.content or b"")[:size].ljust(size, b"\0"))
            node.mtime_ns = None

        self._both("truncate", [path], expected, lambda: os.truncate(self._real(path), size))

    def mkdir(self) -> None:
        path = self._path()
        real = self._real(path)
        self._both("mkdir", [path], lambda: self.model.mkdir(path), lambda: os.mkdir(real))

    def rmdir(self) -> None:
        path = self._path()
        real = self._real(path)
        self._both("rmdir", [path], lambda: self.model.rmdir(path), lambda: os.rmdir(real))

    def unlink(self) -> None:
        path = self._path()
        real = self._real(path)
        self._both("unlink", [path], lambda: self.model.unlink(path), lambda: os.unlink(real))

    def rename(self) -> None:
        self._rename(0)

    def rename_to_free(self) -> None:
        self._rename(RENAME_NOREPLACE)

    def exchange(self) -> None:
        self._rename(RENAME_EXCHANGE)

    def _rename(self, flags: int) -> None:
        old, new = self._path(), self._path()
        if self._spellings and self._source.random() < 0.2:
            new = (*old[:-1], old[-1].swapcase())
        self._both(
            f"rename {flags}",
            [old, new],
            lambda: self.model.rename(old, new, flags),
            lambda: renameat2(self._real(old), self._real(new), flags),
        )

    def chmod(self) -> None:
        path, mode = self._path(), self._source.choice((0o600, 0o644, 0o755, 0o777))

        def expected() -> None:
            self.model.get(path).mode = mode

        self._both("chmod", [path], expected, lambda: os.chmod(self._real(path), mode))

    def utime(self) -> None:
        path, moment = self._path(), self._source.randrange(2 * 10**18)

        def expected() -> None:
            node = self.model.get(path)
            node.mtime_ns = moment if not node.is_folder else None

        def real() -> None:
            os.utime(self._real(path), ns=(moment, moment))

        self._both("utime", [path], expected, real)

    def stat(self) -> None:
        path = self._path()
        self._both(
            "stat",
            [path],
            lambda: described(self.model.get(path)),
            lambda: self._found(os.stat(self._real(path)), path),
        )

    def _found(self, found: os.stat_result, path: tuple[str, ...]) -> object:
        is_folder = stat.S_ISDIR(found.st_mode)
        known = None
        try:
            known = self.model.get(path).mtime_ns
        except OSError:
            return "found"
        return (
            is_folder,
            None if is_folder else found.st_size,
            stat.S_IMODE(found.st_mode),
            None if known is None else found.st_mtime_ns,
        )

    def listdir(self) -> None:
        path = self._path()[:-1]

        def names(folder: Node) -> list[str]:
            return sorted(child.name for child in folder.children.values())

        self._both(
            "list",
            [path] if path else [],
            lambda: names(self.model.folder(path)),
            lambda: sorted(os.listdir(self._real(path))),
        )

    def read(self) -> None:
        path = self._path()
        self._both(
            "read",
            [path],
            lambda: bytes(self.model.file(path).content or b""),
            lambda: self._real(path).read_bytes(),
        )

    def hold(self) -> None:
        path = self._path()
        node, descriptor = self._both(
            "open",
            [path],
            lambda: self.model.file(path),
            lambda: os.open(self._real(path), os.O_RDWR),
            compare=False,
        )
        if isinstance(node, Node) and isinstance(descriptor, int):
            self._held.append((descriptor, node))
        if len(self._held) > HELD:
            self.let_go()

    def let_go(self) -> None:
        if self._held:
            descriptor, node = self._held.pop(self._source.randrange(len(self._held)))
            self.history.append(f"close {node.name}")
            os.close(descriptor)

    def read_held(self) -> None:
        if self._held:
            descriptor, node = self._source.choice(self._held)
            self.history.append(f"read what is open {node.name}")
            assert node.content is not None
            if os.pread(descriptor, len(node.content) + 1, 0) != node.content:
                raise DifferentError("another content")

    def write_held(self) -> None:
        if self._held:
            descriptor, node = self._source.choice(self._held)
            place, content = self._source.randrange(10_000), self._content() or b"x"
            self.history.append(f"write to what is open {node.name}")
            os.pwrite(descriptor, content, place)
            assert node.content is not None
            node.content.extend(bytes(max(0, place - len(node.content))))
            node.content[place : place + len(content)] = content
            node.mtime_ns = None

    # ---- Comparison ----

    def _both(
        self,
        what: str,
        paths: list[tuple[str, ...]],
        expected: Callable[[], object],
        real: Callable[[], object],
        *,
        compare: bool = True,
    ) -> tuple[object, object]:
        """Do it to the model and to the folder; the results, which must be the same."""
        self.history.append(" ".join([what, *map("/".join, paths)]))
        try:
            wanted, code = expected(), 0
        except OSError as error:
            wanted, code = None, error.errno or 0
        found, got = None, 0
        try:
            found = real()
        except OSError as error:
            got = error.errno or 0
        self.history[-1] += f": {errno.errorcode.get(got, 'done')}"
        if got != code:
            names = [errno.errorcode.get(number, "done") for number in (got, code)]
            raise DifferentError(f"it was {names[0]}, not {names[1]}")
        if compare and wanted is not None and found != wanted and not isinstance(wanted, Node):
            raise DifferentError(f"{str(found)[:300]}, not {str(wanted)[:300]}")
        self._settle(*paths)
        return wanted, found

    def _settle(self, *paths: tuple[str, ...]) -> None:
        """The kernel hears in a moment what a change by one spelling means to the others."""
        if not self._spellings:
            return
        for path in paths:
            deadline = time.monotonic() + STALE_WITHIN
            spelled = [(*path[:-1], name) for name in (path[-1].lower(), path[-1].upper())]
            while not self._is_settled(spelled):
                if time.monotonic() > deadline:
                    raise DifferentError(f"{'/'.join(path)} lives on, or does not come")
                time.sleep(0.001)

    def _is_settled(self, spelled: list[tuple[str, ...]]) -> bool:
        """Whether all spellings lead to one inode, where something is to be there."""
        numbers: set[int | None] = set()
        for path in spelled:
            try:
                numbers.add(os.lstat(self._real(path)).st_ino)
            except OSError:
                numbers.add(None)
        return len(numbers) == 1 and (None not in numbers) == self._is_there(spelled[0])

    def _is_there(self, path: tuple[str, ...]) -> bool:
        try:
            self.model.get(path)
        except OSError:
            return False
        return True

    def compare(self) -> None:
        """The whole tree."""
        self.history.append("compare")
        self._compare_folder(self.model.top, self.root)

    def _compare_folder(self, folder: Node, real: Path) -> None:
        names = {child.name for child in folder.children.values()}
        if names != set(os.listdir(real)):
            raise DifferentError(f"{real} has {sorted(os.listdir(real))}, not {sorted(names)}")
        for child in folder.children.values():
            path = real / child.name
            found = os.stat(path)
            if stat.S_IMODE(found.st_mode) != child.mode:
                raise DifferentError(f"{path} has mode {found.st_mode:o}, not {child.mode:o}")
            if child.mtime_ns not in (None, found.st_mtime_ns):
                raise DifferentError(f"{path} is of {found.st_mtime_ns}, not {child.mtime_ns}")
            if child.is_folder:
                self._compare_folder(child, path)
            elif path.read_bytes() != child.content:
                raise DifferentError(f"{path} has another content")


def described(node: Node) -> object:
    """What stat(2) must say."""
    size = None if node.content is None else len(node.content)
    return (node.is_folder, size, node.mode, node.mtime_ns)


def main(folder: str, store: str, seed: str, operations: str, *flags: str) -> int:
    """One run; the exit status."""
    os.umask(0o022)
    spellings = "spellings" in flags
    kept = Path(store)
    model = pickle.loads(kept.read_bytes()) if kept.exists() else Model(spellings)  # noqa: S301
    exerciser = Exerciser(Path(folder), model, random.Random(int(seed)), spellings)
    try:
        exerciser.run(int(operations))
    except (DifferentError, OSError) as error:
        print(f"{type(error).__name__}: {error}, after", *exerciser.history[-TOLD:], sep="\n  ")
        return 1
    kept.write_bytes(pickle.dumps(model))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
