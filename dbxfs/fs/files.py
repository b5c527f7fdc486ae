"""Content: open, read, write, and what makes written bytes survive.

Reads come from what is staged, and where nothing was written from the version that it was made
from. Writes go to staging alone. Closing records what was written (it survives a kill), fsync
brings it to the disk itself: first the bytes, then the database that speaks of them.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from dataclasses import dataclass

import msgspec
import pyfuse3
import trio

from dbxfs.core.model import RemotePath
from dbxfs.store.inode import Content, Inode
from dbxfs.store.staged import StagedFile
from dbxfs.store.tree import TreeError
from dbxfs.sync.exports import Exported
from dbxfs.sync.version import Version

from .attributes import check_growth, owner_of_new, shown_size
from .errors import errnos
from .folders import FolderHandlers

GLANCE = 128 * 1024
"""Bytes that are copied from memory faster than a thread is asked for them."""
LARGE = 40 * 1024 * 1024
"""Bytes of a file whose beginning is sent though a program still writes to it."""


@dataclass(slots=True)
class OpenFile:
    """One handle."""

    ino: int
    version: Version | None
    """What Dropbox had when it was opened: still readable when the file is gone there."""
    changed: bool
    """Something was written through it."""
    append: bool
    """Whether all that is written to it goes to the end. Not for one that is read too: the pages
    of a mapping come by way of that, each to its own place."""
    exported: Exported | None = None
    """Of an online document."""


class FileHandlers(FolderHandlers):
    """open, create, read, write, flush, fsync, release, mknod."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[int, OpenFile] = {}
        self._handles = itertools.count(1)
        self._truncating: dict[int, trio.Event] = {}
        """What is just being emptied, and when that is done."""

    def _open(self, inode: Inode, flags: int, *, changed: bool) -> pyfuse3.FileInfo:
        handle = next(self._handles)
        append = flags & (os.O_ACCMODE | os.O_APPEND) == os.O_WRONLY | os.O_APPEND
        self._files[handle] = OpenFile(inode.ino, _version(inode), changed, append)
        self.context.kernel.opened(inode.ino)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), keep_cache=True)

    @errnos
    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """open(2) of a file that is there."""
        self.context.opened()
        found = self.context.tree.get(inode)
        if found.parent is None and not self.context.kernel.is_open(inode):
            # Removed elsewhere in this moment: the kernel looks the name up once more, and makes
            # a new file where that is wanted.
            raise pyfuse3.FUSEError(errno.ESTALE)
        if found.is_folder:
            raise pyfuse3.FUSEError(errno.EISDIR)
        writes = flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
        if writes and not found.writable:
            # Not EROFS: the one file cannot be written, its neighbours can.
            raise pyfuse3.FUSEError(errno.EACCES)
        if not found.downloadable:
            return await self._open_document(found)
        if flags & os.O_TRUNC:
            await self.context.behind.wait(self.context.staging.peek(inode))
            await self._empty(inode)
        return self._open(self.context.tree.get(inode), flags, changed=bool(flags & os.O_TRUNC))

    async def _empty(self, ino: int) -> None:
        """Cut all of a file that is opened for that; who appends meanwhile begins after it.

        The kernel holds up nobody else for it, as it does for ftruncate(2).
        """
        staged = self._stage(self.context.tree.get(ino))
        done = self._truncating[ino] = trio.Event()
        try:
            with staged.writing():
                await trio.to_thread.run_sync(staged.truncate, 0, self.context.tree.clock())
            self.context.staging.record(staged)
        finally:
            if self._truncating.get(ino) is done:
                del self._truncating[ino]
            done.set()

    async def _open_document(self, inode: Inode) -> pyfuse3.FileInfo:
        """Past the kernel's pages: they would end where the size was before the export."""
        context = self.context
        if inode.id is None or inode.rev is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        self.context.kernel.opened(inode.ino)
        try:
            exported = await context.exports.open(inode.ino, RemotePath(inode.id), inode.rev)
        except BaseException:
            self._let_go(inode.ino)
            raise
        handle = next(self._handles)
        self._files[handle] = OpenFile(inode.ino, None, False, False, exported)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), direct_io=True, keep_cache=False)

    @errnos
    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """open(2) with O_CREAT of a name that is not there, as far as the kernel knows."""
        try:
            inode = await self._create(parent_inode, name, mode, ctx)
        except TreeError as error:
            if error.errno != errno.EEXIST or flags & os.O_EXCL:
                raise
            # It has come meanwhile, or under another spelling: to be looked up and then opened,
            # with all that the kernel checks then.
            raise pyfuse3.FUSEError(errno.ESTALE) from None
        return self._open(inode, flags, changed=True), self._given(inode)

    @errnos
    async def mknod(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """mknod(2) of a regular file, bind(2) of a socket; Dropbox has no others."""
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFSOCK):
            raise pyfuse3.FUSEError(errno.EPERM)
        return self._given(await self._create(parent_inode, name, mode, ctx))

    async def _create(
        self,
        parent: int,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> Inode:
        """A file, or a socket: here that is only a name, the kernel connects who meets there."""
        context, text = self.context, self._name(name)
        owner = owner_of_new(context.shown, await self._known(parent), ctx)
        bits = mode & ~ctx.umask & 0o7777
        if stat.S_ISSOCK(mode):
            inode = context.tree.create_socket(parent, text, bits, owner)
        else:
            with context.tree.database.transaction():
                inode = context.tree.create_file(parent, text, bits, owner=owner)
                context.staging.create(inode)
        context.kernel.changed_here(parent, text)
        return inode

    # ---- Bytes ----

    @errnos
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """read(2)."""
        handle = self._files[fh]
        if handle.exported is not None:
            return await trio.to_thread.run_sync(handle.exported.read, off, size)
        staged = self.context.staging.get(handle.ino)
        if staged is not None and staged.awaited:
            await self.context.behind.wait(staged)
            # It may have been sent and retired while this waited for its turn.
            staged = self.context.staging.get(handle.ino)
        if staged is not None:
            with staged.reading(), self.context.kernel.reading(handle.ino):
                return await self._read_staged(staged, off, size)
        inode = self.context.tree.find(handle.ino)
        version = (None if inode is None else _version(inode)) or handle.version
        if version is None:
            if inode is not None and off < inode.size:
                raise pyfuse3.FUSEError(errno.EIO)
            return b""
        if off == 0 and inode is not None:
            self.context.siblings.note(inode)
        with self.context.kernel.reading(handle.ino):
            return await self.context.fetcher.read(version, off, size, fh)

    async def _read_staged(self, staged: StagedFile, offset: int, length: int) -> bytes:
        end = min(offset + length, staged.size)
        missing = staged.missing(offset, end)
        if not missing:
            cached = staged.read_cached(offset, length) if length <= GLANCE else None
            if cached is not None:
                return cached
            return await trio.to_thread.run_sync(staged.read, offset, length)
        assert staged.from_rev is not None  # noqa: S101
        version = Version(staged.from_rev, staged.from_hash, staged.from_size)
        pieces = [
            (start, await self.context.fetcher.read(version, start, stop - start))
            for start, stop in missing
        ]
        # What was written while the rest came is newer: only what is still missing is put in. And
        # what was missing when these bytes were read must be what is missing after it: an upload
        # or a writer may have filled it in just then.
        while True:
            extents, base_limit = staged.extents, staged.base_limit
            data = bytearray(await trio.to_thread.run_sync(staged.read, offset, length))
            if (extents, base_limit) == (staged.extents, staged.base_limit):
                break
        for start, piece in pieces:
            for a, b in extents.missing(start, min(start + len(piece), base_limit)):
                data[a - offset : b - offset] = piece[a - start : b - start]
        return bytes(data)

    @errnos
    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        """write(2), into staging (`behind`).

        What is appended goes to the end as it is, which O_APPEND leaves to us: the kernel may not
        have heard yet of another size from elsewhere.
        """
        context, handle = self.context, self._files[fh]
        handle.changed = True
        inode = context.tree.get(handle.ino)
        end = shown_size(context, inode) if handle.append else off
        await check_growth(context, inode, end + len(buf))
        begun = context.staging.peek(handle.ino)
        context.staging.check_room((begun.awaited if begun else 0) + len(buf))
        while handle.append and handle.ino in self._truncating:
            await self._truncating[handle.ino].wait()
        staged = self._stage(context.tree.get(handle.ino))
        if handle.append and off != staged.shown_size:
            off = staged.shown_size
            context.kernel.stale([Content(handle.ino)])
        if off < LARGE <= off + len(buf):
            context.grows_large(handle.ino)
        await context.behind.write(staged, off, buf, context.tree.clock())
        return len(buf)

    def _stage(self, inode: Inode) -> StagedFile:
        """The inode's staged content, to be changed.

        What is gone from Dropbox has no revision any more; whoever has it open still knows it.
        """
        if inode.rev is None and self.context.staging.get(inode.ino) is None:
            held = (file.version for file in self._files.values() if file.ino == inode.ino)
            version = next((version for version in held if version is not None), None)
            if version is not None:
                inode = msgspec.structs.replace(inode, rev=version.rev, hash=version.hash)
        return self.context.staging.begin(inode)

    @errnos
    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """close(2) of one descriptor: what was written survives a kill of the daemon."""
        handle = self._files[fh]
        await self._record(handle.ino)
        if handle.changed:
            self.context.behind.complain(handle.ino)
            await self._sent(handle.ino)

    @errnos
    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """fsync(2): what was written survives a power cut."""
        handle = self._files[fh]
        await self.context.behind.wait(self.context.staging.peek(handle.ino))
        staged = self.context.staging.get(handle.ino)
        if staged is not None:
            with staged.reading():
                await trio.to_thread.run_sync(staged.sync)
        await self._record(handle.ino)
        # Also to who has not written himself; the writer is still to be told.
        self.context.behind.complain(handle.ino, keep=not handle.changed)
        await trio.to_thread.run_sync(self.context.tree.database.sync)
        await self._sent(handle.ino)

    async def _record(self, ino: int) -> None:
        """Make all that was written part of the tree."""
        await self.context.behind.wait(self.context.staging.peek(ino))
        staged = self.context.staging.get(ino)
        if staged is not None and staged.dirty:
            self.context.staging.record(staged)

    async def _sent(self, ino: int) -> None:
        if self.context.on_dropbox is not None:
            await self.context.on_dropbox(ino)

    @errnos
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """The last reference to a handle is gone."""
        handle = self._files.pop(fh)
        self.context.fetcher.forget(fh)
        if handle.exported is not None:
            self.context.exports.release(handle.exported)
        # Pages of a mapping can be written after the last flush.
        try:
            await self._record(handle.ino)
        finally:
            self._let_go(handle.ino)

    def _let_go(self, ino: int) -> None:
        """A handle less."""
        if self.context.kernel.released(ino):
            self.context.behind.forgive(ino)
            self.context.staging.abandon(ino)
            if not self.context.kernel.in_use(ino):
                self.context.tree.drop_unused(ino)


def _version(inode: Inode) -> Version | None:
    """What Dropbox has of the file; None: nothing yet."""
    if inode.rev is None:
        return None
    return Version(inode.rev, inode.hash, inode.base_size or 0)
