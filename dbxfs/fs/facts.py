"""What the tree says of operations that are to be replayed for watchers, when their turn comes."""

from __future__ import annotations

from dbxfs.core.names import encode_name
from dbxfs.store.inode import Inode, Place
from dbxfs.store.tree import TreeError

from .attributes import attributes
from .context import Context
from .echoes import Appear, Move, Operation, Rewrite, Touch, Vanish
from .replay import Message


class TreeFacts:
    """What the thread that has changes replayed asks of the tree."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def parent(self, ino: int) -> int | None:
        """The folder that an inode is in."""
        inode = self._context.tree.find(ino)
        return None if inode is None else inode.parent

    def message(self, operation: Operation) -> Message | None:
        """What the process is to do; None: it is no longer so."""
        try:
            match operation:
                case Appear(ino, target):
                    inode = at(self._context, ino, target)
                    if inode is None:
                        return None
                    return {**self._appear(inode), **self._place(target)}
                case Vanish(folder=folder, source=source):
                    return {"do": "rmdir" if folder else "unlink", **self._place(source)}
                case Move(ino, source, target):
                    if at(self._context, ino, target) is None:
                        return None
                    return self._move(ino, source, target)
                case Rewrite(ino) | Touch(ino):
                    return self._change(operation, self._context.tree.get(ino))
        except TreeError:
            # A folder on the way is no more.
            return None

    def _appear(self, inode: Inode) -> Message:
        if inode.is_folder:
            return {"do": "mkdir"}
        if inode.link is not None:
            return {"do": "symlink", "link": inode.link.decode("latin-1")}
        return {"do": "create", "size": attributes(self._context, inode).st_size}

    def _move(self, ino: int, source: Place, target: Place) -> Message:
        into = self._place(target)
        return {
            "do": "move",
            "ino": ino,
            **self._place(source),
            "into": into["folder"],
            "as": into["name"],
        }

    def _change(self, operation: Operation, inode: Inode) -> Message | None:
        if inode.parent is None or inode.is_folder:
            return None
        now = attributes(self._context, inode)
        writes = isinstance(operation, Rewrite) and inode.link is None
        return {
            "do": "write" if writes else "touch",
            "size": now.st_size,
            "mtime_ns": now.st_mtime_ns,
            **self._place((inode.parent, inode.name)),
        }

    def _place(self, place: Place) -> Message:
        folder, name = place
        names = self._context.tree.path(folder).split("/")[1:]
        path = b"/".join(map(encode_name, names)).decode("latin-1")
        return {"folder": [folder, path], "name": encode_name(name).decode("latin-1")}


def at(context: Context, ino: int, place: Place) -> Inode | None:
    """The inode, if that is where it is, by that very name."""
    inode = context.tree.find(ino)
    return inode if inode is not None and (inode.parent, inode.name) == place else None
