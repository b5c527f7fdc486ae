"""Dropbox as one object: everything that the rest of the program calls.

    async with open_client(Settings.for_dropbox(StaticToken(token))) as client:
        page = await client.list_folder(ROOT, recursive=True)

The methods are in rooms by what they do to the tree: `listing` reads it, `commits` changes it,
`transfer` carries contents, `batches` does both for many entries in one call, `exporting` carries
contents of online documents, and `properties` keeps small texts with the entries. All of them raise
`errors.DropboxError` and nothing else of the network's. What they share (lanes, retry,
authorisation) is `exchange`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from dbxfs.api.batches import Batches
from dbxfs.api.commits import Commits
from dbxfs.api.errors import (
    AccessDenied,
    BadRequest,
    CursorReset,
    DropboxError,
    EndpointError,
    IncorrectOffset,
    PathRootChanged,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from dbxfs.api.exchange import Exchange
from dbxfs.api.exporting import Export, Exporting
from dbxfs.api.lanes import Lanes
from dbxfs.api.listing import Listing
from dbxfs.api.modes import Add, Overwrite, SessionId, Update, WriteMode
from dbxfs.api.properties import Properties
from dbxfs.api.settings import Settings, http_client
from dbxfs.api.transfer import Download, Transfer
from dbxfs.api.wire import Longpoll

__all__ = [
    "AccessDenied",
    "Add",
    "BadRequest",
    "Client",
    "CursorReset",
    "Download",
    "DropboxError",
    "EndpointError",
    "Export",
    "IncorrectOffset",
    "Longpoll",
    "Overwrite",
    "PathRootChanged",
    "RateLimited",
    "ServerTrouble",
    "SessionId",
    "Settings",
    "Unauthorized",
    "UnexpectedReply",
    "Unreachable",
    "Update",
    "WriteMode",
    "open_client",
]


class Client(Listing, Commits, Transfer, Batches, Exporting, Properties):
    """One account's Dropbox. See the bases for the calls."""

    def __init__(self, exchange: Exchange) -> None:
        Listing.__init__(self, exchange)
        Commits.__init__(self, exchange)
        Transfer.__init__(self, exchange)
        Batches.__init__(self, exchange)
        Exporting.__init__(self, exchange)
        Properties.__init__(self, exchange)


@asynccontextmanager
async def open_client(
    settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Client]:
    """A client with its pool of connections, closed at the end. Makes no request by itself.

    `transport` is for tests (`httpx.MockTransport`, `httpx.ASGITransport`). ValueError when proxy
    or certificate settings of the environment cannot be used.
    """
    lanes = Lanes(
        metadata=settings.metadata_limit,
        download=settings.download_limit,
        append=settings.append_limit,
    )
    async with http_client(settings, lanes.connections, transport) as http:
        yield Client(Exchange(settings, http, lanes))
