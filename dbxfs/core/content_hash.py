"""The hash by which Dropbox knows a file's content.

SHA-256 over the concatenated SHA-256 digests of each 4 MiB block, the last one maybe shorter; an
empty file has no block, so its hash is SHA-256 of nothing (API reference, "Content hash").

Two ways lead to it. `ContentHasher` takes a stream in any pieces. `hash_blocks` takes digests of
blocks that were hashed elsewhere, in other threads or on another day: the construction is a tree
of depth two, so an edit inside one block costs the hashing of that block only.

Nothing here runs in a thread of its own. `hashlib` lets go of the interpreter lock for pieces over
2047 bytes, so a caller that hashes more than a little does it in a worker thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

BLOCK = 4 * 1024 * 1024
"""Bytes in a block."""

EMPTY = hashlib.sha256().hexdigest()
"""The content hash of an empty file."""


class ContentHasher:
    """The content hash of a stream, fed in pieces of any size. Shaped like `hashlib`'s objects."""

    __slots__ = ("_block", "_filled", "_whole")

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._block = hashlib.sha256()
        self._filled = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; a memoryview must be contiguous."""
        rest = memoryview(data).cast("B")
        while rest:
            piece = rest[: BLOCK - self._filled]
            self._block.update(piece)
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == BLOCK:
                self._whole.update(self._block.digest())
                self._block = hashlib.sha256()
                self._filled = 0

    def digest(self) -> bytes:
        """32 bytes: the hash of all that was given so far; more may follow."""
        whole = self._whole.copy()
        if self._filled:
            whole.update(self._block.digest())
        return whole.digest()

    def hexdigest(self) -> str:
        """`digest` as 64 hexadecimal digits, the form that Dropbox uses."""
        return self.digest().hex()

    def copy(self) -> ContentHasher:
        """A hasher that goes on from here by itself."""
        twin = ContentHasher()
        twin._whole = self._whole.copy()
        twin._block = self._block.copy()
        twin._filled = self._filled
        return twin


def content_hash(data: bytes | bytearray | memoryview) -> str:
    """The content hash of `data`, 64 hexadecimal digits."""
    hasher = ContentHasher()
    hasher.update(data)
    return hasher.hexdigest()


def hash_blocks(digests: Iterable[bytes]) -> str:
    """The content hash of a file whose blocks have these SHA-256 digests, in the file's order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()
