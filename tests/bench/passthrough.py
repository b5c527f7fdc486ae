"""`python -m tests.bench.passthrough SOURCE MOUNTPOINT`: a folder, shown by way of FUSE as it is.

The yardstick for programs that do much with many files: what pyfuse3 and the kernel's protocol cost
when the file system behind does nothing of its own. So there is no cache, no journal and no thread;
each request is one or two system calls. Names and attributes are kept by the kernel for long, as
ours are, and file contents are kept between opens: a yardstick that was slower than it must be
would flatter us.

An inode is the path it was found under; a rename rewrites the paths of what moved.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

import pyfuse3
import trio

KEPT = 86400.0

P = ParamSpec("P")
T = TypeVar("T")


def _honest(handler: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Answers with the errno of what the handler could not do."""

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None

    return answer


class Passthrough(pyfuse3.Operations):
    """Everything below `source`."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._paths: dict[int, str] = {pyfuse3.ROOT_INODE: source}
        self._inodes: dict[str, int] = {source: pyfuse3.ROOT_INODE}
        self._lookups: Counter[int] = Counter()
        self._next = pyfuse3.ROOT_INODE
        self._listings: dict[int, tuple[str, list[str]]] = {}

    # ---- Names and attributes ----

    def _child(self, parent: int, name: bytes) -> str:
        return f"{self._paths[parent]}/{os.fsdecode(name)}"

    def _inode(self, path: str) -> int:
        if path not in self._inodes:
            self._next += 1
            self._inodes[path] = self._next
            self._paths[self._next] = path
        return self._inodes[path]

    def _entry(self, path: str, inode: int) -> pyfuse3.EntryAttributes:
        found = os.lstat(path)
        entry = pyfuse3.EntryAttributes()
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size"):
            setattr(entry, name, getattr(found, name))
        for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
            setattr(entry, name, getattr(found, name))
        entry.st_ino = inode
        entry.st_blksize, entry.st_blocks = 4096, (found.st_size + 511) // 512
        entry.entry_timeout = entry.attr_timeout = KEPT
        return entry

    def _looked_up(self, path: str) -> pyfuse3.EntryAttributes:
        entry = self._entry(path, self._inodes.get(path, 0))
        inode = self._inode(path)
        entry.st_ino = inode
        self._lookups[inode] += 1
        return entry

    @_honest
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._looked_up(self._child(parent_inode, name))

    @_honest
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            self._lookups[inode] -= count
            if self._lookups[inode] <= 0 and inode != pyfuse3.ROOT_INODE:
                del self._lookups[inode]
                path = self._paths.pop(inode, None)
                if path is not None and self._inodes.get(path) == inode:
                    del self._inodes[path]

    @_honest
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(self._paths[inode], inode)

    @_honest
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        path = self._paths[inode]
        if fields.update_size:
            os.truncate(path, attr.st_size)
        if fields.update_mode:
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            os.lchown(
                path,
                attr.st_uid if fields.update_uid else -1,
                attr.st_gid if fields.update_gid else -1,
            )
        if fields.update_atime or fields.update_mtime:
            now = os.lstat(path)
            times = (
                attr.st_atime_ns if fields.update_atime else now.st_atime_ns,
                attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns,
            )
            os.utime(path, ns=times, follow_symlinks=False)
        return self._entry(path, inode)

    @_honest
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        path = self._child(parent_inode, name)
        os.mkdir(path, mode & ~ctx.umask)
        return self._looked_up(path)

    @_honest
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        path = self._child(parent_inode, name)
        os.unlink(path)
        self._inodes.pop(path, None)

    @_honest
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        path = self._child(parent_inode, name)
        os.rmdir(path)
        self._inodes.pop(path, None)

    @_honest
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags:
            raise pyfuse3.FUSEError(errno.EINVAL)
        old = self._child(parent_inode_old, name_old)
        new = self._child(parent_inode_new, name_new)
        os.rename(old, new)
        self._inodes.pop(new, None)
        is_folder = stat.S_ISDIR(os.lstat(new).st_mode)
        below = [path for path in self._inodes if path.startswith(f"{old}/")] if is_folder else []
        for path in [old, *below]:
            inode = self._inodes.pop(path, None)
            if inode is not None:
                moved = new + path.removeprefix(old)
                self._inodes[moved], self._paths[inode] = inode, moved

    # ---- Folders ----

    @_honest
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        self._next += 1
        path = self._paths[inode]
        self._listings[self._next] = (path, sorted(os.listdir(path)))
        return self._next

    @_honest
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        folder, names = self._listings[fh]
        for position in range(start_id, len(names)):
            path = f"{folder}/{names[position]}"
            try:
                entry = self._looked_up(path)
            except FileNotFoundError:
                continue
            name = os.fsencode(names[position])
            if not pyfuse3.readdir_reply(token, name, entry, position + 1):
                self._lookups[entry.st_ino] -= 1
                return

    @_honest
    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    # ---- Files; a handle is a file descriptor ----

    @_honest
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        fd = os.open(self._paths[inode], flags & ~os.O_CREAT & ~os.O_APPEND)
        return pyfuse3.FileInfo(fh=fd, keep_cache=True)

    @_honest
    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        path = self._child(parent_inode, name)
        fd = os.open(path, flags & ~os.O_APPEND | os.O_CREAT, mode & ~ctx.umask)
        return pyfuse3.FileInfo(fh=fd), self._looked_up(path)

    @_honest
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    @_honest
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    @_honest
    async def fsync(self, fh: int, datasync: bool) -> None:
        os.fsync(fh)

    @_honest
    async def flush(self, fh: int) -> None:
        """What is written is with the kernel already."""

    @_honest
    async def release(self, fh: int) -> None:
        os.close(fh)


def main() -> None:
    """Serves until unmounted."""
    source, mountpoint = sys.argv[1:]
    options = {*pyfuse3.default_options, "fsname=dbxfs-bench"}
    pyfuse3.init(Passthrough(source), mountpoint, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
