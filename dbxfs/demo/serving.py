"""Serving over TCP, with Hypercorn's connections on trio.

Hypercorn's own loop gives an application no way to its connection, but a fault is exactly that: a
connection that ends too early, cleanly or with a reset. So the loop is here, and puts the means
into the scope (`network.CONNECTION`). Each connection is Hypercorn's.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from starlette.types import ASGIApp, Receive, Scope, Send

from dbxfs.demo.network import CONNECTION

IDLE = 300.0
"""Seconds that an idle connection is kept."""

LARGEST_HEAD = 1024 * 1024
"""Bytes of request headers: the argument of a batch is in one of them."""


READ = 512 * 1024
"""Bytes that are received at once. Hypercorn asks for 64 KiB, which makes uploads half as fast."""


class LargeReads:
    """A stream as Hypercorn uses it, with larger reads."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.send_all = stream.send_all
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose

    async def receive_some(self, _size: int) -> bytes | bytearray:
        """Up to `READ` bytes, whatever was asked for."""
        return await self._stream.receive_some(READ)


def _config() -> Config:
    config = Config()
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = LARGEST_HEAD
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = "-"
    return config


async def open_listeners(host: str, port: int) -> tuple[list[trio.SocketListener], int]:
    """Sockets that listen, and their port. Raises OSError."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    return listeners, listeners[0].socket.getsockname()[1]


async def serve(app: ASGIApp, listeners: list[trio.SocketListener]) -> None:
    """Answers connections until it is cancelled."""
    config = _config()
    context = WorkerContext(None)

    async def answer(stream: trio.SocketStream) -> None:
        wrapped: Any = ASGIWrapper(_with_connection(app, stream))  # type: ignore[arg-type]
        large: Any = LargeReads(stream)
        await TCPServer(wrapped, config, context, {}, large)

    await trio.serve_listeners(answer, listeners)


def _with_connection(app: ASGIApp, stream: trio.SocketStream) -> ASGIApp:
    async def cut(hard: bool) -> None:
        if hard:
            option = struct.pack("ii", 1, 0)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        await stream.aclose()

    async def connected(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[CONNECTION] = cut
        await app(scope, receive, send)

    return connected
