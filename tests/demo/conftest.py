"""An account in a scratch folder, and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import trio

from dbxfs.demo.account import Account
from dbxfs.demo.app import Service
from dbxfs.demo.serving import open_listeners, serve
from tests.demo.client import Client


class Clock:
    """A wall clock that a test can turn forward; seconds since the epoch."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def wall_clock() -> Clock:
    return Clock()


@pytest.fixture
def account(tmp_path: Path, wall_clock: Clock) -> Iterator[Account]:
    """An empty account."""
    account = Account(tmp_path / "account", wall_clock)
    yield account
    account.close()


@pytest.fixture
def client(account: Account) -> Client:
    """A client without a network."""
    return Client(account, Service(account))


@pytest.fixture
async def wired(account: Account) -> AsyncIterator[Client]:
    """A client over real connections to a server in this process."""
    service = Service(account)
    listeners, port = await open_listeners("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service.app, listeners)
        client = Client(account, service, httpx.AsyncHTTPTransport(), f"http://127.0.0.1:{port}")
        yield client
        await client.http.aclose()
        nursery.cancel_scope.cancel()
