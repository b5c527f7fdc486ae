"""Where a path of Dropbox's leads in the tree: by the places that Dropbox knows.

The feed names things by path, and its paths are those of Dropbox's own state. So they are walked
along the base columns; where programs have moved something meanwhile plays no part.
"""

from __future__ import annotations

from dbxfs.core.names import fold

from .inode import ROOT_INO, Inode
from .tree import Tree


class BasePlaces:
    """The tree as Dropbox sees it, to be looked up by path."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database
        self._depth = tree.root.count("/")

    def at(self, parent: int, key: str) -> Inode | None:
        """What Dropbox has in a folder under a key (`core.names.fold`)."""
        return self._tree.select_one("base_parent = ? AND base_key = ?", parent, key)

    def at_path(self, path: str) -> Inode | None:
        """What Dropbox has at a path."""
        return self._walk(ROOT_INO, path.split("/")[1 + self._depth :])

    def at_old_path(self, path: str) -> Inode | None:
        """What was at a path before our own move took its folder elsewhere.

        Once something else is at the folder's old path, that is what the feed speaks of.
        """
        names = path.split("/")
        for length in range(len(names) - 1, 1 + self._depth, -1):
            folder = "/".join(names[:length])
            row = self._database.execute("SELECT ino FROM moved WHERE path = ?", fold(folder))
            for (ino,) in row.fetchall():
                if self.at_path(folder) is None:
                    return self._walk(ino, names[length:])
        return None

    def is_below(self, ino: int, folder: int) -> bool:
        """Whether Dropbox has `ino` at or below `folder`."""
        at: Inode | None = self._tree.get(ino)
        while at is not None and at.ino != ROOT_INO:
            if at.ino == folder:
                return True
            at = None if at.base_parent is None else self._tree.find(at.base_parent)
        return False

    def _walk(self, ino: int, names: list[str]) -> Inode | None:
        at: Inode | None = None
        for name in names:
            at = self.at(ino, fold(name))
            if at is None:
                return None
            ino = at.ino
        return at
