"""What lies between client and service: distance, bandwidth, faults, and the counting of calls.

An ASGI application around another, which knows nothing of it. Time on the way is waited for, half
of a round trip before the call and half before the answer's first byte; the bytes of bodies pass
through links of a given rate, one for each connection and one for all together.

A link is arithmetic, not a queue: it knows when it will be free, so a piece of n bytes is through
n / rate seconds after that. The moments come in as arguments, and the waiting is outside.

A connection is cut with the means that the server put into the scope; under a transport without
connections (httpx.ASGITransport) the call ends in ConnectionResetError instead.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dbxfs.demo.wire import encode, rate_limited, unauthorized

CONNECTION = "dbxfs.connection"
"""The scope extension: a callable that cuts the connection; `hard` with a reset."""

Cut = Callable[[bool], Awaitable[None]]
BITS = 1_000_000 / 8
"""Bytes a second in one Mbit/s."""

SLICE = 64 * 1024
"""Bytes that are paced as one piece."""

LAG = 0.02
"""Seconds that a sender may be late and still counts as steady. Waking up takes its time, and a
line that lost it each time would be a third slower than its rate."""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in milliseconds, rates in Mbit/s; nought means none."""

    round_trip_ms: float = 0
    service_ms: float = 0
    commit_ms: float = 0
    connection_mbit: float = 0
    total_mbit: float = 0
    longpoll_jitter_s: float = 0


class Link:
    """A line of so many bytes a second (0: without limit)."""

    __slots__ = ("free_at", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.free_at = 0.0

    def reserve(self, now: float, size: int) -> float:
        """The moment at which `size` bytes, put in at `now`, are through."""
        if not self.rate:
            return now
        idle = now - self.free_at
        self.free_at = (now if idle > LAG else self.free_at) + size / self.rate
        return self.free_at


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """Something that goes wrong with calls of `route` ("*": all). `count` None: for ever.

    "stall" never answers and does nothing, "unanswered" does the work and never answers.
    `fired` and `skipped` count the calls that it hit and let pass; `done` those that it hit and
    whose work was done all the same.
    """

    kind: Literal["error", "reset", "stall", "truncate", "garbage", "lost_reply", "unanswered"]
    route: str = "*"
    status: int = 503
    reason: str = "too_many_requests"
    retry_after: int | None = None
    count: int | None = None
    skip: int = 0
    probability: float = 1.0
    fired: int = 0
    skipped: int = 0
    done: int = 0

    def strikes(self, route: str) -> bool:
        """Whether this call is hit; counts."""
        if self.route not in ("*", route) or (self.count is not None and self.fired >= self.count):
            return False
        if self.skipped < self.skip:
            self.skipped += 1
            return False
        if self.probability < 1 and random.random() >= self.probability:  # noqa: S311
            return False
        self.fired += 1
        return True


class Network:
    """The way to `app`. Control routes are not part of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self._links: dict[object, Link] = {}
        self.set_profile(Profile())

    def set_profile(self, profile: Profile) -> None:
        """The distance and bandwidth from now on."""
        self.profile = profile
        self._total = Link(profile.total_mbit * BITS)
        self._links.clear()

    def reset_counters(self) -> None:
        """Counts from nought."""
        self.requests.clear()
        self.bytes_in = self.bytes_out = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/control/"):
            await self._app(scope, receive, send)
            return
        route = scope["path"].removeprefix("/2/").strip("/")
        self.requests[route] += 1
        fault = next((fault for fault in self.faults if fault.strikes(route)), None)
        passage = _Passage(self, scope, receive, send)
        await trio.sleep((self.profile.round_trip_ms / 2 + self.profile.service_ms) / 1000)
        if fault is None:
            await self._app(scope, passage.receive, passage.send)
        else:
            await self._go_wrong(fault, passage, scope)

    def link(self, scope: Scope) -> Link:
        """The link of the connection that a call came on."""
        key = scope.get("client") and tuple(scope["client"])
        if key not in self._links:
            self._links[key] = Link(self.profile.connection_mbit * BITS)
        return self._links[key]

    def through(self, link: Link, now: float, size: int) -> float:
        """When `size` bytes are through the connection's link and the common one."""
        return max(link.reserve(now, size), self._total.reserve(now, size))

    async def _go_wrong(self, fault: Fault, passage: _Passage, scope: Scope) -> None:
        is_download = scope["path"].endswith(("/download", "/file"))
        if fault.kind == "error":
            await passage.drain()
            await _send_error(fault, passage.send)
        elif fault.kind == "reset":
            await passage.cut(hard=True)
        elif fault.kind in ("lost_reply", "unanswered"):
            await self._app(scope, passage.receive, _swallow)
            fault.done += 1
            if fault.kind == "unanswered":
                await passage.wait_for_disconnect()
            else:
                await passage.cut(hard=True)
        elif fault.kind == "stall" and not is_download:
            await passage.wait_for_disconnect()
        elif fault.kind == "garbage" and not is_download:
            await passage.drain()
            await _send_whole(
                passage.send, 200, b"application/json", b'{"entries": [\x00\xff<html>'
            )
        else:
            spoiler = _Spoiler(fault.kind, passage)
            await self._app(scope, passage.receive, spoiler.send)
            await spoiler.end()


async def _swallow(_message: Message) -> None:
    """Takes an answer that nobody will get."""


async def _send_whole(send: Send, status: int, kind: bytes, body: bytes, *more: Any) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_error(fault: Fault, send: Send) -> None:
    headers = []
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    if fault.status == 429:
        body = rate_limited(fault.reason, fault.retry_after or 1).body
    elif fault.status == 401:
        body = unauthorized(fault.reason).body
    else:
        text = f"Error {fault.status}: {fault.reason}".encode()
        await _send_whole(send, fault.status, b"text/plain; charset=utf-8", text, *headers)
        return
    await _send_whole(send, fault.status, b"application/json", encode(body), *headers)


class _Passage:
    """One call on its way: paced, counted, and cut if need be."""

    def __init__(self, network: Network, scope: Scope, receive: Receive, send: Send) -> None:
        self._network = network
        self._link = network.link(scope)
        self._receive = receive
        self._send = send
        self._cut: Cut | None = scope.get("extensions", {}).get(CONNECTION)
        self.is_over = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._network.bytes_in += size
            await self._pace(size)
        else:
            self.is_over = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await trio.sleep(self._network.profile.round_trip_ms / 2000)
            await self._send(message)
            return
        body = message.get("body", b"")
        self._network.bytes_out += len(body)
        if not self._link.rate and not self._network.profile.total_mbit:
            await self._send(message)
            return
        for start in range(0, max(len(body), 1), SLICE):
            piece = body[start : start + SLICE]
            await self._pace(len(piece))
            is_last = start + SLICE >= len(body)
            more = message.get("more_body", False) or not is_last
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    async def _pace(self, size: int) -> None:
        if size:
            now = trio.current_time()
            until = self._network.through(self._link, now, size)
            if until > now:
                await trio.sleep_until(until)

    async def drain(self) -> None:
        """Reads the body to its end, so that the client can read the answer."""
        more = True
        while more:
            message = await self.receive()
            more = message["type"] == "http.request" and message.get("more_body", False)

    async def wait_for_disconnect(self) -> None:
        """Never answers."""
        while not self.is_over:
            await self.receive()

    async def cut(self, *, hard: bool) -> None:
        """Ends the connection, with a reset if `hard`."""
        if self._cut is None:
            raise ConnectionResetError("the embedded Dropbox cut the connection")
        await self._cut(hard)


class _Spoiler:
    """Lets an answer begin well: stalls or ends it half way, or makes its bytes wrong."""

    def __init__(self, kind: str, passage: _Passage) -> None:
        self._kind = kind
        self._passage = passage
        self._left = 0
        self._is_cut = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            length = dict(message["headers"]).get(b"content-length", b"2")
            self._left = int(length) // 2
            await self._passage.send(message)
            return
        body = message.get("body", b"")
        if self._kind == "garbage":
            wrong = bytes(byte ^ 0x5A for byte in body)
            await self._passage.send({**message, "body": wrong})
            return
        if self._is_cut:
            return
        part = body[: self._left]
        self._left -= len(part)
        await self._passage.send({"type": "http.response.body", "body": part, "more_body": True})
        if len(part) < len(body) or not message.get("more_body", False):
            self._is_cut = True
            if self._kind == "truncate":
                await self._passage.cut(hard=False)
            else:
                await self._passage.wait_for_disconnect()

    async def end(self) -> None:
        """After the application is through."""
        if self._kind != "garbage" and not self._is_cut:
            await self._passage.cut(hard=False)
