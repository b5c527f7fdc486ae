"""Symbolic links: a link is a small file whose content, here and on Dropbox, is its target.

The target is data for programs and is never followed by us. It is kept beside the content, so that
readlink(2) needs no request; what makes the file a link elsewhere is in `core.attributes`.
"""

from __future__ import annotations

import errno

import pyfuse3

from .attributes import owner_of_new
from .errors import errnos
from .folders import FolderHandlers


class LinkHandlers(FolderHandlers):
    """symlink, readlink, link."""

    @errnos
    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        target: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """symlink(2)."""
        context, text = self.context, self._name(name)
        owner = owner_of_new(context.shown, await self._known(parent_inode), ctx)
        with context.tree.database.transaction():
            made = context.tree.create_file(parent_inode, text, None, bytes(target), owner)
            staged = context.staging.begin(made)
            # At most a page, and into memory: not worth a thread, for which no transaction waits.
            staged.write(0, bytes(target), made.mtime_ns)
            context.staging.record(staged)
        context.staging.let_go(made.ino)
        context.kernel.changed_here(parent_inode, text)
        return self._given(context.tree.get(made.ino))

    @errnos
    async def readlink(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileNameT:
        """readlink(2)."""
        link = self.context.tree.get(inode).link
        if link is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return pyfuse3.FileNameT(link)

    @errnos
    async def link(
        self,
        inode: pyfuse3.InodeT,
        new_parent_inode: pyfuse3.InodeT,
        new_name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """link(2): Dropbox has no second names for a file."""
        raise pyfuse3.FUSEError(errno.EPERM)
