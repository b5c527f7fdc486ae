"""What is pending of an inode: Dropbox does not know it yet (the words are `core.reconcile`'s)."""

from __future__ import annotations

from dbxfs.core.reconcile import Pending

from .inode import Inode
from .tree import Tree


def pending(tree: Tree, inode: Inode) -> Pending:
    """What is still to be sent of the inode."""
    if inode.parent is None:
        return Pending(deletion=is_journaled(tree, inode.ino))
    return Pending(
        content=tree.has_content(inode.ino),
        place=inode.base_parent is not None and inode.moved,
    )


def is_journaled(tree: Tree, ino: int) -> bool:
    """Whether there may be anything to send of the inode."""
    return tree.database.exists("journal", ino)


def forget(tree: Tree, ino: int) -> None:
    """Nothing is left to be sent of the inode."""
    tree.database.execute("DELETE FROM journal WHERE ino = ?", ino)
