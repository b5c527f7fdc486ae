"""Bytes on disk: contents kept by their hash, and the taking in of bodies.

A content is a file named by its content hash, so that equal contents are one file and a moved or
copied entry moves no bytes. Nothing is ever removed: old revisions stay downloadable.

A body is taken in blocks of 4 MiB that end where the file's blocks end. While one block is
written and hashed in a thread, the next is received. The digests of whole blocks are kept, so a
file that came in pieces and in any order need not be read again to know its hash.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from dbxfs.core.content_hash import BLOCK, ContentHasher, content_hash, hash_blocks

INLINE = 64 * 1024
"""Bodies up to this size are handled without a thread: the switch would cost more."""


class Received:
    """A body that was written to a file: `size` in bytes, `content_hash` of the body by itself."""

    __slots__ = ("content_hash", "digests", "size")

    def __init__(self, size: int, content_hash: str, digests: dict[int, bytes]) -> None:
        self.size = size
        self.content_hash = content_hash
        self.digests = digests
        """SHA-256 of blocks that this body holds from their beginning, by number in the file."""


class TooLargeError(Exception):
    """The body is larger than was allowed."""


async def receive_body(
    chunks: AsyncIterator[bytes], target: Path, offset: int, limit: int
) -> Received:
    """Writes a body into `target` at `offset`. The file may hold bytes beyond on failure.

    Raises TooLargeError beyond `limit` bytes (the rest is still read, so that the caller can
    answer); whatever `chunks` raises.
    """
    sink = _Sink(target, offset)
    try:
        async with trio.open_nursery() as nursery:
            blocks = _Blocks(sink, nursery)
            async for chunk in chunks:
                await blocks.add(chunk, limit)
            await blocks.finish()
        if blocks.size > limit:
            raise TooLargeError
        return sink.received()
    except BaseExceptionGroup as group:
        raise _only(group) from None
    finally:
        sink.close()


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The reason within a nursery's group: the first of them."""
    reason: BaseException = group
    while isinstance(reason, BaseExceptionGroup):
        reason = reason.exceptions[0]
    return reason


class _Blocks:
    """Gathers chunks into blocks; a second task hands them to the sink while more come."""

    def __init__(self, sink: _Sink, nursery: trio.Nursery) -> None:
        self.size = 0
        self._sink = sink
        self._nursery = nursery
        self._send: trio.MemorySendChannel[bytes] | None = None
        self._gathered: list[bytes] = []
        self._room = sink.room()

    async def add(self, chunk: bytes, limit: int) -> None:
        self.size += len(chunk)
        if self.size > limit:
            self._gathered.clear()
            return
        while len(chunk) >= self._room:
            self._gathered.append(chunk[: self._room])
            chunk = chunk[self._room :]
            await self._hand_over()
            self._room = BLOCK
        if chunk:
            self._gathered.append(chunk)
            self._room -= len(chunk)

    async def _hand_over(self) -> None:
        if self._send is None:
            self._send, receive = trio.open_memory_channel[bytes](0)
            self._nursery.start_soon(self._sink.drain, receive)
        await self._send.send(b"".join(self._gathered))
        self._gathered.clear()

    async def finish(self) -> None:
        last = b"".join(self._gathered)
        if len(last) > INLINE or (last and self._send is not None):
            await self._hand_over()
        elif last:
            self._sink.take(last)
        if self._send is not None:
            await self._send.aclose()


class _Sink:
    """Where blocks go, in order: each is written and hashed."""

    def __init__(self, target: Path, offset: int) -> None:
        self._fd = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
        self._start = offset
        self._at = offset
        self._digests: dict[int, bytes] = {}
        self._order: list[bytes] = []
        self._whole = None if offset % BLOCK == 0 else ContentHasher()

    def room(self) -> int:
        """Bytes until the file's first block boundary."""
        return BLOCK - self._start % BLOCK

    async def drain(self, blocks: trio.MemoryReceiveChannel[bytes]) -> None:
        async for block in blocks:
            await trio.to_thread.run_sync(self.take, block)

    def take(self, block: bytes) -> None:
        os.pwrite(self._fd, block, self._at)
        if self._whole is None or self._at % BLOCK == 0:
            digest = hashlib.sha256(block).digest()
            self._digests[self._at // BLOCK] = digest
            self._order.append(digest)
        if self._whole is not None:
            self._whole.update(block)
        self._at += len(block)

    def received(self) -> Received:
        whole = self._whole
        body_hash = hash_blocks(self._order) if whole is None else whole.hexdigest()
        return Received(self._at - self._start, body_hash, self._digests)

    def close(self) -> None:
        os.close(self._fd)


class Contents:
    """The files below `data`: contents/, sessions/ and incoming/."""

    def __init__(self, data: Path) -> None:
        self._contents = data / "contents"
        self.sessions = data / "sessions"
        self._incoming = data / "incoming"
        for folder in (self._contents, self.sessions, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            left.unlink()
        for number in range(256):
            (self._contents / f"{number:02x}").mkdir(exist_ok=True)

    def path(self, content: str) -> Path:
        """Where the content of this hash is, or would be."""
        return self._contents / content[:2] / content

    def session(self, ident: str) -> Path:
        """The bytes of an upload session."""
        return self.sessions / ident

    def incoming(self) -> Path:
        """A new file's path, for a body on its way."""
        return self._incoming / secrets.token_hex(16)

    def keep(self, source: Path, content: str) -> bool:
        """Gives the file `source`, which has this hash, a second name as a content.

        The first name stays the caller's. False if there was such a content already.
        """
        try:
            os.link(source, self.path(content))
        except FileExistsError:
            return False
        return True

    def drop(self, content: str) -> None:
        """Forgets a content that was just kept and that no entry came to hold."""
        self.path(content).unlink()

    def keep_bytes(self, data: bytes) -> str:
        """Keeps a small content; returns its hash."""
        name = content_hash(data)
        path = self.path(name)
        if not path.exists():
            source = self.incoming()
            source.write_bytes(data)
            os.replace(source, path)
        return name


async def hash_file(path: Path, size: int, known: dict[int, bytes]) -> str:
    """The content hash of the first `size` bytes of a file; `known` blocks are not read."""
    digests = []
    with path.open("rb", buffering=0) as file:
        for number in range(-(-size // BLOCK)):
            digest = known.get(number)
            if digest is None:
                start = number * BLOCK
                length = min(BLOCK, size - start)
                digest = await trio.to_thread.run_sync(_hash_block, file.fileno(), start, length)
            digests.append(digest)
    return hash_blocks(digests)


def _hash_block(fd: int, start: int, length: int) -> bytes:
    return hashlib.sha256(os.pread(fd, length, start)).digest()


async def read_range(path: Path, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes [start, stop) of a file, 1 MiB at a time."""
    with path.open("rb", buffering=0) as file:
        while start < stop:
            length = min(1024 * 1024, stop - start)
            if length <= INLINE:
                data = os.pread(file.fileno(), length, start)
            else:
                data = await trio.to_thread.run_sync(os.pread, file.fileno(), length, start)
            if not data:
                raise OSError(f"{path} is shorter than it was")
            start += len(data)
            yield data
