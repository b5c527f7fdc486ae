"""Where inodes were and where they are: what a batch of changes comes to for who watches.

Dropbox tells a move as a deletion and an addition, and an inode's place can change several times
on the way. Only where it was before and where it is afterwards is told. What is out of sight and
may still come back (on the next page) is told when that is known.

Rejected: to tell each change of a place where it is made. They are made in many places, and what
is made only to make room is nobody's news.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .inode import Inode, Moved, Place
from .tree import Tree


class Moves:
    """Takes down from where inodes were moved while changes are applied."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._before: dict[int, tuple[Place | None, bool]] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Inodes that get another place within are told of by `take`, unless it fails."""
        before = dict(self._before)
        self._tree.on_place = self._note
        try:
            yield
        except BaseException:
            self._before = before
            raise
        finally:
            self._tree.on_place = lambda ino, before: None

    def _note(self, ino: int, before: Inode | None) -> None:
        if ino not in self._before:
            self._before[ino] = (_place(before), before is not None and before.is_folder)

    def take(self) -> list[Moved]:
        """What has come, gone and moved since, in the order in which it began."""
        moves = []
        hidden: dict[int, tuple[Place | None, bool]] = {}
        for ino, (source, was_folder) in self._before.items():
            inode = self._tree.find(ino)
            target = _place(inode)
            if source is not None and inode is not None and inode.seen < 0 and target is None:
                hidden[ino] = (source, was_folder)
            elif source != target:
                folder = was_folder if inode is None else inode.is_folder
                moves.append(Moved(ino, folder, source, target))
        self._before = hidden
        return moves


def _place(inode: Inode | None) -> Place | None:
    if inode is None or inode.parent is None:
        return None
    return inode.parent, inode.name
