"""Extended attributes: those of programs, and what dbxfs knows of a file.

What is named `user.dbxfs.*` is computed when it is asked for; the names are part of the outside
interface. Only `pin` can be set, to 1, and removed; it is readable on all that is pinned with a
folder above. They are not listed: who copies a file with all that is listed (rsync -X, cp -a, tar)
would carry them elsewhere, or fail to set or remove them here. Other names of "user" are kept for
programs (`core.attributes`). Those of other namespaces are refused with ENOTSUP, which ls(1)
remembers for the whole file system and asks no more.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

import pyfuse3

from dbxfs.core.attributes import unpack_xattrs
from dbxfs.store.inode import ROOT_INO, Inode

from .context import Context
from .errors import errnos

PREFIX = b"user.dbxfs."
PIN = PREFIX + b"pin"
CACHED = PREFIX + b"cached"

ATTRIBUTES_KEPT_HERE = "Dropbox has refused its mode, times and attributes; they are kept here only"

_CONFLICT = re.compile(r"\((?:.*\s)?conflicted copy(?:\s.*)?\)")
"""How Dropbox and we mark a file's other version in its name."""


def state(context: Context, inode: Inode) -> str:
    """Where the inode stands: synced, pending, uploading, error, local or conflict."""
    row = context.journal.row(inode.ino)
    if context.tree.is_local_only(inode):
        return "local"
    if row is not None and row.error is not None:
        return "error"
    if context.uploading(inode.ino):
        return "uploading"
    staged = context.staging.peek(inode.ino)
    if row is not None or (staged is not None and staged.dirty):
        return "pending"
    return "conflict" if _CONFLICT.search(inode.name) else "synced"


def values(context: Context, inode: Inode) -> dict[str, str]:
    """All attributes of the inode that have a value."""
    row = context.journal.row(inode.ino)
    kept_here = ATTRIBUTES_KEPT_HERE if inode.attributes_refused else None
    found = {
        "state": state(context, inode),
        "error": kept_here if row is None else row.error,
        "id": inode.id,
        "rev": inode.rev if inode.on_dropbox else None,
        "content_hash": inode.hash if inode.on_dropbox else None,
        "pin": "1" if context.pins.covers(inode.ino) else None,
    }
    if inode.ino == ROOT_INO:
        del found["state"]
    return {name: value for name, value in found.items() if value is not None}


class XattrHandlers(pyfuse3.Operations):
    """getxattr, listxattr, setxattr, removexattr."""

    context: Context

    @errnos
    async def getxattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> bytes:
        """getxattr(2)."""
        if not name.startswith(b"user."):
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        value = None
        found = self.context.tree.get(inode)
        if name == CACHED:
            value = await self._cached(found)
        elif name.startswith(PREFIX):
            known = values(self.context, found)
            value = known.get(name[len(PREFIX) :].decode("utf-8", "replace"))
        elif (own := unpack_xattrs(found.xattrs).get(name)) is not None:
            return own
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value.encode("utf-8", "replace")

    @errnos
    async def listxattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """listxattr(2): those of programs."""
        found = unpack_xattrs(self.context.tree.get(inode).xattrs)
        return [pyfuse3.XAttrNameT(name) for name in found]

    async def _cached(self, inode: Inode) -> str | None:
        """Per cent of a file, or of all that is in a folder; None: it has no bytes to keep."""
        if not inode.downloadable:
            return None
        return str((await self.context.holdings.measure(inode.ino)).percent)

    @errnos
    async def setxattr(
        self,
        inode: pyfuse3.InodeT,
        name: pyfuse3.XAttrNameT,
        value: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """setxattr(2): of ours only the pin can be set (or ENOSPC)."""
        if name == PIN:
            if value != b"1":
                raise pyfuse3.FUSEError(errno.EINVAL)
            await self.context.holdings.check_room(inode)
            self.context.pins.add(inode)
            return
        self._check_own(name)
        self.context.tree.set_xattr(inode, bytes(name), bytes(value))

    @errnos
    async def removexattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """removexattr(2): takes a pin away; EPERM where it stands at a folder above."""
        if name == PIN and not self.context.pins.covers(inode):
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        if name == PIN and self.context.pins.remove(inode):
            return
        self._check_own(name)
        self.context.tree.set_xattr(inode, bytes(name), None)

    @staticmethod
    def _check_own(name: bytes) -> None:
        """Whether programs may change an attribute of this name."""
        if name.startswith(PREFIX):
            raise pyfuse3.FUSEError(errno.EPERM)
        if not name.startswith(b"user."):
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        if name == b"user.":
            raise pyfuse3.FUSEError(errno.EINVAL)
