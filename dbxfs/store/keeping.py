"""Which attributes Dropbox keeps and by which templates: the answers of calls about properties.

Beside `meta.templates` stands nothing else that says whether attributes can be sent at all, so
that they leave the journal unsent while they cannot (`Tree.attributes_to_send`). When they can
again, all inodes are looked through once for those that differ. A mark at each that was left out
was rejected: it would have to be set by everything that changes an attribute, and be right for
years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import attributes
from .inode import FILE
from .tree import Tree


class Keeping:
    """What Dropbox is known to keep of a tree's attributes."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database

    def templates(self) -> tuple[str, ...]:
        """The ids of our template, the one to write to first; none: no attributes can be kept."""
        return tuple((self._database.get_meta("templates") or "").split())

    def lost(self) -> None:
        """Dropbox keeps no attributes any more, or not for this app."""
        self._database.set_meta("templates", None)

    def found(self, templates: Sequence[str]) -> None:
        """It keeps attributes, by the templates of these ids."""
        with self._database.transaction():
            self._database.set_meta("templates", " ".join(templates))
            self._database.set_meta("attributes_from", "0")

    def send_what_differs(self, count: int) -> bool:
        """Put into the journal whose attributes Dropbox should have and has not.

        Looks at `count` inodes; whether that was all, so that nothing is left to look at. A kill
        between two calls loses none.
        """
        after = self._database.get_meta("attributes_from")
        if after is None:
            return True
        rows = self._database.execute(
            "SELECT ino, id NOT NULL AND parent NOT NULL"
            " AND (coalesce(mode, uid, gid, link, xattrs, base_attributes) NOT NULL"
            " OR kind = ? AND mtime_ns != base_mtime_ns)"
            " FROM inode WHERE ino > ? ORDER BY ino LIMIT ?",
            FILE,
            int(after),
            count,
        ).fetchall()
        more = len(rows) == count
        with self._database.transaction():
            for ino, may_differ in rows:
                if may_differ and self._tree.attributes_to_send(self._tree.get(ino)):
                    self._tree.mark_pending(ino)
            self._database.set_meta("attributes_from", str(rows[-1][0]) if more else None)
        return not more

    def confirm(self, ino: int, fields: Mapping[str, str]) -> None:
        """Dropbox keeps these fields of our property group with the inode now."""
        self._tree.update(ino, base_attributes=attributes.stored(fields))

    def refused(self, ino: int) -> None:
        """Dropbox will not keep the attributes of this one: they stay here until they change."""
        self._tree.update(ino, attributes_refused=1)
