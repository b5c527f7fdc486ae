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
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbxfs.core.content_hash import BLOCK
from dbxfs.core.model import Rev
from dbxfs.core.ranges import Ranges

COPY_BYTES = 1024 * 1024

PIECES = 256
"""Writes that are carried out together; the kernel takes no more than 1024."""


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
        new: bool = True,
        close: Callable[[int], None] = os.close,
    ) -> None:
        """`new`: there is no file yet. Else raises FileNotFoundError when what it held is gone.

        `close` closes the descriptor; it must not block.
        """
        self.ino = ino
        self.path = path
        self.size = size
        self.mtime_ns = mtime_ns
        self.written_ns = 0
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
        self._queue: deque[tuple[int, bytes, int]] = deque()
        self._queued = self._carried_out = 0
        self._promised = self._promised_ns = 0
        self._bytes = threading.Lock()
        self._facts = threading.Lock()
        self._digests: list[bytes] = []
        """Of the first blocks, as far as they were hashed and are what they were."""
        self._changed_from = 0
        self._descriptor = -1
        self._close = close
        if not new:
            self._reopen()

    @property
    def dirty(self) -> bool:
        """Whether the database does not know the last change."""
        return self.recorded != self.generation or bool(self._queue)

    @property
    def in_use(self) -> bool:
        """Whether a read, a write or an upload of it is under way."""
        return self._users > 0

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges in [start, end) that are to be read from the version it was made from."""
        return self.extents.missing(start, min(end, self.base_limit))

    def write(self, offset: int, data: bytes, now: int) -> int:
        """Put bytes at an offset. Blocks. `OSError` (ENOSPC…): the end stays where it was."""
        return self._write(offset, [data], now)

    def _write(self, offset: int, pieces: Sequence[bytes], now: int) -> int:
        length = sum(map(len, pieces))
        with self._bytes:
            self._make()
            try:
                self._put(offset, pieces)
            except OSError:
                end = min(offset + length, self.size)
                if offset < end and self.missing(offset, end) != [(offset, end)]:
                    # Some of it may have come over what was there: that is not current any more.
                    with self._facts:
                        self._outdate(offset)
                        self.generation += 1
                self._cut()
                raise
            with self._facts:
                self.extents = self.extents.add(offset, offset + length)
                self.size = max(self.size, offset + length)
                self._changed(offset, now)
        return length

    # ---- Writes that are on their way: asked for by the loop, carried out by one thread ----

    @property
    def awaited(self) -> int:
        """How many bytes are on their way."""
        return self._queued - self._carried_out

    @property
    def shown_size(self) -> int:
        """The size when all has arrived."""
        return max(self.size, self._promised) if self._queue else self.size

    @property
    def shown_mtime_ns(self) -> int:
        """When it was changed last."""
        return self._promised_ns if self._queue else self.mtime_ns

    @property
    def shown_written_ns(self) -> int:
        """When it was last written to since it was opened; 0: not yet."""
        return self._promised_ns if self._queue else self.written_ns

    def write_later(self, offset: int, data: bytes, now: int) -> None:
        """Have `carry_out` put bytes at an offset."""
        self._promised_ns = now
        self._promised = max(self.shown_size, offset + len(data))
        self._queued += len(data)
        self._queue.append((offset, data, now))

    def carry_out(self) -> None:
        """Write what is to be written, also what comes meanwhile. Blocks.

        After a failure (OSError) the rest is dropped.
        """
        try:
            while self._queue:
                offset, pieces, now = self._next_run()
                self._carried_out += self._write(offset, pieces, now)
                for _ in pieces:
                    self._queue.popleft()
        except OSError:
            self.drop_awaited()
            raise

    def drop_awaited(self) -> None:
        """Give up what is to be written: what was to come before it is lost."""
        while self._queue:
            self._carried_out += len(self._queue.popleft()[1])

    def _next_run(self) -> tuple[int, list[bytes], int]:
        """The first of the queue and what follows it without a gap, and when it was written."""
        offset, data, now = self._queue[0]
        pieces, end = [data], offset + len(data)
        for n in range(1, min(len(self._queue), PIECES)):
            start, data, then = self._queue[n]
            if start != end:
                break
            pieces.append(data)
            end, now = start + len(data), then
        return offset, pieces, now

    def fill(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes of the version it was made from where nothing was written meanwhile. Blocks."""
        view = memoryview(data)
        with self._bytes:
            self._make()
            for start, end in self.missing(offset, offset + len(view)):
                self._put(start, [view[start - offset : end - offset]])
                with self._facts:
                    self.extents = self.extents.add(start, end)
                    self._outdate(start)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes as staged, zeros where there are none. Blocks."""
        length = max(0, min(length, self.size - offset))
        data = b"" if self._is_unmade else os.pread(self._descriptor, length, offset)
        return data + bytes(length - len(data))

    def read_cached(self, offset: int, length: int) -> bytes | None:
        """As `read`, at once; None when the disk would have to be waited for."""
        length = max(0, min(length, self.size - offset))
        if self._is_unmade or not length:
            return bytes(length)
        data = bytearray(length)
        try:
            read = os.preadv(self._descriptor, [data], offset, os.RWF_NOWAIT)
        except OSError:
            return None
        return bytes(data) if read == length else None

    @property
    def _is_unmade(self) -> bool:
        """Whether there is no file because nothing was put into it."""
        if self._descriptor < 0 and self.extents:
            # Zeros would be a lie.
            raise OSError(errno.EIO, f"the staging file of inode {self.ino} was given back")
        return self._descriptor < 0

    def truncate(self, size: int, now: int) -> None:
        """Cut, or extend with zeros. Blocks."""
        with self._bytes:
            if self._descriptor >= 0:
                os.ftruncate(self._descriptor, size)
            with self._facts:
                self.extents = self.extents.clip(size)
                self.base_limit = min(self.base_limit, size)
                self._changed(min(self.size, size), now)
                self.size = size

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

    def block_digests(self, size: int | None = None) -> list[bytes]:
        """The SHA-256 of each block of the first `size` bytes. Blocks, for long when it is large.

        What was hashed before is not read again. One thread at a time.
        """
        size = self.size if size is None else size
        found = self._digests[: size // BLOCK]
        for start in range(len(found) * BLOCK, size, BLOCK):
            end = min(start + BLOCK, size)
            with self._facts:
                self._changed_from = end
            block = hashlib.sha256()
            for chunk in self.chunks(start, end):
                block.update(chunk)
            found.append(block.digest())
            with self._facts:
                whole = end == len(found) * BLOCK
                if whole and self._changed_from == end and len(self._digests) == len(found) - 1:
                    self._digests.append(found[-1])
        return found

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
            self._close(self._descriptor)
            self._descriptor = -1

    def _reopen(self) -> None:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if self.extents:
                raise
        else:
            self._cut()

    def _cut(self) -> None:
        """Take away what lies behind the end: it was not written in full, or not recorded before a
        kill, and would come to light where the content is extended later."""
        if os.fstat(self._descriptor).st_size > self.size:
            os.ftruncate(self._descriptor, self.size)

    def _make(self) -> None:
        """Make the file if nothing was put into it yet. Under `_bytes`."""
        if self._descriptor < 0:
            if self.retired:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
            if self.size:
                os.ftruncate(self._descriptor, self.size)

    def _put(self, offset: int, pieces: Sequence[bytes | memoryview]) -> None:
        done = os.pwritev(self._descriptor, pieces, offset)
        rest = memoryview(b"".join(pieces))[done:] if done < sum(map(len, pieces)) else b""
        while rest:
            written = os.pwrite(self._descriptor, rest, offset + done)
            rest, done = rest[written:], done + written

    def _outdate(self, start: int) -> None:
        del self._digests[start // BLOCK :]
        self._changed_from = min(self._changed_from, start)

    def _changed(self, start: int, now: int) -> None:
        self._outdate(start)
        self.mtime_ns = self.written_ns = now
        self.generation += 1
