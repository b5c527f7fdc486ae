"""Calls whose answers have not come: Dropbox may have made a file or folder that we do not know.

A reply can be lost after the work was done, and the daemon be killed before it comes. What was
sent is then on Dropbox under the name that it had, while programs go on: they rename it, remove
it, put something else in its place. So before each call that makes an entry its place and content
are noted. When the feed shows just that, it is the inode's own, wherever programs have it now, and
what they did since is a move or a deletion to be sent.

An inode that was removed meanwhile is kept for as long as the feed may still tell of it. Rejected:
asking Dropbox before the removal, which would make unlink(2) wait for the network.
"""

from __future__ import annotations

from dbxfs.core.model import FileEntry, FolderEntry

from .inode import Inode
from .tree import Tree

PATIENCE_NS = 60 * 1_000_000_000
"""How long something removed may still turn out to have been made: a call takes less."""


class Sent:
    """The rows of table `sent`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database

    def note(self, ino: int, content_hash: str | None) -> None:
        """The inode is about to be made on Dropbox where it is now. `content_hash` None: a folder.

        For a file that Dropbox has, its next revision.
        """
        inode = self._tree.get(ino)
        self._database.execute(
            "INSERT OR REPLACE INTO sent (ino, parent, key, hash, at_ns) VALUES (?, ?, ?, ?, ?)",
            ino,
            inode.parent,
            inode.key,
            content_hash or "",
            self._tree.clock(),
        )

    def is_same(self, ino: int, content_hash: str | None) -> bool:
        """Whether what was sent last, if anything, is what would be sent now."""
        row = self._database.execute(
            "SELECT parent, key, hash FROM sent WHERE ino = ?", ino
        ).fetchone()
        inode = self._tree.get(ino)
        return row is None or row == (inode.parent, inode.key, content_hash or "")

    def any(self) -> bool:
        """Whether there is a call whose answer has not come."""
        return self._database.execute("SELECT 1 FROM sent LIMIT 1").fetchone() is not None

    def answered(self, ino: int) -> None:
        """What became of it is known."""
        self._database.execute("DELETE FROM sent WHERE ino = ?", ino)

    def sender(self, entry: FileEntry | FolderEntry, parent: int, key: str) -> Inode | None:
        """The inode that we sent as this entry; None: it is not our doing."""
        content_hash = entry.content_hash if isinstance(entry, FileEntry) else ""
        row = self._database.execute(
            "SELECT ino FROM sent WHERE parent = ? AND key = ? AND hash = ?",
            parent,
            key,
            content_hash,
        ).fetchone()
        inode = None if row is None else self._tree.find(row[0])
        if inode is None or inode.is_folder is not isinstance(entry, FolderEntry):
            return None
        return inode

    def forget_old(self) -> None:
        """What was removed, and the feed has not told of for long: it was never made."""
        rows = self._database.execute(
            "SELECT ino FROM sent JOIN inode USING (ino)"
            " WHERE inode.parent IS NULL AND base_parent IS NULL AND at_ns < ?",
            self._tree.clock() - PATIENCE_NS,
        ).fetchall()
        for (ino,) in rows:
            self.answered(ino)
            self._tree.drop_unused(ino)
