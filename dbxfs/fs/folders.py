"""Names and folders: lookup, listing, and every change of the tree."""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Sequence

import pyfuse3
import trio

from dbxfs.core import documents
from dbxfs.core.names import MAX_LENGTH, decode_name, encode_name, fold
from dbxfs.store.inode import ROOT_INO, Attributes, Inode

from .attributes import KEPT, attributes, owner_of_new
from .context import Context
from .errors import errnos
from .spelling import Retries, is_respelling

log = logging.getLogger(__name__)

SLICE = 128
"""Entries read from the tree at once."""

CHILDREN = 2
"""Positions in a folder: 0 is ".", 1 is "..", a child's is its inode number and this. So a
position stays good whatever comes and goes, in this run of the daemon and the next."""


class FolderHandlers(pyfuse3.Operations):
    """lookup, forget, opendir, readdir, mkdir, rmdir, unlink, rename, fsyncdir."""

    context: Context

    def __init__(self) -> None:
        super().__init__()
        self._retries = Retries()

    def _name(self, raw: pyfuse3.FileNameT) -> str:
        """A name from the kernel, fit for the tree."""
        name = decode_name(raw)
        if len(name) > MAX_LENGTH and len(raw) > MAX_LENGTH:
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        return name

    def _stored(self, parent: int, name: str) -> str:
        """The name in the tree for one that the kernel uses: a document's, if it is shown so."""
        if not self.context.shown.export_extension or self.context.tree.child(parent, name):
            return name
        stem = documents.stem(name)
        found = None if stem is None else self.context.tree.child(parent, stem)
        if found is None or fold(self._shown(found)) != fold(name):
            return name
        return found.name

    def _shown(self, inode: Inode) -> str:
        """The name under which programs see it."""
        if inode.downloadable or not self.context.shown.export_extension:
            return inode.name
        shown = documents.shown(inode.name, inode.export_as)
        taken = inode.parent is None or self.context.tree.child(inode.parent, shown) is not None
        return inode.name if taken else shown

    async def _known(self, ino: int) -> Inode:
        """The folder, with all its entries here."""
        context = self.context
        folder = context.tree.get(ino)
        if folder.is_folder and not context.tree.children_known(folder):
            await context.listing.ensure(ino)
            folder = context.tree.get(ino)
        return folder

    def _given(self, inode: Inode) -> pyfuse3.EntryAttributes:
        """The attributes as an answer that counts as a lookup."""
        self.context.kernel.looked_up(inode.ino)
        return attributes(self.context, inode)

    @errnos
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find a name in a folder, in any case."""
        context = self.context
        if name in (b".", b".."):
            at = context.tree.get(parent_inode)
            return self._given(at if name == b"." else context.tree.get(at.parent or ROOT_INO))
        text = self._name(name)
        await self._known(parent_inode)
        stored = self._stored(parent_inode, text)
        inode = context.tree.child(parent_inode, stored)
        self._retries.noted(ctx.pid, parent_inode, text)
        if inode is not None and inode.name != stored:
            respelling = await trio.to_thread.run_sync(is_respelling, ctx.pid, bytes(name))
            if respelling is None:
                respelling = self._retries.is_respelling(ctx.pid, parent_inode, text)
            if respelling is None:
                raise pyfuse3.FUSEError(errno.ESTALE)
            if respelling:
                return _absent(0)
            inode = context.tree.child(parent_inode, stored)
        if inode is None:
            under = documents.stem(text) if context.shown.export_extension else None
            return _absent(KEPT if context.kernel.missed(parent_inode, text, under) else 0)
        entry = self._given(inode)
        if inode.name != text:
            # Or the kernel would find it by this spelling when it is long gone by its own.
            entry.entry_timeout = 0
        return entry

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """The kernel no longer holds these. There is nobody to tell of a failure."""
        context = self.context
        forgotten = [ino for ino, count in inode_list if context.kernel.forgotten(ino, count)]
        for ino in forgotten:
            try:
                if not context.kernel.in_use(ino):
                    context.tree.drop_unused(ino)
            except Exception:
                # It is dropped at the next start.
                log.exception("inode %d is not needed any more, and could not be dropped", ino)

    # ---- Listing ----

    @errnos
    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        """The handle of a folder is its inode number: a position needs no memory."""
        folder = await self._known(inode)
        if not folder.is_folder:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        self.context.kernel.opened(inode)
        return pyfuse3.FileHandleT(inode)

    @errnos
    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """List a folder from a position on, in the order of inode numbers."""
        tree = self.context.tree
        if start_id < CHILDREN:
            folder = tree.get(fh)
            upper = tree.get(folder.parent or ROOT_INO)
            dots = ((b".", folder), (b"..", upper))
            for position in range(start_id, CHILDREN):
                name, inode = dots[position]
                entry = attributes(self.context, inode)
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position + 1):
                    return
        after = max(0, start_id - CHILDREN)
        while children := tree.children(fh, after, SLICE):
            for child in children:
                if not self._list_one(child, token):
                    return
                after = child.ino

    def _list_one(self, child: Inode, token: pyfuse3.ReaddirToken) -> bool:
        entry = attributes(self.context, child)
        shown = self._shown(child)
        if shown != child.name:
            # Or the kernel would find it by this name when it is long gone by its own.
            entry.entry_timeout = 0
        name = pyfuse3.FileNameT(encode_name(shown))
        if not pyfuse3.readdir_reply(token, name, entry, child.ino + CHILDREN):
            return False
        self.context.kernel.looked_up(child.ino)
        return True

    @errnos
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """The listing is over."""
        if self.context.kernel.released(fh) and not self.context.kernel.in_use(fh):
            self.context.tree.drop_unused(fh)

    @errnos
    async def fsyncdir(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """The folder's names survive a power cut from here on."""
        await trio.to_thread.run_sync(self.context.tree.database.sync)
        if self.context.on_dropbox is not None:
            for ino in [fh, *self.context.journal.pending_in(fh)]:
                await self.context.on_dropbox(ino)

    # ---- Changes ----

    @errnos
    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """mkdir(2)."""
        text = self._name(name)
        parent = await self._known(parent_inode)
        owner = owner_of_new(self.context.shown, parent, ctx)
        # A set-group-id folder hands that on, as mkdir(2) says.
        bits = mode & ~ctx.umask & 0o1777 | (parent.mode or 0) & stat.S_ISGID
        folder = self.context.tree.create_folder(parent_inode, text, bits, owner)
        self.context.kernel.changed_here(parent_inode, text)
        return self._given(folder)

    @errnos
    async def rmdir(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """rmdir(2); a full folder is ENOTEMPTY, also when its entries are not known yet."""
        text = self._name(name)
        await self._known(parent_inode)
        folder = self.context.tree.child(parent_inode, text)
        if folder is not None and folder.is_folder:
            await self._known(folder.ino)
        gone = self.context.tree.rmdir(parent_inode, text)
        self.context.kernel.buried(gone.ino)
        self.context.kernel.changed_here(parent_inode, text, gone.name)

    @errnos
    async def unlink(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """unlink(2); who has the file open goes on with it."""
        text = self._name(name)
        await self._known(parent_inode)
        gone = self.context.tree.unlink(parent_inode, self._stored(parent_inode, text))
        if not self.context.kernel.is_open(gone.ino):
            self.context.staging.abandon(gone.ino)
        self.context.kernel.changed_here(parent_inode, text, gone.name)

    @errnos
    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """rename(2), with RENAME_NOREPLACE and RENAME_EXCHANGE."""
        if flags not in (0, pyfuse3.RENAME_NOREPLACE, pyfuse3.RENAME_EXCHANGE):
            raise pyfuse3.FUSEError(errno.EINVAL)
        context = self.context
        self._retries.renamed(ctx.pid)
        old, new = self._name(name_old), self._name(name_new)
        await self._known(parent_inode_old)
        await self._known(parent_inode_new)
        target = context.tree.child(parent_inode_new, new)
        if target is not None and target.is_folder:
            await self._known(target.ino)
        source = self._stored(parent_inode_old, old)
        if flags == pyfuse3.RENAME_EXCHANGE:
            there = self._stored(parent_inode_new, new)
            moved, other = context.tree.exchange(parent_inode_old, source, parent_inode_new, there)
            spelled = other.name
        else:
            named = self._renamed(source, old, parent_inode_new, new)
            moved, replaced = context.tree.rename(
                parent_inode_old, source, parent_inode_new, named, replace=not flags
            )
            spelled = new
            if replaced is not None:
                spelled = replaced.name
                self._replaced(replaced, new)
        context.kernel.changed_here(parent_inode_old, old, moved.name)
        context.kernel.changed_here(parent_inode_new, new, spelled)

    def _renamed(self, source: str, old: str, parent: int, new: str) -> str:
        """The name in the tree when `old`, which is `source` there, is to be called `new`."""
        added = old[len(source) :]
        if added and new.lower().endswith(added.lower()) and len(new) > len(added):
            return new[: -len(added)]
        return self._stored(parent, new)

    def _replaced(self, gone: Inode, name: str) -> None:
        """A rename to `name` took the place of an inode."""
        kernel = self.context.kernel
        kernel.buried(gone.ino)
        if not kernel.is_open(gone.ino):
            self.context.staging.abandon(gone.ino)
        if gone.name != name:
            # The kernel may have thought that there was nothing, and shows it as linked.
            kernel.stale([Attributes(gone.ino)])


def _absent(seconds: float) -> pyfuse3.EntryAttributes:
    """The answer that nothing has that name, which the kernel may keep for a time."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = seconds
    return entry
