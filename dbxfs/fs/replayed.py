"""The requests of the process that replays changes for watchers: answered, never carried out.

Whatever it asks for is already so in the tree, or is refused. While it is at it, it alone sees
how things were: a new name is not there until it has made it, an old one is there until it has
removed it. What a name led to that is removed is shown as an inode of its own, which nothing else
leads to: the kernel takes that for removed, not one that still lives.
"""

from __future__ import annotations

import errno
import itertools
import stat
from collections.abc import Sequence

import pyfuse3

from dbxfs.core.names import encode_name
from dbxfs.store.inode import Place

from .attributes import AttributeHandlers, attributes
from .echoes import Appear, Move, Rewrite, Touch, Vanish
from .errors import uncounted_errnos
from .facts import at
from .files import FileHandlers
from .links import LinkHandlers
from .replaying import Performance
from .xattrs import XattrHandlers

HANDLE = pyfuse3.FileHandleT(0)
"""Of the files that the process opens; programs' handles are counted from one."""

GONE = 1 << 62
"""Inode numbers from here on are of what is no more; a database does not get that far."""

GLANCE = 1.0
"""Seconds in which it must get from looking at the old name to moving it."""


class ReplayHandlers(FileHandlers, LinkHandlers, AttributeHandlers, XattrHandlers):
    """lookup, getattr and all that changes something, before the handlers for programs."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = itertools.count(GONE)

    # ---- Names ----

    @uncounted_errnos
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """As it was before what is replayed."""
        performance = self.context.replaying.performance
        if performance is None or not self.context.replaying.asks(ctx):
            return await super().lookup(parent_inode, name, ctx)
        match performance.operation:
            case Appear(target=place) | Move(target=place) if _is(place, parent_inode, name):
                performance.hidden = True
                return _nothing()
            case Vanish(folder=folder, source=place) if _is(place, parent_inode, name):
                performance.shown = True
                return self._gone_entry(parent_inode, folder)
            case Move(ino, source, target) if _is(source, parent_inode, name):
                inode = at(self.context, ino, target)
                if inode is None:
                    return _nothing()
                performance.shown = True
                entry = self._given(inode)
                entry.entry_timeout = GLANCE
                return entry
            case _:
                return await super().lookup(parent_inode, name, ctx)

    def _gone_entry(self, parent: int, folder: bool) -> pyfuse3.EntryAttributes:
        """What is no more, in the looks of the folder that it was in."""
        entry = attributes(self.context, self.context.tree.get(parent))
        entry.st_ino = pyfuse3.InodeT(next(self._gone))
        entry.generation = 0
        if not folder:
            entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o600)
        entry.st_size = 0
        entry.entry_timeout = 0
        return entry

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Nobody else knows of those that are no more."""
        await super().forget([(ino, count) for ino, count in inode_list if ino < GONE])

    # ---- What is granted ----

    @uncounted_errnos
    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """A file has come."""
        if not self.context.replaying.asks(ctx):
            return await super().create(parent_inode, name, mode, flags, ctx)
        entry = self._appeared(parent_inode, name)
        return pyfuse3.FileInfo(fh=HANDLE, keep_cache=True), entry

    @uncounted_errnos
    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """A folder has come."""
        if not self.context.replaying.asks(ctx):
            return await super().mkdir(parent_inode, name, mode, ctx)
        return self._appeared(parent_inode, name)

    @uncounted_errnos
    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        target: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """A link has come."""
        if not self.context.replaying.asks(ctx):
            return await super().symlink(parent_inode, name, target, ctx)
        return self._appeared(parent_inode, name)

    def _appeared(self, parent: int, name: bytes) -> pyfuse3.EntryAttributes:
        performance = self._performance()
        match performance.operation:
            case Appear(ino, place) if _is(place, parent, name):
                inode = at(self.context, ino, place)
                if inode is not None:
                    performance.answered = True
                    return self._given(inode)
        raise pyfuse3.FUSEError(errno.ESTALE)

    @uncounted_errnos
    async def unlink(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """A file has gone."""
        if not self.context.replaying.asks(ctx):
            await super().unlink(parent_inode, name, ctx)
            return
        self._vanished(parent_inode, name)

    @uncounted_errnos
    async def rmdir(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """A folder has gone."""
        if not self.context.replaying.asks(ctx):
            await super().rmdir(parent_inode, name, ctx)
            return
        self._vanished(parent_inode, name)

    def _vanished(self, parent: int, name: bytes) -> None:
        performance = self._performance()
        match performance.operation:
            # Unless it was shown what is gone, the kernel means what has the name by now.
            case Vanish(source=place) if _is(place, parent, name) and performance.shown:
                performance.answered = True
            case _:
                raise pyfuse3.FUSEError(errno.ESTALE)

    @uncounted_errnos
    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Something has moved."""
        old, new = (parent_inode_old, name_old), (parent_inode_new, name_new)
        if not self.context.replaying.asks(ctx):
            await super().rename(*old, *new, flags, ctx)
            return
        performance = self._performance()
        match performance.operation:
            # Unless the new name was hidden, the kernel would take what it leads to for replaced.
            case Move(ino, source, target) if (
                _is(source, *old)
                and _is(target, *new)
                and performance.hidden
                and at(self.context, ino, target) is not None
            ):
                performance.answered = True
            case _:
                raise pyfuse3.FUSEError(errno.ESTALE)

    # ---- Content and times ----

    @uncounted_errnos
    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """A file whose content is another one."""
        if not self.context.replaying.asks(ctx):
            return await super().open(inode, flags, ctx)
        if self._performance().operation != Rewrite(inode):
            raise pyfuse3.FUSEError(errno.ESTALE)
        return pyfuse3.FileInfo(fh=HANDLE, keep_cache=True)

    @uncounted_errnos
    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Size or time are those that it has."""
        if not self.context.replaying.asks(ctx):
            return await super().setattr(inode, attr, fields, fh, ctx)
        performance = self._performance()
        match performance.operation:
            case Appear(ino) | Rewrite(ino) | Touch(ino) if ino == inode:
                found = self.context.tree.find(ino)
                if found is not None:
                    performance.answered = True
                    return attributes(self.context, found)
        raise pyfuse3.FUSEError(errno.ESTALE)

    @uncounted_errnos
    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """Nothing was written."""
        if fh != HANDLE:
            await super().flush(fh)

    @uncounted_errnos
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Nothing was opened."""
        if fh != HANDLE:
            await super().release(fh)

    @uncounted_errnos
    async def mknod(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Never replayed."""
        if self.context.replaying.asks(ctx):
            raise pyfuse3.FUSEError(errno.EPERM)
        return await super().mknod(parent_inode, name, mode, rdev, ctx)

    @uncounted_errnos
    async def setxattr(
        self, inode: pyfuse3.InodeT, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Never replayed."""
        if self.context.replaying.asks(ctx):
            raise pyfuse3.FUSEError(errno.EPERM)
        await super().setxattr(inode, name, value, ctx)

    @uncounted_errnos
    async def removexattr(
        self, inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """Never replayed."""
        if self.context.replaying.asks(ctx):
            raise pyfuse3.FUSEError(errno.EPERM)
        await super().removexattr(inode, name, ctx)

    def _performance(self) -> Performance:
        performance = self.context.replaying.performance
        if performance is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return performance


def _is(place: Place, parent: int, name: bytes) -> bool:
    return place[0] == parent and encode_name(place[1]) == name


def _nothing() -> pyfuse3.EntryAttributes:
    """Nothing has that name, which the kernel must not keep."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = 0
    return entry
