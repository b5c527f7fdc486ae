"""The bytes of an upload, on their way out.

The source is a function that starts the stream anew, because one call may have to send it twice:
after a rate limit, or when the token had expired meanwhile. Pieces are cut small, so that the
time-out for one write is a time-out for a few tens of kilobytes, not for whatever the caller
happened to hand over.

A `Body` also knows whether its last byte has been handed to the transport. Before that the other
side cannot have carried out the request, since it does not have it all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import trio

from dbxfs.core.pace import Pace

Source = bytes | bytearray | memoryview | Callable[[], AsyncIterator[bytes]]
"""Bytes, or a function that starts a stream of them; it may be called more than once."""

PIECE = 128 * 1024
"""Bytes in one write to the transport."""


class Body:
    """`size` bytes from `source`, as an async iterable that can be run through again."""

    def __init__(self, source: Source, size: int) -> None:
        if not callable(source) and len(source) != size:
            raise ValueError(f"an upload of {size} bytes was given {len(source)}")
        self.size = size
        self._source = source
        self._handed = 0
        self._stream: AsyncIterator[bytes] | None = None
        self.pace: Pace | None = None
        """Kept to, where there is one."""

    @property
    def handed_over(self) -> bool:
        """Whether all bytes were handed to the transport in the last run."""
        return self._handed >= self.size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces. Raises ValueError when the source does not have `size` bytes."""
        self._handed = 0
        if not callable(self._source):
            for piece in self._cut(self._source):
                await self._keep_pace(len(piece))
                yield piece
            return
        await self.aclose()
        self._stream = self._source()
        async for chunk in self._stream:
            if self._handed + len(chunk) > self.size:
                raise ValueError(f"an upload of {self.size} bytes was given more")
            for piece in self._cut(chunk):
                await self._keep_pace(len(piece))
                yield piece
        if self._handed != self.size:
            raise ValueError(f"an upload of {self.size} bytes was given {self._handed}")

    async def _keep_pace(self, size: int) -> None:
        if self.pace is not None:
            await trio.sleep(self.pace.wait(trio.current_time(), size))

    def _cut(self, chunk: bytes | bytearray | memoryview) -> Iterator[bytes]:
        view = memoryview(chunk).cast("B")
        for start in range(0, len(view), PIECE):
            piece = bytes(view[start : start + PIECE])
            self._handed += len(piece)
            yield piece

    async def aclose(self) -> None:
        """End a stream that the transport left before its end, so that its files are closed."""
        stream, self._stream = self._stream, None
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
