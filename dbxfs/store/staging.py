"""Dirty bytes: content that programs wrote and Dropbox does not have yet.

One staging file an inode (`staged`), in the state directory and never in the cache. While a
program writes, size, times and extents live in the `StagedFile` and cost no transaction.
`Staging.record` (at flush and fsync) makes them a row of the database; what was recorded survives
a kill.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dbxfs.core.content_hash import ContentHasher
from dbxfs.core.model import Rev
from dbxfs.core.ranges import Ranges

from .inode import Inode
from .staged import COPY_BYTES, Snapshot, StagedFile
from .tree import Tree, TreeError

RESERVE = 4 * 1024 * 1024
"""Bytes that programs' writes leave free on the disk, for the database and for what is on its way.
Without them nothing could be recorded any more, not even the removal of what fills the disk."""

LARGE = 4 * 1024 * 1024
"""Bytes of a file that takes the disk long to remove."""


class Staging:
    """All staged content of a mount."""

    def __init__(self, tree: Tree, folder: Path) -> None:
        """`folder` exists and is private."""
        self._tree = tree
        self._database = tree.database
        self._folder = folder
        self._open: dict[int, StagedFile] = {}
        self._serial = 0
        self.in_background: Callable[[Callable[[], None]], object] = lambda work: work()
        """Given what takes the disk long."""
        tree.on_delete = self.discard
        tree.write_down = self.write_down
        tree.hold_content = self.hold
        tree.on_rebase = self._rebase
        self._database.rolled_back.append(self._forget_unmade)

    def peek(self, ino: int) -> StagedFile | None:
        """The inode's staged content if it is open; if not, the tree knows all about it."""
        return self._open.get(ino)

    def get(self, ino: int) -> StagedFile | None:
        """The inode's staged content, opened when it is asked for first."""
        staged = self._open.get(ino)
        if staged is not None:
            return staged
        row = self._database.execute(
            "SELECT file, from_rev, from_hash, from_size, base_limit, extents"
            " FROM staging WHERE ino = ?",
            ino,
        ).fetchone()
        if row is None:
            return None
        file, from_rev, from_hash, from_size, base_limit, extents = row
        path = self._folder / file
        inode = self._tree.get(ino)
        try:
            staged = StagedFile(
                ino,
                path,
                size=inode.size,
                mtime_ns=inode.mtime_ns,
                from_rev=from_rev,
                from_hash=from_hash,
                from_size=from_size or 0,
                base_limit=base_limit,
                extents=Ranges.from_bytes(extents),
                new=False,
                close=self._close,
            )
        except FileNotFoundError:
            raise TreeError(errno.EIO, f"the staging file of inode {ino} is gone: {path}") from None
        staged.recorded = staged.generation
        self._open[ino] = staged
        return staged

    def begin(self, inode: Inode) -> StagedFile:
        """The inode's staged content, made from its current version when there is none yet."""
        staged = self.get(inode.ino)
        return self._begin(inode) if staged is None else staged

    def create(self, inode: Inode) -> StagedFile:
        """The content of a file that was made in this transaction: none yet."""
        staged = self._begin(inode)
        self._write(staged, staged.snapshot())
        return staged

    def _begin(self, inode: Inode) -> StagedFile:
        self._serial += 1
        path = self._folder / f"{inode.ino}-{self._tree.clock():x}-{self._serial}"
        staged = StagedFile(
            inode.ino,
            path,
            size=inode.size,
            mtime_ns=inode.mtime_ns,
            from_rev=inode.rev,
            from_hash=inode.hash,
            from_size=inode.size,
            base_limit=inode.size,
            close=self._close,
        )
        # Nothing is written yet: there is nothing to record.
        staged.recorded = staged.generation
        self._open[inode.ino] = staged
        return staged

    def check_room(self, size: int) -> None:
        """Raises OSError (ENOSPC) when so many more bytes would use up the reserve."""
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < size + RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def record(self, staged: StagedFile) -> None:
        """Make what was written part of the tree: from here on it survives a kill."""
        now = staged.snapshot()
        with self._database.transaction():
            self._tree.update(
                staged.ino,
                size=now.size,
                mtime_ns=now.mtime_ns,
                ctime_ns=max(self._tree.get(staged.ino).ctime_ns, staged.written_ns),
            )
            self._write(staged, now)
            if self._tree.get(staged.ino).parent is not None:
                self._tree.mark_pending(staged.ino)
        # Not if a transaction that this is part of is rolled back.
        self._database.after_commit(partial(setattr, staged, "recorded", now.generation))

    def _write(self, staged: StagedFile, now: Snapshot) -> None:
        self._database.execute(
            "INSERT INTO staging"
            " (ino, file, from_rev, from_hash, from_size, base_limit, extents)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (ino) DO UPDATE"
            " SET base_limit = excluded.base_limit, extents = excluded.extents",
            staged.ino,
            staged.path.name,
            staged.from_rev,
            staged.from_hash,
            staged.from_size,
            now.base_limit,
            now.extents.to_bytes(),
        )

    def hold(self, inode: Inode) -> None:
        """Dropbox no longer has the file, programs keep it: it is to be sent from its revision."""
        if self.get(inode.ino) is None:
            self.record(self.begin(inode))
        self._database.after_commit(partial(self.let_go, inode.ino))

    def write_down(self, ino: int) -> None:
        """Record what was written to the inode, or is being, if it is not recorded yet."""
        staged = self._open.get(ino)
        if staged is not None and (staged.dirty or staged.writers):
            self.record(staged)

    def record_all(self) -> None:
        """Record whatever was written and is not recorded yet: the daemon ends."""
        for staged in list(self._open.values()):
            if staged.dirty and self._tree.find(staged.ino) is not None:
                self.record(staged)

    def growing(self) -> int:
        """Bytes by which files have grown and the database does not know it yet."""
        found = [(staged, self._tree.find(staged.ino)) for staged in self._open.values()]
        return sum(
            max(0, staged.shown_size - max(inode.size, inode.base_size or 0))
            for staged, inode in found
            if inode is not None and inode.parent is not None
        )

    def retire(self, staged: StagedFile) -> None:
        """Dropbox has the content: it is no longer staged. The file is left to the caller."""
        if self._open.get(staged.ino) is staged:
            del self._open[staged.ino]
        staged.retire()

    def discard(self, ino: int) -> None:
        """The inode's staged content is not wanted any more, with all that belongs to it."""
        staged = self._open.pop(ino, None)
        if staged is not None:
            staged.retire()
        row = self._database.execute("SELECT file FROM staging WHERE ino = ?", ino).fetchone()
        path = self._folder / row[0] if row else None if staged is None else staged.path
        if path is None:
            return
        with self._database.transaction():
            self._database.execute("DELETE FROM session WHERE ino = ?", ino)
            self._database.execute("DELETE FROM staging WHERE ino = ?", ino)
            self._database.after_commit(lambda: self._remove(path))

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LARGE:
                self.in_background(partial(path.unlink, missing_ok=True))
            else:
                path.unlink()

    def _close(self, descriptor: int) -> None:
        """What is removed goes with the last descriptor of it."""
        status = os.fstat(descriptor)
        if status.st_size > LARGE and not status.st_nlink:
            self.in_background(partial(os.close, descriptor))
        else:
            os.close(descriptor)

    def abandon(self, ino: int) -> None:
        """Nobody has it open any more: give the descriptor back.

        What was begun and never written goes, and so does what is unlinked. An upload under way
        keeps it: it must notice when the next program writes, so there can be but one of it.
        """
        inode = self._tree.find(ino)
        if inode is None or inode.parent is None:
            self.discard(ino)
            return
        staged = self._open.get(ino)
        if staged is None or staged.dirty or staged.in_use:
            return
        if self._is_recorded(ino):
            self.retire(staged)
        else:
            self.discard(ino)

    def let_go(self, ino: int) -> None:
        """Give the descriptor back until somebody asks for the content again."""
        staged = self._open.get(ino)
        if staged is None or staged.dirty or staged.in_use:
            return
        if self._is_recorded(ino):
            self.retire(staged)

    def _is_recorded(self, ino: int) -> bool:
        row = self._database.execute("SELECT 1 FROM staging WHERE ino = ?", ino)
        return row.fetchone() is not None

    def recover_strays(self, recovered: Path) -> list[Path]:
        """At start: staging files that no row names. Blocks.

        Those whose content the tree knows are removed; the others hold bytes that a program had
        written when the daemon died, and are moved to `recovered`, which is made when needed.
        """
        for inode in list(self._tree.select("parent IS NULL")):
            self.discard(inode.ino)
        named = {file for (file,) in self._database.execute("SELECT file FROM staging")}
        moved = []
        for path in sorted(self._folder.iterdir()):
            if path.name in named:
                continue
            if path.stat().st_size == 0 or self._is_known(path):
                path.unlink()
                continue
            recovered.mkdir(mode=0o700, exist_ok=True)
            target = recovered / path.name
            shutil.move(path, target)
            moved.append(target)
        return moved

    def _is_known(self, path: Path) -> bool:
        hasher = ContentHasher()
        with path.open("rb") as file:
            while chunk := file.read(COPY_BYTES):
                hasher.update(chunk)
        return self._tree.select_one("hash = ? AND id IS NOT NULL", hasher.hexdigest()) is not None

    def _rebase(self, ino: int, old: Rev | None, new: Rev) -> None:
        staged = self._open.get(ino)
        if staged is not None and staged.from_rev == old:
            staged.from_rev = new

    def _forget_unmade(self) -> None:
        """After a rollback: inodes that were not made after all. Their numbers are used again."""
        for ino in [ino for ino in self._open if self._tree.find(ino) is None]:
            staged = self._open.pop(ino)
            staged.retire()
            staged.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give all descriptors back."""
        for staged in self._open.values():
            staged.retire()
        self._open.clear()
