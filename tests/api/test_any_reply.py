"""Whatever the other side says, a call ends with a result or a DropboxError, nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dbxfs.api.client import Add, Client, DropboxError, SessionId
from dbxfs.core.model import ROOT, Cursor, RemotePath
from tests.api.peer import DELETED, FILE, FOLDER, Peer

A = RemotePath("/a")
S = SessionId("s")


async def _download(client: Client) -> None:
    async with client.download(A, start=0, length=5) as download:
        async for piece in download:
            assert piece


async def _upload(client: Client) -> object:
    return await client.upload(A, b"x", size=1, mode=Add(), content_hash="h", client_modified_ns=0)


CALLS: dict[str, Any] = {
    "account": lambda c: c.account(patience=0),
    "space": lambda c: c.space(patience=0),
    "list_folder": lambda c: c.list_folder(ROOT, recursive=True, patience=0),
    "list_folder_continue": lambda c: c.list_folder_continue(Cursor("c"), patience=0),
    "latest_cursor": lambda c: c.latest_cursor(patience=0),
    "longpoll": lambda c: c.longpoll(Cursor("c")),
    "metadata": lambda c: c.metadata(A, patience=0),
    "create_folder": lambda c: c.create_folder(A, patience=0),
    "delete": lambda c: c.delete(A, patience=0),
    "move": lambda c: c.move(A, A, patience=0),
    "copy": lambda c: c.copy(A, A, patience=0),
    "download": _download,
    "upload": _upload,
    "session_start": lambda c: c.session_start(patience=0),
    "session_append": lambda c: c.session_append(S, 0, b"x", 1, "h", patience=0),
    "session_finish": lambda c: c.session_finish(S, 0, A, Add(), client_modified_ns=0, patience=0),
}

texts = st.text(st.characters(exclude_categories=()), max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
tags = st.sampled_from(
    [".tag", "error", "path", "reason", "retry_after", "metadata", "entries", "correct_offset"]
)
json_values = st.recursive(
    scalars
    | st.sampled_from(["incorrect_offset", "reset", "path"])
    | st.sampled_from([FILE, FOLDER, DELETED]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | tags, inner, max_size=4),
    max_leaves=10,
)
bodies = st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode())
statuses = st.sampled_from(
    [200, 200, 204, 206, 302, 304, 400, 401, 403, 404, 409, 416, 422, 429, 500, 503, 599]
)
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Dropbox-API-Result", "Content-Range", "Content-Type"]),
    st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))
    | st.sampled_from([b"bytes 0-4/10", json.dumps(FILE).encode(), b"120", b"-1", b"1e999"]),
)


@pytest.mark.parametrize("call", sorted(CALLS))
@settings(max_examples=60, deadline=None)
@given(status=statuses, body=bodies, head=headers)
def test_only_dropbox_errors_come_of_it(
    call: str, status: int, body: bytes, head: dict[str, bytes]
) -> None:
    raw_head = [(name.encode(), value) for name, value in head.items()]

    async def run() -> None:
        peer = Peer([lambda _request: httpx.Response(status, content=body, headers=raw_head)])
        async with peer.client(patience=0) as client:
            with contextlib.suppress(DropboxError):
                await CALLS[call](client)

    trio.run(run)
