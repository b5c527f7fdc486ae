"""What programs do to the mount in the model test, and what follows from each of it.

Every operation looks at the daemon's tree before and after, so that the ledger learns exactly what
was written over or removed, and is done to the reference too, where there is one. What the mount
refuses is raised as the OSError that the program gets, after the mount has not changed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass

from dbxfs.core.names import fold
from tests.mount.model import EMPTY, Ledger, Look, Reference
from tests.mount.mounted import Mounted


@dataclass
class Held:
    """A file that a program keeps open."""

    descriptor: int
    ino: int
    path: str
    dirty: bool = False


class Programs:
    """The programs that use one mount."""

    def __init__(self, mounted: Mounted, ledger: Ledger) -> None:
        self._mounted = mounted
        self._ledger = ledger
        self.root = str(mounted.path)
        self.reference: Reference | None = None
        """The tree as it must be; None: somebody has edited elsewhere."""
        self.held: list[Held] = []
        self.touched: set[str] = set()
        """Folded names that were touched since both sides agreed."""
        self.renamed: set[tuple[str, str]] = set()
        """And those of them that became others."""

    def look(self) -> Look:
        """The daemon's tree now."""
        return Look.at(self._mounted.state / "tree.db")

    def pick(self, pick: int, *, folders: bool | None = None) -> str | None:
        """Something that is there."""
        paths = sorted(
            path
            for path, row in self.look().paths().items()
            if folders is None or row.is_folder == folders
        )
        return paths[pick % len(paths)] if paths else None

    def place(self, pick: int, name: str) -> str:
        """A name in a folder that is there."""
        folder = "" if pick % 2 else self.pick(pick // 2, folders=True) or ""
        return f"{folder}/{name}" if folder.count("/") < 4 else f"/{name}"

    def touch(self, *paths: str) -> None:
        """Programs change these names, and where they are folders all that is in them."""
        for path in paths:
            self.touched.add(fold(path.rpartition("/")[2]))
            for below in self.look().paths():
                if fold(below).startswith(fold(path) + "/"):
                    self.touched.add(fold(below.rpartition("/")[2]))

    def _was_written(
        self, before: Look, ino: int, contents: set[bytes], path: str, *, anew: bool = False
    ) -> None:
        """A program has closed a file that it wrote to.

        What it had open and somebody has removed goes with that, as on a disk; not what it
        made or emptied (`anew`), that was a change of its own.
        """
        row = self.look().rows.get(ino)
        self._ledger.forgive(
            self._ledger.of(before.rows.get(ino)) | (self._ledger.made_from(row) - contents)
        )
        self._ledger.unclosed.pop(ino, None)
        self._ledger.written[ino] = contents
        if anew or (row is not None and not row.unlinked):
            self._ledger.accept(contents, f"closed {path}")

    def _were_removed(self, before: Look, ino: int) -> None:
        """A program has unlinked `ino`, or whatever was there when it came to that."""
        gone = list(before.gone(self.look()))
        for was, now in gone:
            self._ledger.forgive(self._ledger.of(was) | self._ledger.of(now))
        if not gone:
            self._ledger.forgive(self._ledger.of(before.rows.get(ino)))

    def write(self, path: str, content: bytes) -> None:
        """Make the file, or write over all of it."""
        before = self.look()
        descriptor = os.open(self.root + path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        ino = os.fstat(descriptor).st_ino
        os.write(descriptor, content)
        os.close(descriptor)
        self._was_written(before, ino, {content}, path, anew=True)
        if self.reference is not None:
            self.reference.write(path, {content})

    def rename(self, source: str, target: str) -> None:
        """rename(2)."""
        before = self.look()
        moved = os.lstat(self.root + source).st_ino
        replaced = 0
        with contextlib.suppress(OSError):
            replaced = os.lstat(self.root + target).st_ino
        os.rename(self.root + source, self.root + target)
        self.renamed.add((fold(source.rpartition("/")[2]), fold(target.rpartition("/")[2])))
        if replaced and replaced != moved:
            self._were_removed(before, replaced)
        if self.reference is not None:
            self.reference.rename(source, target)

    def change_a_part(self, path: str, more: bytes, cut: int | None) -> None:
        """Append `more`; or cut the file, or fill it with zeros, to a length."""
        before = self.look()
        descriptor = os.open(self.root + path, os.O_WRONLY | os.O_APPEND)
        ino = os.fstat(descriptor).st_ino
        if cut is None:
            os.write(descriptor, more)
        else:
            os.ftruncate(descriptor, cut)
        os.close(descriptor)
        was, now = before.rows.get(ino), self.look().rows.get(ino)
        if was is not None and now is not None and was.staged == now.staged is not None:
            old = self._ledger.of(was)
        else:
            old = self._ledger.made_from(now) or {EMPTY}
        changed = {c + more if cut is None else (c + bytes(cut))[:cut] for c in old}
        for content in changed:
            self._ledger.register(content)
        if cut is not None:
            self._ledger.ambiguous |= changed
        self._ledger.forgive(old)
        self._was_written(before, ino, changed, path)
        if self.reference is not None:
            self.reference.write(path, changed)

    def mkdir(self, path: str) -> None:
        """mkdir(2)."""
        os.mkdir(self.root + path)
        if self.reference is not None:
            self.reference.mkdir(path)

    def remove(self, path: str) -> None:
        """unlink(2) or rmdir(2)."""
        before = self.look()
        status = os.lstat(self.root + path)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(self.root + path)
        else:
            os.unlink(self.root + path)
            self._were_removed(before, status.st_ino)
        if self.reference is not None:
            self.reference.remove(path)

    def remove_all(self, path: str) -> None:
        """rm -r."""
        for folder, folders, files in os.walk(self.root + path, topdown=False):
            for name in (*files, *folders):
                self.remove(f"{folder.removeprefix(self.root)}/{name}")
        self.remove(path)

    # ---- Files that are kept open ----

    def open(self, path: str) -> None:
        """Open a file, to write to it later."""
        descriptor = os.open(self.root + path, os.O_RDWR)
        self.held.append(Held(descriptor, os.fstat(descriptor).st_ino, path))

    def write_to_open(self, held: Held, content: bytes) -> None:
        """Write over all of a file that is open, and do not close it."""
        row = self.look().rows.get(held.ino)
        self.touched.add(fold(row.name) if row else "")
        old = self._ledger.of(row)
        os.ftruncate(held.descriptor, 0)
        os.pwrite(held.descriptor, content, 0)
        held.dirty = True
        old |= self._ledger.made_from(self.look().rows.get(held.ino))
        for unclosed in (EMPTY, content):
            self._ledger.stand_in(old, unclosed)
        self._ledger.unclosed[held.ino] = content
        self.reference = None

    def close(self, held: Held) -> None:
        """Close it: what was written is accepted."""
        self.held.remove(held)
        before = self.look()
        content = self._ledger.unclosed.get(held.ino)
        os.close(held.descriptor)
        if held.dirty and content is not None:
            self._was_written(before, held.ino, {content}, held.path)

    def die(self) -> None:
        """Whoever has a file open loses it; what was not closed is in the tree or is not."""
        self.close_all()
        look = self.look()
        for ino, content in self._ledger.unclosed.items():
            old = self._ledger.of(look.rows.get(ino)) | self._ledger.written.get(ino, set())
            old |= self._ledger.made_from(look.rows.get(ino))
            self._ledger.written[ino] = old | {content, EMPTY}
        self._ledger.unclosed = {}

    def close_all(self) -> None:
        """Give all descriptors back, whatever the mount says to that."""
        for held in self.held:
            with contextlib.suppress(OSError):
                os.close(held.descriptor)
        self.held = []

    def under_other_names(self, names: set[str]) -> set[str]:
        """These names, and those that programs have given to what had them."""
        found: set[str] = set()
        while names - found:
            found |= names
            names = found | {new for old, new in self.renamed if old in found}
        return found
