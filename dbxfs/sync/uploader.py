"""The bytes of one large file, on their way to Dropbox: a session, and its parts side by side.

What is sent is fixed before the first byte goes: missing ranges are filled in and every block is
hashed, once. The blocks' digests give the hash of each part and of the whole file, and every call
carries the hash of its body, so a program that writes meanwhile can make an upload fail but never
mix two states into one.

Parts go over several connections, because one alone does not fill a link. What is confirmed is in
the database, so that a restart sends the rest only. Parts are streamed from the disk: a file of
any size costs a few pieces of memory for each connection.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import trio

from dbxfs.api.client import Client, SessionId
from dbxfs.api.errors import BadRequest, EndpointError, IncorrectOffset
from dbxfs.core.content_hash import BLOCK, hash_blocks
from dbxfs.core.ranges import Ranges
from dbxfs.store.sessions import Sessions
from dbxfs.store.staged import COPY_BYTES, StagedFile

from .fetcher import Fetcher, Version
from .steps import ChangedMeanwhileError

log = logging.getLogger(__name__)

PART = 4 * BLOCK
"""Bytes in a request: a multiple of `BLOCK`, as sessions that take parts in any order want."""
AT_ONCE = 4
"""Parts of one file on their way."""
FILL = 4 * 1024 * 1024


@dataclass(slots=True)
class Progress:
    """An upload under way, for status."""

    ino: int
    size: int
    sent: int = 0


class Uploader:
    """Sends the contents of staged files into sessions."""

    def __init__(self, client: Client, fetcher: Fetcher, sessions: Sessions) -> None:
        self._client = client
        self._fetcher = fetcher
        self._sessions = sessions
        self._in_order = False
        """Dropbox takes no sessions whose parts come in any order."""
        self.progress: dict[int, Progress] = {}

    async def fill(self, staged: StagedFile) -> None:
        """Bring in what nobody wrote from the version that it was made from."""
        while missing := staged.missing(0, staged.size):
            if staged.from_rev is None:
                raise ChangedMeanwhileError("staged content refers to a version that is unknown")
            version = Version(staged.from_rev, staged.from_hash, staged.from_size)
            start, end = missing[0]
            data = await self._fetcher.read(version, start, min(end - start, FILL))
            if not data:
                raise ChangedMeanwhileError("the version that it was made from is shorter")
            await trio.to_thread.run_sync(staged.fill, start, data)

    async def send(self, staged: StagedFile, digests: list[bytes]) -> SessionId:
        """Send the content whose blocks have these digests; the closed session that has it.

        Raises `DropboxError`; `ChangedMeanwhileError` when the bytes are no longer those.
        """
        progress = self.progress[staged.ino] = Progress(staged.ino, staged.size)
        try:
            return await self._send(staged, digests, progress)
        finally:
            del self.progress[staged.ino]

    def start_over(self, ino: int, error: EndpointError) -> NoReturn:
        """The session cannot be used any more; the next try begins another one."""
        self._sessions.drop(ino)
        raise ChangedMeanwhileError(f"the upload session is gone ({error})") from error

    async def _send(
        self, staged: StagedFile, digests: list[bytes], progress: Progress
    ) -> SessionId:
        digest, size = hash_blocks(digests), staged.size
        session, confirmed = await self._begin(staged.ino, digest)
        progress.sent = confirmed.total
        parts = iter([part for part in _parts(size) if not confirmed.covers(*part)])

        async def worker() -> None:
            nonlocal confirmed
            for start, end in parts:
                await self._append(staged, session, start, end, digests)
                confirmed = confirmed.add(start, end)
                progress.sent = confirmed.total
                if self._sessions.find(staged.ino, digest) is None:
                    raise ChangedMeanwhileError("changed while it was sent")
                self._sessions.store(staged.ino, session, confirmed, digest)

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(1 if self._in_order else AT_ONCE):
                    nursery.start_soon(worker)
        except BaseExceptionGroup as group:
            raise first_of(group) from group
        return session

    async def _begin(self, ino: int, digest: str) -> tuple[SessionId, Ranges]:
        known = self._sessions.find(ino, digest)
        if known is not None:
            return SessionId(known[0]), known[1]
        try:
            session = await self._client.session_start(concurrent=not self._in_order)
        except BadRequest as error:
            if self._in_order:
                raise
            log.warning("the parts of large files go one after the other: %s", error)
            self._in_order = True
            session = await self._client.session_start()
        self._sessions.store(ino, session, Ranges(), digest)
        return session, Ranges()

    async def _append(
        self, staged: StagedFile, session: SessionId, start: int, end: int, digests: list[bytes]
    ) -> None:
        blocks = digests[start // BLOCK : math.ceil(end / BLOCK)]
        try:
            await self._client.session_append(
                session,
                start,
                _stream(staged, start, end),
                size=end - start,
                content_hash=hash_blocks(blocks),
                close=end == staged.size,
            )
        except IncorrectOffset as error:
            # The reply to the same part was lost.
            if error.correct_offset != end:
                self.start_over(staged.ino, error)
        except EndpointError as error:
            if error.has("content_hash_mismatch"):
                raise ChangedMeanwhileError(str(error)) from error
            self.start_over(staged.ino, error)


def block_digests(staged: StagedFile) -> list[bytes]:
    """The SHA-256 of each block of the content. Blocks, for long when it is large."""
    digests = []
    for start in range(0, staged.size, BLOCK):
        block = hashlib.sha256()
        for chunk in staged.chunks(start, min(start + BLOCK, staged.size)):
            block.update(chunk)
        digests.append(block.digest())
    return digests


def _parts(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, PART):
        yield start, min(start + PART, size)


def _stream(staged: StagedFile, start: int, end: int) -> Callable[[], AsyncIterator[bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        for offset in range(start, end, COPY_BYTES):
            length = min(COPY_BYTES, end - offset)
            chunk = await trio.to_thread.run_sync(staged.read, offset, length)
            if len(chunk) != length:
                raise ChangedMeanwhileError("it became shorter while it was sent")
            yield chunk

    return stream


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Tasks side by side fail for one reason and the others are cancelled: it is the first."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
