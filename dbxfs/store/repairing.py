"""What can be done about what the store's check has found.

Three things are never done: to delete bytes that were not sent, to overwrite what a program may
have changed since the check (each finding is looked at once more), and to guess. What belongs
nowhere is moved where people find it; what is not known rightly of Dropbox is left to a new
listing, which the caller begins. A file of which there are no bytes anywhere goes: there is
nothing to keep.

All of it runs in the event loop, a transaction a finding, but for the moving of a stray file,
which is a rename within one file system.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from dbxfs.core.names import fold

from .checking import DEEPEST, Finding, Rule
from .inode import ROOT_INO, Content, Effect, Entry, Inode
from .journal import Journal
from .staging import Staging
from .tree import Tree

LISTING = frozenset({Rule.BASE, Rule.NO_CONTENT})
"""Where a new listing brings what is missing."""

REMOUNT = "unmount and mount again: what Dropbox has is shown again, the rest kept in recovered/"

REMEDIES = {
    Rule.DAMAGED: "unmount and mount again: it is then set aside and rebuilt from Dropbox",
    Rule.UNREADABLE: "unmount and mount again: it is then set aside and rebuilt from Dropbox",
    Rule.ROOT: "unmount, move the state folder away, and mount again",
    Rule.PARENT: "--repair puts it where Dropbox has it, else into the mount's root",
    Rule.UNREACHABLE: "--repair puts it where Dropbox has it, else into the mount's root",
    Rule.KEY: "--repair writes its name down anew",
    Rule.BASE: "--repair compares all with a new listing",
    Rule.NOT_PENDING: "--repair sends it",
    Rule.NOTHING_PENDING: "--repair lets it go",
    Rule.ORPHAN: "--repair removes it",
    Rule.UNUSED: "--repair removes it",
    Rule.NO_CONTENT: "--repair fetches it again from Dropbox, or removes the name",
    Rule.SIZE: "--repair takes the size that Dropbox tells",
    Rule.STAGING_GONE: REMOUNT,
    Rule.STAGING_SHORT: REMOUNT,
    Rule.STAGING_RANGES: "copy what can still be read of it, and write it again",
    Rule.STRAY: "--repair moves them to the folder recovered/ beside the database",
}
"""What is to be done, for people."""


class Repair:
    """Mends one mount's store. The methods raise `sqlite3.Error` and `OSError`."""

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        staging: Staging,
        folder: Path,
        recovered: Path,
        on_effects: Callable[[list[Effect]], None],
    ) -> None:
        """`folder`: of the staging files; `recovered`: for strays, made when needed."""
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._database = tree.database
        self._folder = folder
        self._recovered = recovered
        self._on_effects = on_effects

    def mend(self, finding: Finding) -> bool:
        """Do what can be done about it; whether anything was, or need be by now.

        What a new listing brings (`LISTING`) counts as not done.
        """
        match finding.rule:
            case Rule.DAMAGED:
                return self._reindex()
            case Rule.ORPHAN:
                return self._remove_orphans(finding.ino)
            case Rule.STRAY:
                return self._recover(finding.path)
        inode = self._tree.find(finding.ino)
        if inode is None:
            return True
        with self._database.transaction():
            effects = self._mend(finding.rule, inode)
        self._on_effects(effects or [])
        return effects is not None

    def _mend(self, rule: Rule, inode: Inode) -> list[Effect] | None:
        """The kernel's part of what was done; None: nothing was."""
        match rule:
            case Rule.PARENT | Rule.UNREACHABLE:
                return self._place(inode)
            case Rule.KEY:
                return self._rekey(inode)
            case Rule.NOT_PENDING:
                self._tree.mark_pending(inode.ino)
            case Rule.NOTHING_PENDING:
                self._journal.done(inode.ino)
            case Rule.UNUSED:
                self._tree.drop_unused(inode.ino)
            case Rule.NO_CONTENT if inode.base_parent is None:
                return self._give_up_content(inode)
            case Rule.SIZE:
                return self._give_up_content(inode)
            case _:
                return None
        return []

    def _reindex(self) -> bool:
        """Indexes can be made anew from the rows; other damage needs another file."""
        try:
            self._database.execute("REINDEX")
        except sqlite3.DatabaseError:
            return False
        self._tree.forget_hot()
        return True

    def _remove_orphans(self, ino: int) -> bool:
        """Rows that hang on nothing. The file of such a staging row is a stray from then on."""
        with self._database.transaction():
            inode = self._tree.find(ino)
            if inode is None:
                self._database.execute("DELETE FROM journal WHERE ino = ?", ino)
            if inode is None or inode.is_folder:
                self._database.execute("DELETE FROM staging WHERE ino = ?", ino)
            self._database.execute(
                "DELETE FROM session WHERE ino = ? AND ino NOT IN (SELECT ino FROM staging)", ino
            )
        return True

    def _recover(self, file: str) -> bool:
        row = self._database.execute("SELECT 1 FROM staging WHERE file = ?", file).fetchone()
        path = self._folder / file
        if row is not None or not path.exists():
            return True
        self._recovered.mkdir(mode=0o700, exist_ok=True)
        # Not over what was recovered before.
        os.link(path, self._recovered / file)
        path.unlink()
        return True

    def _place(self, inode: Inode) -> list[Effect]:
        """Where Dropbox has it, if that can be reached; else the root, under a free name."""
        if self._is_reached(inode.parent):
            return []
        parent, name = ROOT_INO, inode.name
        if (
            inode.base_parent is not None
            and inode.base_name
            and self._is_reached(inode.base_parent)
        ):
            parent, name = inode.base_parent, inode.base_name
        name = self._tree.free_name(parent, name)
        self._tree.update(inode.ino, parent=parent, name=name, key=fold(name))
        if (parent, name) != (inode.base_parent, inode.base_name):
            self._tree.mark_pending(inode.ino)
        return [Entry(parent, name)]

    def _is_reached(self, ino: int | None) -> bool:
        """Whether a folder hangs on the root. `Tree.is_below` trusts that there are no circles."""
        for _ in range(DEEPEST):
            if ino == ROOT_INO:
                return True
            folder = None if ino is None else self._tree.find(ino)
            if folder is None or not folder.is_folder:
                return False
            ino = folder.parent
        return False

    def _rekey(self, inode: Inode) -> list[Effect]:
        if inode.key == fold(inode.name):
            return []
        name = inode.name
        if inode.parent is not None:
            name = self._tree.free_name(inode.parent, name)
        self._tree.update(inode.ino, name=name, key=fold(name))
        if name != inode.name:
            self._tree.mark_pending(inode.ino)
        return [] if inode.parent is None else [Entry(inode.parent, name)]

    def _give_up_content(self, inode: Inode) -> list[Effect]:
        """Nothing is staged: the version that Dropbox has, or no file at all."""
        if inode.parent is None or self._tree.has_content(inode.ino):
            return []
        if inode.base_parent is not None and inode.base_size is not None:
            self._tree.update(inode.ino, size=inode.base_size, mtime_ns=inode.base_mtime_ns)
            return [Content(inode.ino)]
        self._tree.unlink(inode.parent, inode.name)
        return [Entry(inode.parent, inode.name, inode.ino)]


def holders(database: Path, contents: Iterable[str]) -> dict[int, str]:
    """The inodes that have one of these contents as their base, and which. Blocks."""
    found: dict[int, str] = {}
    with sqlite3.connect(database, timeout=5) as connection:
        for content in contents:
            rows = connection.execute("SELECT ino FROM inode WHERE hash = ?", (content,))
            found.update((ino, content) for (ino,) in rows)
    connection.close()
    return found
