"""Sending one file's content: the bytes first, the commit last and short.

What is sent is fixed before the first byte goes: missing ranges are filled in, the content hash
is computed, and every call carries the hash of its body, so a program that writes meanwhile can
make an upload fail but never mix two states into one. Small files are one `upload`; larger ones a
session whose id and confirmed length are in the database, so that a restart goes on there.

Only the commit waits for the namespace's turn; the bytes of a session do not.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NoReturn

import trio

from dbxfs.api.client import Client, SessionId, WriteMode
from dbxfs.api.errors import EndpointError, IncorrectOffset
from dbxfs.core.content_hash import ContentHasher
from dbxfs.core.model import FileEntry, RemotePath
from dbxfs.store.sessions import Sessions
from dbxfs.store.staged import COPY_BYTES, StagedFile

from .fetcher import Fetcher, Version

log = logging.getLogger(__name__)

SMALL = 4 * 1024 * 1024
PART = 8 * 1024 * 1024
FILL = 4 * 1024 * 1024


class ChangedMeanwhileError(Exception):
    """A program wrote to the file while it was being sent; it will be sent again."""


@dataclass(slots=True)
class Progress:
    """The upload under way, for status."""

    ino: int
    size: int
    sent: int = 0


class Uploader:
    """Sends staged files, one at a time."""

    def __init__(
        self, client: Client, fetcher: Fetcher, sessions: Sessions, turn: trio.Lock
    ) -> None:
        self._client = client
        self._fetcher = fetcher
        self._sessions = sessions
        self._turn = turn
        self.progress: Progress | None = None

    def current(self) -> int | None:
        """The inode that is being sent."""
        return None if self.progress is None else self.progress.ino

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

    async def hash(self, staged: StagedFile) -> str:
        """The content hash of the staged file, all of it present."""
        await self.fill(staged)
        return await trio.to_thread.run_sync(staged.content_hash)

    async def send(
        self,
        staged: StagedFile,
        path: RemotePath,
        mode: WriteMode,
        digest: str,
        current: Callable[[], bool],
        confirm: Callable[[FileEntry], None],
    ) -> None:
        """Send the content whose hash is `digest` and commit it at `path`.

        `current` is asked when the turn has come: whether this is still what is to be sent.
        `confirm` gets the answer before the turn ends, so that the feed cannot come between.
        Raises `DropboxError`; `ChangedMeanwhileError` when the bytes are no longer those.
        """
        self.progress = Progress(staged.ino, staged.size)
        try:
            if staged.size <= SMALL:
                await self._send_small(staged, path, mode, digest, current, confirm)
            else:
                await self._send_session(staged, path, mode, digest, current, confirm)
        except EndpointError as error:
            if "content_hash_mismatch" in error.tags:
                raise ChangedMeanwhileError(str(error)) from error
            raise
        finally:
            self.progress = None

    async def _send_small(
        self,
        staged: StagedFile,
        path: RemotePath,
        mode: WriteMode,
        digest: str,
        current: Callable[[], bool],
        confirm: Callable[[FileEntry], None],
    ) -> None:
        body = await trio.to_thread.run_sync(staged.read, 0, staged.size)
        async with self._turn:
            _check(current)
            entry = await self._client.upload(
                path,
                body,
                size=len(body),
                mode=mode,
                content_hash=digest,
                client_modified_ns=staged.mtime_ns,
                patience=0,
            )
            confirm(entry)

    async def _send_session(
        self,
        staged: StagedFile,
        path: RemotePath,
        mode: WriteMode,
        digest: str,
        current: Callable[[], bool],
        confirm: Callable[[FileEntry], None],
    ) -> None:
        size, mtime_ns = staged.size, staged.mtime_ns
        session, sent = await self._resume(staged, digest)
        while sent < size:
            self._note(sent)
            sent = await self._append(staged, session, sent, min(sent + PART, size))
            self._sessions.store(staged.ino, session, sent, digest)
        async with self._turn:
            # Each part had the right hash when it went; together they are one state only if
            # nothing was written since.
            _check(current)
            try:
                entry = await self._client.session_finish(
                    session, size, path, mode=mode, client_modified_ns=mtime_ns, patience=0
                )
            except EndpointError as error:
                if error.has("lookup_failed") or isinstance(error, IncorrectOffset):
                    self._start_over(staged, error)
                raise
            confirm(entry)

    async def _resume(self, staged: StagedFile, digest: str) -> tuple[SessionId, int]:
        known = self._sessions.find(staged.ino, digest)
        if known is not None:
            return SessionId(known[0]), known[1]
        session = await self._client.session_start()
        self._sessions.store(staged.ino, session, 0, digest)
        return session, 0

    async def _append(self, staged: StagedFile, session: SessionId, start: int, end: int) -> int:
        """Append one part; gives how much Dropbox has then."""
        chunks, digest = await trio.to_thread.run_sync(_read_part, staged, start, end)
        try:
            await self._client.session_append(
                session, start, _stream(chunks), size=end - start, content_hash=digest
            )
        except IncorrectOffset as error:
            if not start < error.correct_offset <= end:
                self._start_over(staged, error)
            log.info("the upload session goes on at %d", error.correct_offset)
            return error.correct_offset
        except EndpointError as error:
            if error.has("not_found") or error.has("closed"):
                self._start_over(staged, error)
            raise
        return end

    def _start_over(self, staged: StagedFile, error: EndpointError) -> NoReturn:
        """The session cannot be used any more; the next try begins another one."""
        self._sessions.drop(staged.ino)
        raise ChangedMeanwhileError(f"the upload session is gone ({error})") from error

    def _note(self, sent: int) -> None:
        if self.progress is not None:
            self.progress.sent = sent


def _check(current: Callable[[], bool]) -> None:
    if not current():
        raise ChangedMeanwhileError("changed while it was sent")


def _read_part(staged: StagedFile, start: int, end: int) -> tuple[list[bytes], str]:
    """The bytes of a part in pieces, and their content hash. Blocks."""
    hasher = ContentHasher()
    chunks = []
    for chunk in staged.chunks(start, end, COPY_BYTES):
        hasher.update(chunk)
        chunks.append(chunk)
    return chunks, hasher.hexdigest()


def _stream(chunks: list[bytes]) -> Callable[[], AsyncIterator[bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return stream
