"""From a reply's status, headers and body to the error that it means. Pure.

The statuses are the API reference's: 400 malformed, 401 token, 403 access, 409 the endpoint's own
union, 422 path root, 429 rate, 5xx trouble. Whatever else comes, or comes in another shape, is an
`UnexpectedReply`: a captive portal's page, a proxy's refusal, a changed API.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from dbxfs.api import wire
from dbxfs.api.errors import (
    AccessDenied,
    BadRequest,
    CursorReset,
    DropboxError,
    EndpointError,
    IncorrectOffset,
    PathRootChanged,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
)

_DEEPEST = 8
"""Unions are nested three deep at most; a peer's nonsense must not be followed for ever."""

_LONGEST_WAIT = 24 * 3600.0


def refusal(route: str, status: int, headers: Mapping[str, str], body: bytes) -> DropboxError:
    """The error that a reply without success (not 2xx) stands for."""
    if status >= 500:
        return ServerTrouble(status, retry_after(headers))
    if status in (400, 416):
        return BadRequest(body.decode("utf-8", "replace") or f"HTTP {status}")
    if status not in (401, 403, 409, 422, 429):
        return UnexpectedReply(f"{route} answered with HTTP {status}", doubt=False)
    document = _document(body)
    if status == 429:
        return _rate_limit(headers, document)
    if document is None or "error" not in document:
        if status == 401:
            return Unauthorized("unauthorized")
        return UnexpectedReply(f"{route} answered HTTP {status} without a reason", doubt=False)
    tags, payload = chain(document["error"])
    if status == 401:
        return Unauthorized(tags[0] if tags else "unauthorized", _scope(payload))
    if status == 422:
        return _path_root(payload)
    summary = document.get("error_summary")
    summary = summary if isinstance(summary, str) else ""
    if status == 403:
        return AccessDenied(tags, summary)
    return _endpoint(route, tags, summary, payload)


def chain(error: object) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The tags of a nested union, outermost first, and the plain values beside them.

    A variant's value stands under the tag's own name, or, when it is a struct that wraps another
    union, under "reason" (`UploadWriteFailed`). In its place a bare string is a tag without a
    value; further in it is a value, such as the text of `malformed_path`.
    """
    if isinstance(error, str):
        return (error,), {}
    tags: list[str] = []
    payload: dict[str, Any] = {}
    here: object = error
    while len(tags) < _DEEPEST:
        if not isinstance(here, dict) or not isinstance(here.get(".tag"), str):
            break
        tag = here[".tag"]
        tags.append(tag)
        payload.update(
            (key, value)
            for key, value in here.items()
            if key != ".tag" and not isinstance(value, dict | list)
        )
        here = here.get(tag, here.get("reason"))
    return tuple(tags), payload


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` header: a number, or a date (RFC 9110, 10.2.3); None: neither."""
    return _seconds(headers.get("retry-after"))


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = _until(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(min(max(value, 0), _LONGEST_WAIT))


def _until(date: object) -> float | None:
    try:
        return parsedate_to_datetime(str(date)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = wire.plain(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _rate_limit(headers: Mapping[str, str], document: dict[str, Any] | None) -> RateLimited:
    error = (document or {}).get("error")
    error = error if isinstance(error, dict) else {}
    tags, _ = chain(error.get("reason"))
    wait = retry_after(headers)
    if wait is None:
        wait = _seconds(error.get("retry_after"))
    return RateLimited(tags[0] if tags else "too_many_requests", wait)


def _scope(payload: dict[str, Any]) -> str:
    scope = payload.get("required_scope")
    return f"the app needs {scope}" if isinstance(scope, str) else ""


def _path_root(payload: dict[str, Any]) -> PathRootChanged:
    root, home = payload.get("root_namespace_id"), payload.get("home_namespace_id")
    return PathRootChanged(
        root if isinstance(root, str) else None, home if isinstance(home, str) else None
    )


def _endpoint(
    route: str, tags: tuple[str, ...], summary: str, payload: dict[str, Any]
) -> EndpointError:
    offset = payload.get("correct_offset")
    if "incorrect_offset" in tags and isinstance(offset, int) and not isinstance(offset, bool):
        return IncorrectOffset(tags, summary, payload, route=route)
    if tags == ("reset",):
        return CursorReset(tags, summary, payload, route=route)
    return EndpointError(tags, summary, payload, route=route)
