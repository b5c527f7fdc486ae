"""The other end of the line, written down in advance: replies in order, requests kept.

    peer = Peer([reply(503), reply(200, {"cursor": "c"})])
    async with peer.client() as client: ...

A reply is a response, an exception to raise, or a function of the request. The last one is given
again for every request after it. No sockets, so that a clock that jumps can be used.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from dbxfs.api.auth import StaticToken
from dbxfs.api.client import Client, Settings, open_client

Reply = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]

URL = "http://127.0.0.1:9"

FILE = {
    ".tag": "file",
    "name": "Prime.txt",
    "id": "id:a4ayc_80_OEAAAAAAAAAXw",
    "client_modified": "2015-05-12T15:50:38Z",
    "server_modified": "2016-01-02T03:04:05Z",
    "rev": "a1c10ce0dd78",
    "size": 10,
    "path_lower": "/homework/prime.txt",
    "path_display": "/Homework/Prime.txt",
    "sharing_info": {"read_only": True, "parent_shared_folder_id": "84528192421"},
    "is_downloadable": True,
    "content_hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "has_explicit_shared_members": False,
}
FOLDER = {
    ".tag": "folder",
    "name": "Homework",
    "id": "id:folder",
    "path_lower": "/homework",
    "path_display": "/Homework",
}
DELETED = {".tag": "deleted", "name": "gone", "path_lower": "/gone", "path_display": "/gone"}


def reply(status: int = 200, document: Any = None, **headers: str) -> httpx.Response:
    """A JSON reply; header names with "_" for "-"."""
    return httpx.Response(
        status,
        content=json.dumps(document).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def refused(*tags: str, status: int = 409, **values: Any) -> httpx.Response:
    """An endpoint's refusal with this chain of tags; `values` beside the innermost."""
    error: dict[str, Any] = {".tag": tags[-1], **values}
    for tag in reversed(tags[:-1]):
        error = {".tag": tag, tag: error}
    return reply(status, {"error_summary": "/".join(tags) + "/..", "error": error})


class Stream(httpx.AsyncByteStream):
    """A body that comes in pieces and may break off with an exception."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Peer(httpx.AsyncBaseTransport):
    """Answers by the script; `requests` holds what came, `bodies` their contents.

    An exception is raised before the request's body is taken, a function is called after it.
    """

    def __init__(self, script: Sequence[Reply]) -> None:
        self.script = list(script)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.script[min(len(self.requests), len(self.script)) - 1]
        if isinstance(step, Exception):
            raise step
        self.bodies.append(await request.aread())
        if isinstance(step, httpx.Response):
            return step
        return step(request)

    def client(
        self, auth: httpx.Auth | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[Client]:
        made = Settings.for_url(URL, auth or StaticToken("sl.secret"), **settings)
        return open_client(made, transport=self)

    def sent(self, which: int = -1) -> Any:
        """The JSON argument of a request, from its body or its header."""
        header = self.requests[which].headers.get("dropbox-api-arg")
        return json.loads(header if header is not None else self.bodies[which])

    @property
    def routes(self) -> list[str]:
        return [request.url.path.removeprefix("/2/") for request in self.requests]
