"""Online documents: their bytes, made by Dropbox when somebody opens one.

An export has no ranges and no revision, and nobody knows its size before it is made. So it is
made whole when a document is opened, into a file without a name that lasts as long as the handle:
from then on its size is told, and reads are local. Who opens a document that is open already gets
the same export while the document is the same; later ones get a new one, since what people write
together may have changed without a new revision.

Rejected: to keep exports in the block cache. Nothing tells when they are stale.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import IO

import trio

from dbxfs.api.client import Client, Export
from dbxfs.api.errors import EndpointError, Unreachable
from dbxfs.core.content_hash import ContentHasher
from dbxfs.core.model import RemotePath, Rev
from dbxfs.core.recent import keep_recent

from .fetcher import DamagedContentError

log = logging.getLogger(__name__)

SIZES = 10_000
"""Documents whose export's size is remembered."""
PAUSES = (0.5, 1.0, 3.0)
"""Seconds after which an export that broke off, or is not available yet, is asked for again."""
PATIENCE = 15.0
"""Seconds after which it is not: a program waits."""


class Exported:
    """One export on this disk."""

    def __init__(self, ino: int, rev: Rev, file: IO[bytes]) -> None:
        self.ino = ino
        self.rev = rev
        self.size = 0
        """Bytes."""
        self.users = 0
        self._file = file
        self._hasher = ContentHasher()

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there, fewer at the end. Blocks."""
        return os.pread(self._file.fileno(), length, offset)

    def write(self, piece: bytes) -> None:
        """Append what has come. Blocks."""
        self._file.write(piece)
        self._hasher.update(piece)
        self.size += len(piece)

    def finish(self) -> str:
        """All has been written; gives its content hash. Blocks."""
        self._file.flush()
        return self._hasher.hexdigest()

    def close(self) -> None:
        """Give its room back."""
        self._file.close()


class Exports:
    """The documents that are open, and how large they were."""

    def __init__(self, client: Client, folder: Path) -> None:
        """`folder`: on a disk with room for them."""
        self._client = client
        self._folder = folder
        self._open: dict[int, Exported] = {}
        self._turns: dict[int, trio.Lock] = {}
        self._sizes: OrderedDict[int, tuple[Rev, int]] = OrderedDict()

    async def open(self, ino: int, ref: RemotePath, rev: Rev) -> Exported:
        """The document's export; `release` it. `ref`: its id; `rev`: what is known of it.

        Raises `DropboxError`, `DamagedContentError`, OSError.
        """
        turn = self._turns.setdefault(ino, trio.Lock())
        try:
            async with turn:
                found = self._open.get(ino)
                if found is None or found.rev != rev:
                    found = self._open[ino] = await self._export(ino, ref, rev)
                    self._note_size(found)
                found.users += 1
                return found
        finally:
            if not turn.statistics().tasks_waiting and not turn.locked():
                self._turns.pop(ino, None)

    def release(self, exported: Exported) -> None:
        """One who opened it is done."""
        exported.users -= 1
        if exported.users:
            return
        exported.close()
        if self._open.get(exported.ino) is exported:
            del self._open[exported.ino]

    def size(self, ino: int, rev: Rev | None) -> int | None:
        """How large the last export of this revision was, bytes; None: nobody opened it."""
        known, size = self._sizes.get(ino, (None, 0))
        return size if known is not None and known == rev else None

    def _note_size(self, exported: Exported) -> None:
        keep_recent(self._sizes, exported.ino, (exported.rev, exported.size), SIZES)

    async def _export(self, ino: int, ref: RemotePath, rev: Rev) -> Exported:
        """Again where it broke off or came damaged, and where Dropbox says "later"."""
        began = trio.current_time()
        for pause in PAUSES:
            try:
                return await self._attempt(ino, ref, rev)
            except (_CutError, DamagedContentError, EndpointError) as error:
                final = isinstance(error, EndpointError) and not error.has("retry_error")
                if final or trio.current_time() - began > PATIENCE:
                    raise
                log.debug("a document is exported again: %s", error)
            await trio.sleep(pause)
        return await self._attempt(ino, ref, rev)

    async def _attempt(self, ino: int, ref: RemotePath, rev: Rev) -> Exported:
        made = Exported(ino, rev, await trio.to_thread.run_sync(self._new_file))
        try:
            async with self._client.export(ref) as pieces:
                await _take(made, pieces)
        except BaseException:
            made.close()
            raise
        return made

    def _new_file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._folder, prefix="export-")


async def _take(made: Exported, pieces: Export) -> None:
    """Write down all that comes, and hold it against what was announced."""
    try:
        async for piece in pieces:
            await trio.to_thread.run_sync(made.write, piece)
    except Unreachable as error:
        raise _CutError("an export broke off", doubt=False) from error
    digest = await trio.to_thread.run_sync(made.finish)
    if pieces.entry.content_hash not in (None, digest):
        raise DamagedContentError("a document's export arrived with another content hash")


class _CutError(Unreachable):
    """A connection that broke when the export was on its way already."""
