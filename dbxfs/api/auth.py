"""Who we are to Dropbox: the two ways to put a token on a request, as `httpx.Auth` flows.

`StaticToken` sends the token that it was given. `RefreshingToken` keeps a short-lived access token
that it gets for a refresh token (OAuth 2, RFC 6749 section 6): before the first request, when the
old one is about to expire, and when Dropbox says that it has expired (a suspended machine's clock
does not notice). However many requests run into that together, one refresh is made; the others
wait for it.

The refresh belongs into the flow and not around the calls, because then every kind of request has
it, an upload's too, and the retry of what failed stays in one place above. Failures of the refresh
itself are raised as what they are; `doubt` is false for them, as the call was not made.

Secrets appear in no repr and no message.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import NoReturn

import httpx
import trio

from dbxfs.api import replies, wire
from dbxfs.api.errors import (
    BadRequest,
    DropboxError,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
)

TOKEN_URL = "https://api.dropboxapi.com/oauth2/token"  # noqa: S105

EARLY = 60.0
"""Seconds before its end at which an access token is renewed."""

_RENEWABLE = ("expired_access_token", "invalid_access_token")


class StaticToken(httpx.Auth):
    """An access token that is used as it is. ValueError when it cannot be one."""

    def __init__(self, token: str) -> None:
        self._token = checked("access token", token)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the token on the request."""
        _sign(request, self._token)
        yield request

    def __repr__(self) -> str:
        return "StaticToken(***)"


class RefreshingToken(httpx.Auth):
    """Access tokens got for a refresh token. For trio.

    Without `app_secret` this is the flow of an app that is handed to users (PKCE). ValueError for
    values that cannot be tokens or keys.
    """

    requires_response_body = True

    def __init__(
        self,
        refresh_token: str,
        app_key: str,
        app_secret: str | None = None,
        token_url: str = TOKEN_URL,
    ) -> None:
        self._refresh_token = checked("refresh token", refresh_token)
        self._app_key = checked("app key", app_key)
        self._app_secret = None if app_secret is None else checked("app secret", app_secret)
        self._token_url = httpx.URL(token_url)
        self._token: str | None = None
        self._good_until = 0.0
        self._lock = trio.Lock()

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign the request, with a new token where one is needed.

        Raises Unauthorized when Dropbox refuses a new one for good, else what the token endpoint
        answered (RateLimited, ServerTrouble, UnexpectedReply).
        """
        if self._stale(None):
            async with self._lock:
                if self._stale(None):
                    await self._take((yield self._refresh()))
        used = self._token
        _sign(request, used or "")
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        if not await _renewable(response):
            return
        async with self._lock:
            if self._stale(used):
                await self._take((yield self._refresh()))
        _sign(request, self._token or "")
        yield request

    def sync_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Not offered: the one-refresh rule needs trio."""
        raise TypeError("RefreshingToken works with httpx.AsyncClient only")

    def _stale(self, used: str | None) -> bool:
        """Whether a new token is needed by one whose request with `used` was refused."""
        if self._token is None or self._token == used:
            return True
        return trio.current_time() >= self._good_until

    def _refresh(self) -> httpx.Request:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token,
            "client_id": self._app_key,
        }
        if self._app_secret is not None:
            form["client_secret"] = self._app_secret
        return httpx.Request("POST", self._token_url, data=form)

    async def _take(self, response: httpx.Response) -> None:
        token = granted(response.status_code, response.headers, await response.aread())
        self._token = token.access_token
        lasts = float("inf") if token.expires_in is None else token.expires_in
        # A token that lives shorter than the margin must still serve once.
        self._good_until = trio.current_time() + max(lasts - EARLY, lasts / 2)

    def __repr__(self) -> str:
        return f"RefreshingToken(***, app_key={self._app_key!r})"


def granted(status: int, headers: httpx.Headers, body: bytes) -> wire.Token:
    """The reply of oauth2/token as tokens.

    Raises Unauthorized for a refusal (RFC 6749 section 5.2 names it), RateLimited, ServerTrouble
    or UnexpectedReply for the rest.
    """
    if status == httpx.codes.OK:
        try:
            token = wire.read(body, wire.Token)
            checked("access token", token.access_token)
            if token.refresh_token is not None:
                checked("refresh token", token.refresh_token)
        except ValueError:
            raise UnexpectedReply("oauth2/token sent no token", doubt=False) from None
        return token
    if status in (400, 401):
        raise _refused(body)
    error: DropboxError = replies.refusal("oauth2/token", status, headers, body)
    if isinstance(error, ServerTrouble):
        error.doubt = False
    raise error


def _refused(body: bytes) -> DropboxError:
    try:
        document = wire.plain(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        detail = document.get("error_description")
        return Unauthorized(document["error"], detail if isinstance(detail, str) else "")
    return BadRequest(body.decode("utf-8", "replace") or "oauth2/token refused without a reason")


async def _renewable(response: httpx.Response) -> bool:
    body = await response.aread()
    error = replies.refusal("", response.status_code, response.headers, body)
    return isinstance(error, Unauthorized) and error.tag in _RENEWABLE


def checked(what: str, value: str) -> str:
    """`value` if it can stand in a header; ValueError, which does not show it, if not."""
    if not value:
        raise ValueError(f"the {what} is empty")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"the {what} contains characters that no {what} has")
    return value


def _sign(request: httpx.Request, token: str) -> None:
    request.headers["Authorization"] = f"Bearer {token}"
