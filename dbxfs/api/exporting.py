"""Online documents as files: what `files/export` makes of those that cannot be downloaded.

The bytes are made anew at each call, so there are no ranges, no revisions, and the metadata's size
and content hash are not theirs: their own come with them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

from dbxfs.api import wire
from dbxfs.api.errors import UnexpectedReply
from dbxfs.api.exchange import Exchange
from dbxfs.api.transfer import Download
from dbxfs.core.model import FileEntry, RemotePath
from dbxfs.core.pace import Pace

ROUTE = "files/export"


class Export(Download):
    """The bytes of an exported document, as an async iterator of pieces.

    Delivers all `entry.size` bytes, which are the export's, or raises Unreachable;
    `entry.content_hash` is the export's, None where Dropbox tells none.
    """

    def __init__(self, entry: FileEntry, response: httpx.Response, pace: Pace | None) -> None:
        super().__init__(entry, response, 0, entry.size, pace)


class Exporting:
    """The call that exports. `patience`: seconds; None: the settings' own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @asynccontextmanager
    async def export(
        self, ref: RemotePath, *, patience: float | None = None
    ) -> AsyncIterator[Export]:
        """A document, by its path or id, in the format that its `export_as` names.

        EndpointError with ("path", "not_found"), ("non_exportable",), or ("retry_error",) when it
        cannot be had for the moment.
        """

        def opened(response: httpx.Response) -> Export:
            return _opened(response, self._exchange.download_pace)

        download, stack = await self._exchange.fetch(
            self._exchange.lanes.download,
            ROUTE,
            {"path": ref},
            {"Accept-Encoding": "identity"},
            opened,
            patience=patience,
        )
        async with stack:
            stack.push_async_callback(download.aclose)
            yield download


def _opened(response: httpx.Response, pace: Pace | None) -> Export:
    raw = response.headers.get("dropbox-api-result")
    if raw is None:
        raise UnexpectedReply(f"{ROUTE} sent no metadata", doubt=False)
    try:
        entry, size, digest = wire.export(raw.encode("utf-8", "replace"))
    except wire.Malformed as error:
        raise UnexpectedReply(f"{ROUTE}: {error}", doubt=False) from error
    return Export(msgspec.structs.replace(entry, size=size, content_hash=digest), response, pace)
