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

import itertools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import trio

from dbxfs.api.client import Client, SessionId
from dbxfs.api.errors import BadRequest, EndpointError, IncorrectOffset
from dbxfs.core import refusals
from dbxfs.core.content_hash import BLOCK, hash_blocks
from dbxfs.core.model import FileEntry
from dbxfs.store.sessions import Sessions
from dbxfs.store.staged import COPY_BYTES, StagedFile

from .fetcher import Fetcher
from .steps import ChangedMeanwhileError
from .switch import Switch
from .version import Version

log = logging.getLogger(__name__)

PARTS = 32
"""Parts of a file, about: few requests, and little to send again after a kill."""
SMALLEST_PART, LARGEST_PART = 2 * BLOCK, 8 * BLOCK
"""Multiples of `BLOCK`, as sessions that take parts in any order want."""
EARLY_PART = 4 * BLOCK
"""For a file whose size is not known yet."""
AT_ONCE = 4
"""Parts of one file on their way."""
APART = 0.12
"""Seconds between their beginnings: all at once they would also end at once, and the link would
stand still for a round trip."""
FILL = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """[start, end) of a file, and the content hash of these bytes."""

    start: int
    end: int
    hash: str


@dataclass(slots=True)
class Progress:
    """An upload under way, for status."""

    ino: int
    size: int
    sent: int = 0


class Uploader:
    """Sends the contents of staged files into sessions."""

    def __init__(
        self, client: Client, fetcher: Fetcher, sessions: Sessions, switch: Switch
    ) -> None:
        self._client = client
        self._fetcher = fetcher
        self._sessions = sessions
        self._switch = switch
        self._in_order = False
        """Dropbox takes no sessions whose parts come in any order."""
        self._in_vain: set[int] = set()
        """Whose content was changed after it had been sent."""
        self.progress: dict[int, Progress] = {}

    async def fill(self, staged: StagedFile) -> None:
        """Bring in what nobody wrote from the version that it was made from."""
        filled = False
        while missing := staged.missing(0, staged.size):
            if staged.from_rev is None:
                raise ChangedMeanwhileError("staged content refers to a version that is unknown")
            version = Version(staged.from_rev, staged.from_hash, staged.from_size)
            start, end = missing[0]
            data = await self._fetcher.read(version, start, min(end - start, FILL), staged)
            if not data:
                raise ChangedMeanwhileError("the version that it was made from is shorter")
            await trio.to_thread.run_sync(staged.fill, start, data)
            filled = True
        if filled:
            # The database may say soon that nothing is missing: after a power cut, too.
            await trio.to_thread.run_sync(staged.sync)
        self._fetcher.forget(staged)

    async def send(self, staged: StagedFile, size: int, digests: list[bytes]) -> SessionId:
        """Send the first bytes, whose blocks have these digests; the closed session that has them.

        Raises `DropboxError`; `ChangedMeanwhileError` when the bytes are no longer those.
        """
        known = self._sessions.find(staged.ino)
        part_size = known[1] if known else _part_size(size)

        async def part_at(start: int) -> Part:
            return _part(size, digests, part_size, start)

        starts = range(0, size, part_size)
        return await self._send(staged, starts, part_at, part_size, lambda part: part.end == size)

    async def send_early(self, staged: StagedFile, settled: Callable[[], bool]) -> bool:
        """Send what a program has written one after the other of a file that it still writes to.

        Gives whether there was anything. What is changed again afterwards makes all of it void, so
        that is done once for a file. Its end, which closes the session, goes when it has `settled`.
        """

        def is_sure(start: int) -> bool:
            if settled():
                return start < staged.size and staged.extents.covers(0, staged.size)
            # A program may still go back a little, or on; and the end has to close the session.
            size = staged.size - EARLY_PART if staged.dirty else staged.size - 1
            return start + EARLY_PART <= size and staged.extents.covers(0, start + EARLY_PART)

        done = len(self._sessions.parts(staged.ino)) * EARLY_PART
        if staged.ino in self._in_vain or not is_sure(done):
            return False
        hashing = trio.Lock()

        async def part_at(start: int) -> Part:
            async with hashing:
                end = min(start + EARLY_PART, staged.size)
                digests = await trio.to_thread.run_sync(staged.block_digests, end)
            return _part(end, digests, EARLY_PART, start)

        def closes(part: Part) -> bool:
            return part.end == staged.size and settled()

        starts = itertools.takewhile(is_sure, itertools.count(0, EARLY_PART))
        await self._send(staged, starts, part_at, EARLY_PART, closes)
        return True

    async def may_be_a_copy(self, staged: StagedFile) -> bool:
        """Whether what is being written begins as something large that was read or sent lately."""
        if staged.size < BLOCK or not staged.extents.covers(0, BLOCK):
            return True
        (digest,) = await trio.to_thread.run_sync(staged.block_digests, BLOCK)
        return await self._fetcher.begins_something(digest)

    def committed(self, entry: FileEntry) -> None:
        """Dropbox has it: programs may make copies."""
        self._fetcher.note(Version(entry.rev, entry.content_hash, entry.size))

    def start_over(self, ino: int, error: EndpointError) -> NoReturn:
        """The session cannot be used any more; the next try begins another one."""
        self._sessions.drop(ino)
        raise ChangedMeanwhileError(f"the upload session is gone ({error})") from error

    async def _send(
        self,
        staged: StagedFile,
        starts: Iterable[int],
        part_at: Callable[[int], Awaitable[Part]],
        part_size: int,
        closes: Callable[[Part], bool],
    ) -> SessionId:
        """Send the parts that Dropbox does not have; the last one closes the session."""
        ino = staged.ino
        session = await self._session(staged, part_at, part_size)
        confirmed = self._sessions.parts(ino)
        left: Iterator[int] = (start for start in starts if start not in confirmed)
        first = next(left, None)
        if first is None:
            return session
        left = itertools.chain([first], left)
        sent = min(staged.size, len(confirmed) * part_size)
        progress = self.progress[ino] = Progress(ino, staged.size, sent)

        async def worker(number: int) -> None:
            await trio.sleep(number * APART)
            for start in left:
                if self._switch.paused:
                    raise ChangedMeanwhileError("uploads were paused")
                part = await part_at(start)
                await self._append(staged, session, part, close=closes(part))
                if self._sessions.find(ino) != (session, part_size):
                    raise ChangedMeanwhileError("changed while it was sent")
                self._sessions.confirm(ino, part.start, part.hash)
                progress.sent += part.end - part.start

        try:
            async with trio.open_nursery() as nursery:
                for number in range(1 if self._in_order else AT_ONCE):
                    nursery.start_soon(worker, number)
        except BaseExceptionGroup as group:
            raise first_of(group) from group
        finally:
            del self.progress[ino]
        return session

    async def _session(
        self, staged: StagedFile, part_at: Callable[[int], Awaitable[Part]], part_size: int
    ) -> SessionId:
        """The session to go on with: what is in it must be what is to be sent."""
        ino = staged.ino
        known = self._sessions.find(ino)
        if known is not None:
            confirmed = self._sessions.parts(ino)
            for start, content_hash in sorted(confirmed.items()):
                if (await part_at(start)).hash != content_hash:
                    break
            else:
                return SessionId(known[0])
            self._in_vain.add(ino)
        try:
            session = await self._client.session_start(concurrent=not self._in_order)
        except BadRequest as error:
            if self._in_order:
                raise
            log.warning("the parts of large files go one after the other: %s", error)
            self._in_order = True
            session = await self._client.session_start()
        if staged.retired:
            raise ChangedMeanwhileError("it is not wanted any more")
        self._sessions.begin(ino, session, part_size)
        return session

    async def _append(
        self, staged: StagedFile, session: SessionId, part: Part, *, close: bool
    ) -> None:
        try:
            await self._client.session_append(
                session,
                part.start,
                _stream(staged, part.start, part.end),
                size=part.end - part.start,
                content_hash=part.hash,
                close=close,
            )
        except IncorrectOffset as error:
            # The reply to the same part was lost.
            if error.correct_offset != part.end:
                self.start_over(staged.ino, error)
        except EndpointError as error:
            if error.has("content_hash_mismatch"):
                raise ChangedMeanwhileError(str(error)) from error
            if refusals.code_of(error.tags) is not None:
                raise
            self.start_over(staged.ino, error)


def _part_size(size: int) -> int:
    """Bytes of each part of a file of so many bytes."""
    blocks = math.ceil(size / PARTS / BLOCK)
    return min(max(blocks * BLOCK, SMALLEST_PART), LARGEST_PART)


def _part(size: int, digests: Sequence[bytes], part_size: int, start: int) -> Part:
    end = min(start + part_size, size)
    return Part(start, end, hash_blocks(digests[start // BLOCK : math.ceil(end / BLOCK)]))


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
