"""The table of calls: which there are, how each is spoken to and what it may be called with.

A handler gets the decoded argument and the call around it, and returns the answer as JSON values,
or a response of its own where the answer is bytes. It says no by raising (`wire.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from dbxfs.demo.account import Account, View
from dbxfs.demo.sessions import Sessions

Style = Literal["rpc", "upload", "download"]
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call: who asks for what in which view. `token` is "" for calls without a user."""

    account: Account
    sessions: Sessions
    view: View
    route: str
    request: Request
    token: str


Handler = Callable[[Call, T], Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """A call of the API. `argument` None: it takes none. `scope` "": none is asked for."""

    name: str
    style: Style
    argument: Any
    scope: str
    auth: Literal["user", "app", "none"]
    handler: Handler[Any]


ROUTES: dict[str, Route] = {}


def route(
    name: str,
    argument: type[T] | None,
    scope: str,
    *,
    style: Style = "rpc",
    auth: Literal["user", "app", "none"] = "user",
) -> Callable[[Handler[T]], Handler[T]]:
    """Enters a handler into the table."""

    def enter(handler: Handler[T]) -> Handler[T]:
        ROUTES[name] = Route(name, style, argument, scope, auth, handler)
        return handler

    return enter
