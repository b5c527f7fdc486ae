"""The application: from an HTTP request to a call of the API, and from its end to an answer.

The order of checks is the service's: the route, the token, its scope, the member, the path root,
the content type, the argument. What a handler refuses while a body is still coming is answered
after the body's end, because a client that is sending does not listen.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as HttpRoute
from starlette.types import ASGIApp

from dbxfs.demo import (  # noqa: F401 — the handlers enter themselves into the table
    control,
    listing,
    oauth,
    packing,
    properties,
    reading,
    searching,
    sharing,
    uploading,
    users,
    writing,
)
from dbxfs.demo.account import TEAM_MEMBER_ID, Account, View
from dbxfs.demo.network import Network
from dbxfs.demo.routes import ROUTES, Call, Route, route
from dbxfs.demo.sessions import Sessions
from dbxfs.demo.users import root_info
from dbxfs.demo.wire import (
    RefusedError,
    bad_call,
    bad_path_root,
    decode,
    encode,
    unauthorized,
)

RPC_TYPES = ("application/json", "text/plain; charset=dropbox-cors-hack")
UPLOAD_TYPES = ("application/octet-stream", "text/plain; charset=dropbox-cors-hack")
DOWNLOAD_TYPES = ("", "text/plain", "application/octet-stream")
LARGEST_ARGUMENT = 16 * 1024 * 1024
"""Bytes of JSON in a body."""


@route("auth/token/revoke", None, "")
async def revoke_token(call: Call, _argument: None) -> None:
    oauth.revoke(call.account, call.token)


class Service:
    """The embedded Dropbox as an ASGI application over an account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.sessions = Sessions(account)
        inner = Starlette(
            routes=[
                HttpRoute("/2/{name:path}", self._call, methods=["POST", "GET"]),
                HttpRoute("/1/view/{token}/file", self._view, methods=["GET"]),
                HttpRoute("/scl/{kind}/{token}/{name}", self._show_link, methods=["GET"]),
                HttpRoute("/oauth2/authorize", self._authorize, methods=["GET", "POST"]),
                HttpRoute("/oauth2/token", self._token, methods=["POST"]),
                *control.routes(self),
            ]
        )
        self.network = Network(inner)
        self.app: ASGIApp = self.network

    async def _call(self, request: Request) -> Response:
        name = request.path_params["name"]
        ident = secrets.token_hex(16)
        try:
            response = await self._answer(name, request)
        except RefusedError as refused:
            await _drain(request)
            response = _refusal(refused)
        except ClientDisconnect:
            response = PlainTextResponse("the client went away", 400)
        response.headers["X-Dropbox-Request-Id"] = ident
        return response

    async def _answer(self, name: str, request: Request) -> Response:
        found = ROUTES.get(name)
        if found is None:
            raise RefusedError(400, f'Unknown API function: "{name}"')
        if request.method != "POST" and found.style != "download":
            raise bad_call(found.name, "this function must be called with POST")
        token = self._authenticate(found, request)
        view = self._view_of(found, request)
        argument = await _argument(found, request)
        call = Call(self.account, self.sessions, view, found.name, request, token)
        result: Any = await found.handler(call, argument)
        if isinstance(result, Response):
            return result
        return Response(encode(result), media_type="application/json")

    def _authenticate(self, found: Route, request: Request) -> str:
        header = request.headers.get("authorization")
        if found.auth == "none":
            if header:
                message = "this function does not take an Authorization header"
                raise bad_call(found.name, message)
            return ""
        if header is None:
            message = 'Must provide HTTP header "Authorization" or URL parameter "authorization".'
            raise bad_call(found.name, message)
        kind, _, value = header.partition(" ")
        if found.auth == "app":
            oauth.check_app(found.name, kind, value)
            return ""
        if kind.lower() != "bearer" or not value:
            message = (
                'Invalid authorization value in HTTP header "Authorization". Expecting "Bearer"'
            )
            raise bad_call(found.name, message)
        token = oauth.check_token(self.account, value)
        if found.scope and found.scope not in token.scopes:
            raise unauthorized("missing_scope", required_scope=found.scope)
        self._check_member(request)
        return value

    def _check_member(self, request: Request) -> None:
        for kind in ("user", "admin"):
            member = request.headers.get(f"dropbox-api-select-{kind}")
            if member is not None and not (self.account.in_team and member == TEAM_MEMBER_ID):
                raise unauthorized(f"invalid_select_{kind}")

    def _view_of(self, found: Route, request: Request) -> View:
        """What the path root header asks for. Raises 400, 422."""
        account = self.account
        header = request.headers.get("dropbox-api-path-root")
        if header is None:
            return account.home
        try:
            value = json.loads(header)
            tag = value[".tag"]
            ident = "" if tag == "home" else str(value[tag])
        except (ValueError, KeyError, TypeError):
            message = 'HTTP header "Dropbox-API-Path-Root": could not decode input as JSON'
            raise bad_call(found.name, message) from None
        if tag == "home":
            return account.home
        if tag == "root":
            if ident != account.root.namespace:
                raise bad_path_root("invalid_root", invalid_root=root_info(account))
            return account.root
        if tag != "namespace_id":
            raise bad_call(found.name, f'HTTP header "Dropbox-API-Path-Root": invalid tag {tag!r}')
        view = account.namespace_view(ident)
        if view is None:
            raise bad_path_root("no_permission")
        return view

    async def _view(self, request: Request) -> Response:
        return reading.temporary_link(self.account, request, request.path_params["token"])

    async def _show_link(self, request: Request) -> Response:
        return sharing.show_link(self.account, request)

    async def _authorize(self, request: Request) -> Response:
        return await oauth.authorize(self.account, request)

    async def _token(self, request: Request) -> Response:
        try:
            return await oauth.token(self.account, request)
        except RefusedError as refused:
            return _refusal(refused)


def create_app(account: Account) -> ASGIApp:
    """The application over `account`, for Hypercorn or httpx.ASGITransport."""
    return Service(account).app


async def _argument(found: Route, request: Request) -> Any:
    """The decoded argument. Raises 400."""
    kind = request.headers.get("content-type", "").lower()
    if found.style == "rpc":
        return await _rpc_argument(found, request, kind)
    allowed = UPLOAD_TYPES if found.style == "upload" else DOWNLOAD_TYPES
    if kind not in allowed and kind.partition(";")[0] not in allowed:
        expected = ", ".join(f'"{each}"' for each in allowed if each)
        message = f'Bad HTTP "Content-Type" header: "{kind}". Expecting one of {expected}.'
        raise bad_call(found.name, message)
    raw = request.headers.get("dropbox-api-arg")
    where = 'HTTP header "Dropbox-API-Arg"'
    if raw is None:
        raw = request.query_params.get("arg")
        where = 'URL parameter "arg"'
    elif not raw.isascii():
        raw = _utf8(found, where, raw)
    if raw is None:
        message = 'Must provide HTTP header "Dropbox-API-Arg" or URL parameter "arg".'
        raise bad_call(found.name, message)
    return decode(found.argument, found.name, where, raw)


def _utf8(found: Route, where: str, raw: str) -> str:
    """A header that was not escaped: some clients send UTF-8, and the service takes it."""
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError:
        raise bad_call(found.name, f"{where}: could not decode input as JSON") from None


async def _rpc_argument(found: Route, request: Request, kind: str) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_ARGUMENT:
            raise bad_call(found.name, "request body: too large")
    if found.argument is None:
        if kind and body and kind.partition(";")[0] not in ("application/json", "text/plain"):
            raise _bad_rpc_type(found, kind)
        if bytes(body).strip() not in (b"", b"null"):
            raise bad_call(found.name, "request body: expected null, got value")
        return None
    if kind != RPC_TYPES[1] and kind.partition(";")[0] != RPC_TYPES[0]:
        raise _bad_rpc_type(found, kind)
    return decode(found.argument, found.name, "request body", bytes(body))


def _bad_rpc_type(found: Route, kind: str) -> RefusedError:
    message = f'Bad HTTP "Content-Type" header: "{kind}". Expecting one of "application/json".'
    return bad_call(found.name, message)


async def _drain(request: Request) -> None:
    """Reads what is left of a body."""
    try:
        async for _ in request.stream():
            pass
    except (ClientDisconnect, RuntimeError):
        """Gone, or read to its end already."""


def _refusal(refused: RefusedError) -> Response:
    if isinstance(refused.body, str):
        return PlainTextResponse(refused.body, refused.status, headers=refused.headers)
    return Response(
        encode(refused.body),
        refused.status,
        headers=refused.headers,
        media_type="application/json",
    )
