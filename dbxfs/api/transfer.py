"""Contents, both ways, as streams: downloads by range, uploads whole or by session.

A download is opened with patience, but once bytes have come it is not resumed here: the caller
knows what it has and asks for the rest, maybe from elsewhere. What it is promised is that a stream
that ends without an error was complete.

An upload in one request and the finish of a session change the tree and take the commit lane;
appends change nothing that others see and have a lane with room for several.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import trio

from dbxfs.api import wire
from dbxfs.api.body import Body, Source
from dbxfs.api.errors import UnexpectedReply, Unreachable
from dbxfs.api.exchange import Exchange, mapped
from dbxfs.api.modes import SessionId, WriteMode
from dbxfs.core.content_hash import EMPTY
from dbxfs.core.model import FileEntry, PropertyGroup, RemotePath
from dbxfs.core.pace import Pace

_DRAIN = 1.0
"""Seconds to wait for the end of a body whose bytes have all come."""


class Download:
    """The bytes of one range, as an async iterator of pieces; `entry` is the file's metadata.

    Delivers exactly the bytes asked for, up to the file's end; raises Unreachable when the
    connection gives fewer.
    """

    def __init__(
        self,
        entry: FileEntry,
        response: httpx.Response,
        skipped: int,
        length: int,
        pace: Pace | None = None,
    ) -> None:
        """`pace` is kept to by reading no sooner: the other side then waits as well."""
        self.entry = entry
        self._response = response
        self._pace = pace
        self._pieces = response.aiter_bytes()
        self._started = False
        self._left = min(length, max(0, entry.size - skipped))

    def __aiter__(self) -> Download:
        return self

    async def __anext__(self) -> bytes:
        """The next piece, never empty. Raises Unreachable, UnexpectedReply."""
        while self._left:
            self._started = True
            with mapped(self._response.request, writing=False):
                piece = await anext(self._pieces, None)
            if piece is None:
                raise Unreachable(f"a download ended {self._left} bytes early", doubt=False)
            if piece:
                piece = piece[: self._left]
                self._left -= len(piece)
                if self._pace is not None:
                    await trio.sleep(self._pace.wait(trio.current_time(), len(piece)))
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the connection back where all bytes have come; else close it."""
        with trio.move_on_after(_DRAIN, shield=True), suppress(httpx.HTTPError):
            if not self._left:
                self._started = True
                await anext(self._pieces, None)
            await self._response.aclose()
            # Generators of httpx's are stacked up behind this one, and only running to their end
            # ends them all; on a closed connection that is at once.
            while self._started and await anext(self._pieces, None) is not None:
                pass


class Transfer:
    """The calls that carry contents. `patience`: seconds; None: the settings' own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @asynccontextmanager
    async def download(
        self, ref: RemotePath, *, start: int, length: int, patience: float | None = None
    ) -> AsyncIterator[Download]:
        """`length` bytes from `start` of a path, an id or a revision ("rev:…").

        ValueError for a negative start or an empty range. EndpointError with ("path",
        "not_found") or ("unsupported_file",).
        """
        if start < 0 or length <= 0:
            raise ValueError(f"cannot download {length} bytes from {start}")

        def opened(response: httpx.Response) -> Download:
            return _opened(response, start, length, self._exchange.download_pace)

        download, stack = await self._exchange.fetch(
            self._exchange.lanes.download,
            "files/download",
            {"path": ref},
            {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"},
            opened,
            patience=patience,
        )
        async with stack:
            stack.push_async_callback(download.aclose)
            yield download

    async def upload(
        self,
        path: RemotePath,
        chunks: Source,
        *,
        size: int,
        mode: WriteMode,
        content_hash: str,
        client_modified_ns: int,
        autorename: bool = True,
        mute: bool = False,
        properties: PropertyGroup | None = None,
        patience: float | None = None,
    ) -> FileEntry:
        """A whole file of at most 150 MiB in one request; the entry as committed.

        `path` may be "id:…". The name in the entry may be another one (autorename). EndpointError
        with ("path", "conflict", …), ("path", "insufficient_space"), ("content_hash_mismatch",)…
        ValueError when `chunks` is not `size` bytes.
        """
        arg = commit_info(
            path,
            mode,
            client_modified_ns,
            autorename=autorename,
            mute=mute,
            properties=properties,
        )
        return await self._exchange.put(
            self._exchange.lanes.commit,
            "files/upload",
            {**arg, "content_hash": content_hash},
            Body(chunks, size),
            wire.file_entry,
            patience=patience,
        )

    async def session_start(
        self, *, concurrent: bool = False, patience: float | None = None
    ) -> SessionId:
        """A new, empty upload session.

        A `concurrent` one takes its parts in any order, at multiples of 4 MiB and so long, and the
        last one, which may be shorter, with `close`.
        """
        kind: dict[str, Any] = {"session_type": "concurrent"} if concurrent else {}
        return await self._exchange.put(
            self._exchange.lanes.append,
            "files/upload_session/start",
            {"close": False, **kind},
            Body(b"", 0),
            lambda body: SessionId(wire.session(body)),
            patience=patience,
        )

    async def session_append(
        self,
        session: SessionId,
        offset: int,
        chunks: Source,
        size: int,
        content_hash: str,
        close: bool = False,
        *,
        patience: float | None = None,
    ) -> None:
        """`size` more bytes, at most 150 MiB, from `offset` on; `content_hash` of these bytes.

        IncorrectOffset when the session has another number of bytes, as after an append whose
        reply was lost. EndpointError with ("not_found",) or ("closed",).
        """
        await self._exchange.put(
            self._exchange.lanes.append,
            "files/upload_session/append_v2",
            {
                "cursor": {"session_id": session, "offset": offset},
                "close": close,
                "content_hash": content_hash,
            },
            Body(chunks, size),
            wire.nothing,
            patience=patience,
        )

    async def session_finish(
        self,
        session: SessionId,
        offset: int,
        path: RemotePath,
        mode: WriteMode,
        *,
        client_modified_ns: int,
        autorename: bool = True,
        mute: bool = False,
        properties: PropertyGroup | None = None,
        patience: float | None = None,
    ) -> FileEntry:
        """Commit the session's bytes, `offset` in all, as a file; errors as in `upload`.

        IncorrectOffset as in `session_append`; EndpointError with ("lookup_failed", "not_found").
        """
        return await self._exchange.put(
            self._exchange.lanes.commit,
            "files/upload_session/finish",
            {
                "cursor": {"session_id": session, "offset": offset},
                "commit": commit_info(
                    path,
                    mode,
                    client_modified_ns,
                    autorename=autorename,
                    mute=mute,
                    properties=properties,
                ),
                "content_hash": EMPTY,
            },
            Body(b"", 0),
            wire.file_entry,
            patience=patience,
        )


def _opened(response: httpx.Response, start: int, length: int, pace: Pace | None) -> Download:
    raw = response.headers.get("dropbox-api-result")
    if raw is None:
        raise UnexpectedReply("files/download sent no metadata", doubt=False)
    try:
        entry = wire.file_entry(raw.encode("utf-8", "replace"))
    except wire.Malformed as error:
        raise UnexpectedReply(f"files/download: {error}", doubt=False) from error
    whole = response.status_code != httpx.codes.PARTIAL_CONTENT
    begins = response.headers.get("content-range", "")
    if (whole and start) or (not whole and not begins.startswith(f"bytes {start}-")):
        raise UnexpectedReply("files/download sent another range", doubt=False)
    return Download(entry, response, start, length, pace)


def commit_info(
    path: RemotePath,
    mode: WriteMode,
    client_modified_ns: int,
    *,
    autorename: bool = True,
    mute: bool = False,
    properties: PropertyGroup | None = None,
) -> dict[str, Any]:
    """How a content becomes a file, as CommitInfo."""
    groups = {} if properties is None else {"property_groups": [wire.property_group(properties)]}
    return {
        "path": path,
        "mode": wire.write_mode(mode),
        "autorename": autorename,
        "client_modified": wire.timestamp(client_modified_ns),
        "mute": mute,
        "strict_conflict": False,
        **groups,
    }
