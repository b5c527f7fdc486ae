"""Attributes of inodes, and of the file system as a whole."""

from __future__ import annotations

import errno
import os
import stat

import pyfuse3
import trio

from dbxfs.core.content_hash import BLOCK
from dbxfs.core.model import Space
from dbxfs.core.refusals import LARGEST_FILE
from dbxfs.store.inode import FOLDER, Inode
from dbxfs.store.staged import StagedFile

from .context import Context
from .errors import errnos

KEPT = 86_400.0
"""Seconds that the kernel keeps what it was told; it is told when something changes."""

STAT_BLOCK = 512
SPACE_BLOCK = 4096
UNKNOWN_SPACE = 1 << 40


def attributes(context: Context, inode: Inode) -> pyfuse3.EntryAttributes:
    """What stat(2) shows of the inode, staged content included."""
    staged = context.staging.peek(inode.ino)
    size = _size(context, inode) if staged is None else staged.size
    mtime_ns = inode.mtime_ns if staged is None else staged.mtime_ns
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(inode.ino)
    if inode.is_folder:
        entry.generation = context.kernel.generation(inode.ino)
    entry.st_mode = pyfuse3.ModeT(_mode(context, inode))
    entry.st_nlink = 0 if inode.parent is None else 1
    entry.st_uid, entry.st_gid = context.shown.uid, context.shown.gid
    entry.st_size = size
    entry.st_blksize = BLOCK
    entry.st_blocks = -(-size // STAT_BLOCK)
    entry.st_mtime_ns = mtime_ns
    entry.st_atime_ns = mtime_ns
    entry.st_ctime_ns = max(inode.ctime_ns, mtime_ns if staged is not None else 0)
    entry.entry_timeout = KEPT
    # The size of a document is another one when it has been opened.
    entry.attr_timeout = KEPT if inode.downloadable else 0
    return entry


def _size(context: Context, inode: Inode) -> int:
    """Bytes. Of a document those of its last export, before one what Dropbox says, never nought.

    Nobody knows the size of an export before it is made; but a file that is empty to stat(2) is
    taken for one without asking.
    """
    if inode.downloadable:
        return inode.size
    exported = context.exports.size(inode.ino, inode.rev)
    return exported if exported is not None else max(inode.size, 1)


def _mode(context: Context, inode: Inode) -> int:
    shown = context.shown
    if inode.kind == FOLDER:
        kind, bits = stat.S_IFDIR, 0o777 & ~shown.dmask
    else:
        kind, bits = stat.S_IFREG, 0o666 & ~shown.fmask
    if inode.mode is not None:
        bits = inode.mode
    if inode.read_only or not inode.downloadable:
        bits &= ~0o222
    return kind | bits


async def check_growth(context: Context, staged: StagedFile, size: int) -> None:
    """Refuse what cannot fit on Dropbox, while the program can still be told: EFBIG, ENOSPC."""
    if size > LARGEST_FILE:
        raise pyfuse3.FUSEError(errno.EFBIG)
    more = size - staged.size
    fits = more <= 0 or await context.add_space(more)
    if not fits and not context.tree.is_local_only(context.tree.get(staged.ino)):
        raise pyfuse3.FUSEError(errno.ENOSPC)


class AttributeHandlers(pyfuse3.Operations):
    """getattr, setattr, access, statfs."""

    context: Context

    @errnos
    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """stat(2)."""
        return attributes(self.context, self.context.tree.get(inode))

    @errnos
    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """truncate(2), chmod(2), utimensat(2); chown(2) only to what is shown anyway."""
        context = self.context
        before = context.tree.get(inode)
        shown = context.shown
        if (fields.update_uid and attr.st_uid != shown.uid) or (
            fields.update_gid and attr.st_gid != shown.gid
        ):
            raise pyfuse3.FUSEError(errno.EPERM)
        if fields.update_size:
            await self._truncate(before, attr.st_size)
        mtime_ns = attr.st_mtime_ns if fields.update_mtime else None
        mode = stat.S_IMODE(attr.st_mode) if fields.update_mode else None
        if mtime_ns is not None or mode is not None:
            staged = context.staging.peek(inode)
            if staged is not None and mtime_ns is not None:
                staged.mtime_ns = mtime_ns
            context.tree.set_attributes(inode, mtime_ns=mtime_ns, mode=mode)
        return attributes(context, context.tree.get(inode))

    def _stage(self, inode: Inode) -> StagedFile:
        """The inode's staged content, to be changed."""
        return self.context.staging.begin(inode)

    async def _truncate(self, inode: Inode, size: int) -> None:
        if inode.is_folder:
            raise pyfuse3.FUSEError(errno.EISDIR)
        if not inode.writable:
            raise pyfuse3.FUSEError(errno.EACCES)
        context = self.context
        staged = self._stage(inode)
        await check_growth(context, staged, size)
        with staged.writing():
            await trio.to_thread.run_sync(staged.truncate, size, context.tree.clock())
        context.staging.record(staged)
        if not context.kernel.is_open(inode.ino):
            context.staging.let_go(inode.ino)

    @errnos
    async def access(
        self, inode: pyfuse3.InodeT, mode: pyfuse3.ModeT, ctx: pyfuse3.RequestContext
    ) -> bool:
        """access(2); with default_permissions the kernel answers it itself."""
        entry = attributes(self.context, self.context.tree.get(inode))
        if ctx.uid == 0:
            return not mode & os.X_OK or bool(entry.st_mode & 0o111)
        if ctx.uid == entry.st_uid:
            shift = 6
        elif ctx.gid == entry.st_gid or entry.st_gid in pyfuse3.get_sup_groups(ctx.pid):
            shift = 3
        else:
            shift = 0
        return (entry.st_mode >> shift) & mode == mode

    @errnos
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """statvfs(3): Dropbox's quota, as it was told last."""
        data = pyfuse3.StatvfsData()
        # Nothing known yet must not look like a full disk: programs ask before they copy.
        space = self.context.space() or Space(used=0, allocated=UNKNOWN_SPACE)
        data.f_bsize = data.f_frsize = SPACE_BLOCK
        if space.allocated:
            data.f_blocks = space.allocated // SPACE_BLOCK
            data.f_bfree = data.f_bavail = max(0, space.allocated - space.used) // SPACE_BLOCK
        data.f_files = data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data
