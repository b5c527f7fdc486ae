"""The staged content of one inode: a sparse file, and the facts about it while it is open.

The file holds the ranges that were written (`extents`), and is made by the first of them; below
`base_limit` the version that it was made from shows through where nothing was written; everything
else up to the size is zeros. So the first write to a large file moves no bytes, and one that is
rewritten whole never does.

`generation` counts the changes, so that an upload can tell whether what it sent is still what is
there; therefore there must be but one of it for an inode while anybody uses it (`staging`).

Reads and writes go to the page cache but may block on a busy disk: they are called from threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dbxfs.core.content_hash import ContentHasher
from dbxfs.core.model import Rev
from dbxfs.core.ranges import Ranges

COPY_BYTES = 1024 * 1024
RESERVE = 4 * 1024 * 1024
"""Bytes that programs' writes leave free on the disk, for the database. Without them nothing could
be recorded any more, not even the removal of what fills the disk."""


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk itself. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The facts of a staged file in one moment."""

    generation: int
    size: int
    mtime_ns: int
    base_limit: int
    extents: Ranges


class StagedFile:
    """The staged content of one inode.

    Threads write to it while the event loop reads its facts. Two locks, taken in this order:
    `_bytes` while bytes and the facts about them change together, held over writes to the disk
    and never taken by the loop; `_facts` over the facts alone, held for microseconds.
    """

    def __init__(
        self,
        ino: int,
        path: Path,
        *,
        size: int,
        mtime_ns: int,
        from_rev: Rev | None = None,
        from_hash: str | None = None,
        from_size: int = 0,
        base_limit: int = 0,
        extents: Ranges | None = None,
    ) -> None:
        self.ino = ino
        self.path = path
        self.size = size
        self.mtime_ns = mtime_ns
        self.written_ns = 0
        """When it was last written to since it was opened; 0: not yet."""
        self.from_rev = from_rev
        self.from_hash = from_hash
        self.from_size = from_size
        self.base_limit = base_limit
        self.extents = Ranges() if extents is None else extents
        self.generation = 0
        self.recorded = -1
        """The generation that the database knows."""
        self.writers = 0
        self.retired = False
        self._users = 0
        self._bytes = threading.Lock()
        self._facts = threading.Lock()
        self._descriptor = -1
        if self.extents:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @property
    def dirty(self) -> bool:
        """Whether the database does not know the last change."""
        return self.recorded != self.generation

    @property
    def in_use(self) -> bool:
        """Whether a read, a write or an upload of it is under way."""
        return self._users > 0

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges in [start, end) that are to be read from the version it was made from."""
        return self.extents.missing(start, min(end, self.base_limit))

    def write(self, offset: int, data: bytes | memoryview, now: int) -> int:
        """Put bytes at an offset. Blocks. `OSError` (ENOSPC…) leaves the content as it was."""
        view = memoryview(data)
        end = offset + len(view)
        with self._bytes:
            self._make()
            self._check_room(len(view))
            self._put(offset, view)
            with self._facts:
                self.extents = self.extents.add(offset, end)
                self.size = max(self.size, end)
                self._changed(now)
        return len(view)

    def fill(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes of the version it was made from where nothing was written meanwhile. Blocks."""
        view = memoryview(data)
        with self._bytes:
            self._make()
            for start, end in self.missing(offset, offset + len(view)):
                self._put(start, view[start - offset : end - offset])
                with self._facts:
                    self.extents = self.extents.add(start, end)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes as staged, zeros where there are none. Blocks."""
        length = max(0, min(length, self.size - offset))
        data = b"" if self._descriptor < 0 else os.pread(self._descriptor, length, offset)
        return data + bytes(length - len(data))

    def truncate(self, size: int, now: int) -> None:
        """Cut, or extend with zeros. Blocks."""
        with self._bytes:
            if self._descriptor >= 0:
                os.ftruncate(self._descriptor, size)
            with self._facts:
                self.extents = self.extents.clip(size)
                self.base_limit = min(self.base_limit, size)
                self.size = size
                self._changed(now)

    def snapshot(self) -> Snapshot:
        """What is to be recorded, all of one moment. Does not wait for bytes on their way."""
        with self._facts:
            return Snapshot(
                self.generation, self.size, self.mtime_ns, self.base_limit, self.extents
            )

    def sync(self) -> None:
        """Bring the bytes to the disk itself, and the name they are found by. Blocks."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
            sync_folder(self.path.parent)

    def chunks(self, start: int, end: int, size: int = COPY_BYTES) -> Iterator[bytes]:
        """The bytes of [start, end) in pieces. Blocks."""
        for offset in range(start, end, size):
            yield self.read(offset, min(size, end - offset))

    def content_hash(self) -> str:
        """The content hash of all of it. Blocks, for long when it is large."""
        hasher = ContentHasher()
        for chunk in self.chunks(0, self.size):
            hasher.update(chunk)
        return hasher.hexdigest()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While it lasts, the descriptor stays good even when the content is retired."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._close_if_unused()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """While it lasts, nothing that was sent counts as current."""
        self.writers += 1
        try:
            with self.reading():
                yield
        finally:
            self.writers -= 1

    def made_from(self, rev: Rev, content_hash: str | None, size: int) -> None:
        """It was written to since it was sent: what is there now was made from that commit."""
        self.from_rev, self.from_hash, self.from_size, self.base_limit = rev, content_hash, size, 0

    def retire(self) -> None:
        """The content is not staged any more; the descriptor goes when nobody uses it."""
        self.retired = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self.retired and not self._users and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _make(self) -> None:
        """Make the file if nothing was put into it yet. Under `_bytes`."""
        if self._descriptor < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)

    def _check_room(self, size: int) -> None:
        """Raises OSError (ENOSPC) when so many bytes would use up the reserve."""
        disk = os.fstatvfs(self._descriptor)
        if disk.f_bavail * disk.f_frsize < size + RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _put(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], offset + done)

    def _changed(self, now: int) -> None:
        self.mtime_ns = self.written_ns = now
        self.generation += 1
