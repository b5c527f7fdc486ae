"""Online documents arrive whole, with their export's size and hash, or not at all."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from dbxfs.api.client import UnexpectedReply, Unreachable
from dbxfs.core.model import RemotePath
from dbxfs.core.pace import BURST
from tests.api.peer import FILE, Peer, Stream

BYTES = b"0123456789"
DOCUMENT = {**FILE, "is_downloadable": False, "size": 4096}


def export(*pieces: bytes | Exception, **values: Any) -> httpx.Response:
    """The reply to an export; `values` are its own metadata."""
    described = {"name": "plan.md", "size": 10, "export_hash": "e" * 64, **values}
    result = json.dumps({"export_metadata": described, "file_metadata": DOCUMENT})
    return httpx.Response(200, stream=Stream(*pieces), headers={"dropbox-api-result": result})


async def test_an_export_comes_whole_with_its_own_size_and_hash() -> None:
    peer = Peer([export(b"01234", b"56789")])
    async with peer.client() as client, client.export(RemotePath("id:doc")) as pieces:
        assert b"".join([piece async for piece in pieces]) == BYTES
        assert (pieces.entry.size, pieces.entry.content_hash) == (10, "e" * 64)
    assert peer.routes == ["files/export"]
    assert peer.sent() == {"path": "id:doc"}


async def test_an_export_keeps_to_the_rate_of_downloads(autojump_clock: MockClock) -> None:
    answer = export(*(bytes([digit]) for digit in BYTES))
    async with Peer([answer]).client(download_rate=2) as client:
        began = trio.current_time()
        async with client.export(RemotePath("id:doc")) as pieces:
            assert b"".join([piece async for piece in pieces]) == BYTES
        assert trio.current_time() - began == pytest.approx(10 / 2 - BURST)


async def test_an_export_that_ends_early_is_an_error() -> None:
    async with Peer([export(b"01234")]).client() as client:
        with pytest.raises(Unreachable):
            async with client.export(RemotePath("id:doc")) as pieces:
                _ = [piece async for piece in pieces]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=b"x"),
        httpx.Response(200, content=b"x", headers={"dropbox-api-result": "[]"}),
        export(b"x", size=-1),
        export(b"x", size="large"),
    ],
)
async def test_an_export_without_a_size_is_an_unexpected_reply(answer: httpx.Response) -> None:
    async with Peer([answer]).client(patience=0) as client:
        with pytest.raises(UnexpectedReply):
            async with client.export(RemotePath("id:doc")):
                pass
