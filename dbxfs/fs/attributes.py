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
from dbxfs.store.inode import FOLDER, SOCKET, Inode
from dbxfs.store.staged import StagedFile
from dbxfs.store.tree import NO_OWNER, Owner

from .context import Context, Shown
from .errors import errnos

KEPT = 86_400.0
"""Seconds that the kernel keeps what it was told; it is told when something changes."""

STAT_BLOCK = 512
SPACE_BLOCK = 4096
UNKNOWN_SPACE = 1 << 40


def attributes(context: Context, inode: Inode) -> pyfuse3.EntryAttributes:
    """What stat(2) shows of the inode, staged content included."""
    staged = context.staging.peek(inode.ino)
    size = shown_size(context, inode)
    mtime_ns = inode.mtime_ns if staged is None else staged.shown_mtime_ns
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(inode.ino)
    if inode.is_folder:
        entry.generation = context.kernel.generation(inode.ino)
    entry.st_mode = pyfuse3.ModeT(_mode(context, inode))
    entry.st_nlink = 0 if inode.parent is None else 1
    entry.st_uid, entry.st_gid = _owner(context.shown, inode)
    entry.st_size = size if inode.link is None else len(inode.link)
    entry.st_blksize = BLOCK
    entry.st_blocks = -(-size // STAT_BLOCK)
    entry.st_mtime_ns = mtime_ns
    entry.st_atime_ns = mtime_ns if inode.atime_ns is None else inode.atime_ns
    entry.st_ctime_ns = max(inode.ctime_ns, 0 if staged is None else staged.shown_written_ns)
    entry.entry_timeout = KEPT
    # The size of a document is another one when it has been opened.
    entry.attr_timeout = KEPT if inode.downloadable else 0
    return entry


def shown_size(context: Context, inode: Inode) -> int:
    """Bytes. Of a document those of its last export, before one what Dropbox says, never nought.

    Nobody knows the size of an export before it is made; but a file that is empty to stat(2) is
    taken for one without asking.
    """
    staged = context.staging.peek(inode.ino)
    if staged is not None:
        return staged.shown_size
    if inode.downloadable:
        return inode.size
    exported = context.exports.size(inode.ino, inode.rev)
    return exported if exported is not None else max(inode.size, 1)


def _owner(shown: Shown, inode: Inode) -> tuple[int, int]:
    if not shown.many:
        return shown.uid, shown.gid
    uid = shown.uid if inode.uid is None else inode.uid
    return uid, shown.gid if inode.gid is None else inode.gid


def owner_of_new(shown: Shown, folder: Inode, ctx: pyfuse3.RequestContext) -> Owner:
    """Who owns what a program makes in a folder: as the folder's group where that is set-gid."""
    if not shown.many:
        return NO_OWNER
    inherits = folder.mode is not None and folder.mode & stat.S_ISGID
    gid = _owner(shown, folder)[1] if inherits else ctx.gid
    return (
        None if ctx.uid == shown.uid else ctx.uid,
        None if gid == shown.gid else gid,
    )


def _mode(context: Context, inode: Inode) -> int:
    shown = context.shown
    if inode.link is not None:
        return stat.S_IFLNK | 0o777
    if inode.kind == FOLDER:
        kind, bits = stat.S_IFDIR, 0o777 & ~shown.dmask
    elif inode.kind == SOCKET:
        kind, bits = stat.S_IFSOCK, 0
    else:
        kind, bits = stat.S_IFREG, 0o666 & ~shown.fmask
    if inode.mode is not None:
        bits = inode.mode
    if inode.read_only or not inode.downloadable:
        bits &= ~0o222
    return kind | bits


async def check_growth(context: Context, inode: Inode, size: int) -> None:
    """Refuse what cannot fit on Dropbox, while the program can still be told: EFBIG, ENOSPC.

    Who has the inode's staged content must look for it again after this: Dropbox may be asked, and
    meanwhile the content may be sent and retired.
    """
    if size > LARGEST_FILE:
        raise pyfuse3.FUSEError(errno.EFBIG)
    more = size - shown_size(context, inode)
    fits = more <= 0 or await context.add_space(more)
    if not fits and not context.tree.is_local_only(inode):
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
        """truncate(2), chmod(2), utimensat(2); chown(2), where files have owners.

        Elsewhere that only works to what is shown anyway. The kernel has checked who may. Where
        nothing is different after it, ctime is all the same.
        """
        context = self.context
        await context.behind.wait(context.staging.peek(inode))
        before = context.tree.get(inode)
        shown = context.shown
        uid = attr.st_uid if fields.update_uid else None
        gid = attr.st_gid if fields.update_gid else None
        if not shown.many:
            if uid not in (None, shown.uid) or gid not in (None, shown.gid):
                raise pyfuse3.FUSEError(errno.EPERM)
            uid = gid = None
        if fields.update_size:
            await self._truncate(before, attr.st_size)
        mtime_ns = attr.st_mtime_ns if fields.update_mtime else None
        atime_ns = attr.st_atime_ns if fields.update_atime else None
        if fields.update_mtime and not fields.update_atime and not fields.update_size:
            # Else it would follow the time that is set.
            atime_ns = attributes(context, before).st_atime_ns
        mode = stat.S_IMODE(attr.st_mode) if fields.update_mode else None
        changes = (mtime_ns, atime_ns, mode, uid, gid)
        if not fields.update_size or any(value is not None for value in changes):
            staged = context.staging.peek(inode)
            if staged is not None and mtime_ns is not None:
                staged.mtime_ns = mtime_ns
            context.tree.set_attributes(
                inode, mtime_ns=mtime_ns, atime_ns=atime_ns, mode=mode, owner=(uid, gid)
            )
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
        await check_growth(context, inode, size)
        staged = self._stage(context.tree.get(inode.ino))
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
