"""One call to Dropbox: through its lane, over HTTP, again where that is right, typed at the end.

Three shapes of call exist: JSON both ways (`call`), bytes up (`put`) and bytes down (`fetch`).
They share what is delicate: every httpx exception becomes `Unreachable` or `UnexpectedReply`,
every status without success the error that it means, and whether a lost call may have been done
is judged by how far its request got.

The place in the lane is held for one attempt only, and given back before a wait for the next;
a download's is held until its last byte is read.

An overall deadline is set for JSON calls, since httpx's time-outs start over with every piece
that arrives. Contents have none: they may rightly take hours, and each piece has its own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import TypeVar

import httpx
import trio

from dbxfs.api import replies, retry, wire
from dbxfs.api.body import Body
from dbxfs.api.errors import DropboxError, UnexpectedReply, Unreachable
from dbxfs.api.lanes import Lane, Lanes
from dbxfs.api.settings import Settings
from dbxfs.core.pace import Pace

T = TypeVar("T")

LONG_REPLY = 64 * 1024
"""Bytes that are decoded in a thread: a page of two thousand entries takes tens of milliseconds."""

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""What happens before the first byte of a request is sent."""

_WORDS: dict[type[BaseException], str] = {
    httpx.ConnectTimeout: "no connection within the time-out",
    httpx.ReadTimeout: "no answer within the time-out",
    httpx.WriteTimeout: "it took nothing within the time-out",
    httpx.PoolTimeout: "all connections are busy",
    httpx.ConnectError: "no connection",
    httpx.ReadError: "the connection was cut",
    httpx.WriteError: "the connection was cut",
    httpx.RemoteProtocolError: "the connection was cut",
    httpx.ProxyError: "the proxy refused",
    httpx.LocalProtocolError: "the request cannot be put into HTTP",
}


class Exchange:
    """Calls to one account's Dropbox. Made by `client.open_client`."""

    def __init__(
        self,
        settings: Settings,
        http: httpx.AsyncClient,
        lanes: Lanes,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.lanes = lanes
        self.upload_pace = _pace(settings.upload_rate)
        self.download_pace = _pace(settings.download_rate)
        self._http = http
        self._dice = dice

    async def call(
        self,
        lane: Lane,
        route: str,
        arg: object,
        decode: Callable[[bytes], T],
        *,
        writing: bool = False,
        patience: float | None = None,
        notify: bool = False,
        silence: float | None = None,
    ) -> T:
        """JSON in, JSON out. `decode` raises wire.Malformed for another shape.

        `notify` is the longpoll's host, which wants no authorisation; `silence` is another longest
        wait for the reply, in seconds.
        """
        host = self.settings.notify_url if notify else self.settings.api_url
        headers = {"Content-Type": "application/json"}
        longest = self.settings.call_timeout if silence is None else silence

        async def once(left: float) -> T:
            async with lane.slot(left):
                request = self._request(
                    f"{host}/2/{route}",
                    headers if notify else {**headers, **self._root()},
                    wire.ascii_json(arg).encode(),
                    silence=silence,
                )
                with trio.move_on_after(longest):
                    reply = await self._reply(route, request, None, signed=not notify)
                    return await _decoded(route, reply, decode, writing)
                raise Unreachable(f"no answer within {longest:g} s", doubt=True)

        return await self._patiently(lane, once, writing, patience)

    async def put(
        self,
        lane: Lane,
        route: str,
        arg: object,
        body: Body,
        decode: Callable[[bytes], T],
        *,
        patience: float | None = None,
    ) -> T:
        """Bytes up, JSON back; never repeated in doubt.

        What `body`'s source raises is passed on.
        """
        body.pace = self.upload_pace
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(body.size),
            "Dropbox-API-Arg": wire.ascii_json(arg),
        }

        async def once(left: float) -> T:
            async with lane.slot(left):
                request = self._request(
                    f"{self.settings.content_url}/2/{route}",
                    {**headers, **self._root()},
                    body,
                    silence=self.settings.commit_timeout,
                )
                try:
                    reply = await self._reply(route, request, body, signed=True)
                finally:
                    await body.aclose()
                return await _decoded(route, reply, decode, True)

        return await self._patiently(lane, once, True, patience)

    async def fetch(
        self,
        lane: Lane,
        route: str,
        arg: object,
        headers: Mapping[str, str],
        open_reply: Callable[[httpx.Response], T],
        *,
        patience: float | None = None,
    ) -> tuple[T, AsyncExitStack]:
        """Bytes down: what `open_reply` makes of the reply once its headers are there.

        The stack holds the connection and the place in the lane; the caller closes it.
        """

        async def once(left: float) -> tuple[T, AsyncExitStack]:
            stack = AsyncExitStack()
            try:
                await stack.enter_async_context(lane.slot(left))
                request = self._request(
                    f"{self.settings.content_url}/2/{route}",
                    {"Dropbox-API-Arg": wire.ascii_json(arg), **headers, **self._root()},
                    b"",
                )
                response = await self._open(route, request, None, signed=True)
                stack.push_async_callback(response.aclose)
                return open_reply(response), stack
            except BaseException:
                await stack.aclose()
                raise

        return await self._patiently(lane, once, False, patience)

    async def _patiently(
        self,
        lane: Lane,
        once: Callable[[float], Awaitable[T]],
        writing: bool,
        patience: float | None,
    ) -> T:
        patience = self.settings.patience if patience is None else patience
        started = trio.current_time()
        attempt = 0
        while True:
            try:
                return await once(patience - (trio.current_time() - started))
            except DropboxError as error:
                # A read changes nothing, so there is nothing to be in doubt about.
                error.doubt = error.doubt and writing
                wait = self._consider(lane, error, attempt, started, writing, patience)
                if wait is None:
                    raise
            attempt += 1
            await trio.sleep(wait)

    def _consider(
        self,
        lane: Lane,
        error: DropboxError,
        attempt: int,
        started: float,
        writing: bool,
        patience: float,
    ) -> float | None:
        """Pause the lane if Dropbox asked for it; seconds until the next attempt, None: none."""
        asked = retry.asked_for(error)
        if asked is not None:
            lane.pause(asked, getattr(error, "reason", "server_trouble"))
        return retry.wait(
            error,
            attempt=attempt,
            elapsed=trio.current_time() - started,
            patience=patience,
            writing=writing,
            random=self._dice(),
        )

    def _root(self) -> dict[str, str]:
        root = self.settings.path_root
        if root is None:
            return {}
        return {"Dropbox-API-Path-Root": wire.ascii_json({".tag": "root", "root": root})}

    def _request(
        self,
        url: str,
        headers: Mapping[str, str],
        content: bytes | Body,
        silence: float | None = None,
    ) -> httpx.Request:
        timeout = self._http.timeout.as_dict()
        if silence is not None:
            timeout["read"] = silence
        return self._http.build_request(
            "POST", url, headers=dict(headers), content=content, timeout=httpx.Timeout(**timeout)
        )

    async def _open(
        self, route: str, request: httpx.Request, body: Body | None, *, signed: bool
    ) -> httpx.Response:
        """The reply with its headers, the body to be read. Raises what another status means."""
        auth = self.settings.auth if signed else None
        with mapped(request, body):
            response = await self._http.send(request, auth=auth, stream=True)
        if response.is_success:
            return response
        try:
            with mapped(request, body):
                content = await response.aread()
        finally:
            await response.aclose()
        raise replies.refusal(route, response.status_code, response.headers, content)

    async def _reply(
        self, route: str, request: httpx.Request, body: Body | None, *, signed: bool
    ) -> bytes:
        response = await self._open(route, request, body, signed=signed)
        try:
            with mapped(request, body):
                return await response.aread()
        finally:
            await response.aclose()


def _pace(rate: int | None) -> Pace | None:
    return None if rate is None else Pace(rate)


async def _decoded(route: str, reply: bytes, decode: Callable[[bytes], T], writing: bool) -> T:
    try:
        if len(reply) < LONG_REPLY:
            return decode(reply)
        with trio.CancelScope(shield=True):
            # Cancelled, a commit would be in doubt that was made.
            decoded = await trio.to_thread.run_sync(decode, reply)
    except wire.Malformed as error:
        raise UnexpectedReply(f"{route}: {error}", doubt=writing) from error
    return decoded


@contextmanager
def mapped(
    request: httpx.Request, body: Body | None = None, *, writing: bool = True
) -> Iterator[None]:
    """httpx's exceptions as ours."""
    try:
        yield
    except httpx.TransportError as error:
        doubt = writing and _doubt(error, request, body)
        raise Unreachable(why(error), doubt=doubt) from error
    except httpx.DecodingError as error:
        raise UnexpectedReply("a body that cannot be unpacked", doubt=writing) from error


def _doubt(error: httpx.TransportError, request: httpx.Request, body: Body | None) -> bool:
    """Whether the request may have been carried out although no reply came."""
    if isinstance(error, _NEVER_SENT):
        return False
    # The authorisation's own request: the call was still to be made.
    if getattr(error, "_request", None) is not request:
        return False
    return body is None or body.handed_over


def why(error: BaseException) -> str:
    """A transport's failure in words: our own, and the system's reason where it gave one."""
    words = _WORDS.get(type(error), type(error).__name__)
    cause: BaseException | None = error
    for _ in range(8):
        cause = _behind(cause)
        if isinstance(cause, OSError) and cause.strerror:
            return f"{words} ({cause.strerror})"
    return words


def _behind(error: BaseException | None) -> BaseException | None:
    """What caused an error; of several attempts (one for each address) the first."""
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return None if error is None else error.__cause__ or error.__context__
