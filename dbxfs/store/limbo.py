"""What Dropbox has deleted, until it is known whether it was only moved.

A move arrives as a deletion and an addition with the same id, maybe on different pages, and must
keep its inode. So what a deletion takes is put into limbo (`seen = -1`, no place on Dropbox), and
dropped only at the end of the batch.
"""

from __future__ import annotations

from dataclasses import replace

from dbxfs.core import reconcile

from .inode import Inode
from .news import News
from .pending import forget, pending
from .tree import Tree

LIMBO = -1

NO_BASE: dict[str, object] = dict.fromkeys(
    ("id", "base_parent", "base_name", "base_key", "base_attributes")
)
"""Dropbox does not have it. The revision stays: who has it open reads on by that."""


class Limbo:
    """Takes in what was deleted, and lets go of what did not come back."""

    def __init__(self, tree: Tree, news: News) -> None:
        self._tree = tree
        self._database = tree.database
        self._news = news

    def put(self, inode: Inode) -> None:
        """Take in an inode and what is below it.

        What nothing local is pending in is out of sight at once. The rest, and what is below,
        keeps its place until the batch ends: should it come back under another name, pending
        work goes there with it.
        """
        self._take_in(inode)
        if inode.parent is None or pending(self._tree, inode).place:
            return
        if not self._stays(self._tree.get(inode.ino)):
            self._hide(inode)

    def gives_way(self, occupant: Inode) -> bool:
        """Whether an inode only waited here under its name; if so, it is out of sight now."""
        if occupant.seen != LIMBO or self._stays(occupant):
            return False
        self._hide(occupant)
        return True

    def revive(self, folder: int) -> None:
        """Give up the pending deletion of a folder into which something came from elsewhere."""
        for parent, name in self._tree.revive(folder):
            self._news.entry(parent, name)

    def empty(self, stamp: int) -> None:
        """The batch is over: what did not come back is gone, or new where work is pending.

        `stamp`: the number of the last crawl, for what stays.
        """
        for inode in list(self._tree.select("seen < 0 AND parent IS NULL")):
            if self._stays(inode):
                # Since it went out of sight, somebody has written to what is in it.
                self.revive(inode.ino)
        for inode in list(self._tree.select("seen < 0")):
            self._resolve(inode.ino, stamp)

    def _take_in(self, inode: Inode) -> None:
        if inode.is_folder:
            below = "base_parent = ? AND base_key IS NOT NULL"
            for child in list(self._tree.select(below, inode.ino)):
                self._take_in(child)
        self._tree.update(inode.ino, base_key=None, seen=LIMBO)

    def _hide(self, inode: Inode) -> None:
        """Put what is in limbo out of sight."""
        assert inode.parent is not None  # noqa: S101
        self._news.entry(inode.parent, inode.name, inode.ino)
        self._tree.update(inode.ino, parent=None)
        forget(self._tree, inode.ino)

    def _stays(self, inode: Inode) -> bool:
        """Whether programs keep it, should what is in limbo not come back."""
        if inode.seen >= 0:
            return True
        survivors = inode.is_folder and any(
            self._stays(child) for child in list(self._tree.select("parent = ?", inode.ino))
        )
        kept = replace(pending(self._tree, inode), place=self._moved_here(inode))
        fate = reconcile.on_deleted(kept, holds_survivors=survivors)
        return fate is reconcile.Fate.KEEP_AS_NEW

    def _moved_here(self, inode: Inode) -> bool:
        """Whether a program has moved it, or a folder that went with it, to where it is."""
        at: Inode | None = inode
        while at is not None and at.seen == LIMBO and at.parent is not None:
            if at.base_parent is not None and at.moved:
                return True
            at = self._tree.find(at.parent)
        return False

    def _resolve(self, ino: int, stamp: int) -> None:
        inode = self._tree.find(ino)
        if inode is None or inode.seen >= 0:
            return
        if inode.is_folder:
            for child in list(self._tree.select("parent = ? AND seen < 0", ino)):
                self._resolve(child.ino, stamp)
        stays = self._stays(inode)
        self._tree.update(ino, seen=stamp, **NO_BASE)
        if stays:
            if not inode.is_folder:
                self._tree.hold_content(self._tree.get(ino))
            self._tree.mark_pending(ino)
            return
        if inode.parent is not None:
            self._news.entry(inode.parent, inode.name, ino)
        self._tree.update(ino, parent=None)
        forget(self._tree, ino)
        self._hand_pin_on(inode)
        self._tree.drop_unused(ino)

    def _hand_pin_on(self, inode: Inode) -> None:
        """A pinned file that is gone, where another one has taken its name in the same batch."""
        if inode.base_parent is None or inode.base_name is None:
            return
        if self._database.exists("pin", inode.ino):
            successor = self._tree.child(inode.base_parent, inode.base_name)
            if successor is not None and successor.kind == inode.kind:
                self._tree.hand_pin_on(inode.ino, successor.ino)
