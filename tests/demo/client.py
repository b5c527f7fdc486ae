"""A plain client of the embedded Dropbox: calls by route, answers as they come."""

from __future__ import annotations

import json
from typing import Any

import httpx

from dbxfs.demo.account import Account
from dbxfs.demo.app import Service
from dbxfs.demo.oauth import demo_tokens


class Client:
    """Calls a service without a network, or over `transport` if one is given."""

    def __init__(
        self,
        account: Account,
        service: Service,
        transport: httpx.AsyncBaseTransport | None = None,
        url: str = "http://dropbox.test",
    ) -> None:
        self.account = account
        self.service = service
        self.token, self.refresh_token = demo_tokens(account)
        self.http = httpx.AsyncClient(
            transport=transport or httpx.ASGITransport(service.app),
            base_url=url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=httpx.Timeout(20, pool=None),
        )

    async def call(self, route: str, argument: Any = None, **headers: str) -> httpx.Response:
        """An RPC, its answer whatever it is."""
        content = json.dumps(argument)
        kind = {"Content-Type": "application/json", **headers}
        return await self.http.post(f"/2/{route}", content=content, headers=kind)

    async def rpc(self, route: str, argument: Any = None) -> Any:
        """An RPC that succeeds, its result."""
        reply = await self.call(route, argument)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def content(
        self, route: str, argument: Any, data: bytes | None = None, **headers: str
    ) -> httpx.Response:
        """A call with its argument in the header; with `data`, an upload."""
        headers["Dropbox-API-Arg"] = json.dumps(argument)
        if data is not None:
            headers["Content-Type"] = "application/octet-stream"
        return await self.http.post(f"/2/{route}", content=data, headers=headers)

    async def upload(self, path: str, data: bytes = b"", **commit: Any) -> dict[str, Any]:
        """An upload that succeeds, its metadata."""
        reply = await self.content("files/upload", {"path": path, **commit}, data)
        assert reply.status_code == 200, reply.text
        metadata: dict[str, Any] = reply.json()
        return metadata

    async def download(self, path: str) -> bytes:
        """The content of a file."""
        reply = await self.content("files/download", {"path": path})
        assert reply.status_code == 200, reply.text
        return reply.content

    async def control(self, route: str, argument: Any = None) -> Any:
        """A control call: GET without an argument."""
        url = f"/control/{route}"
        if argument is None:
            reply = await self.http.get(url)
        else:
            reply = await self.http.post(url, json=argument)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def latest(self, **listing: Any) -> str:
        """A cursor at the present end of the feed."""
        argument = {"path": "", "recursive": True, **listing}
        found = await self.rpc("files/list_folder/get_latest_cursor", argument)
        cursor: str = found["cursor"]
        return cursor

    async def changes(self, cursor: str) -> list[tuple[str, str]]:
        """What the feed reports after `cursor`: tags and paths, over as many pages as it takes."""
        return [(entry[".tag"], entry["path_lower"]) for entry in await self.entries(cursor)]

    async def entries(self, cursor: str) -> list[dict[str, Any]]:
        """As `changes`, the whole entries."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.rpc("files/list_folder/continue", {"cursor": cursor})
            found += page["entries"]
            cursor = page["cursor"]
            if not page["has_more"]:
                return found
