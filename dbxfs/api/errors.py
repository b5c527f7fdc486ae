"""What can go wrong between here and Dropbox, as few and precise exceptions.

Each kind answers one question of a caller: whose mistake it is, whether trying again can help,
and whether the work may have been done all the same. The last is `doubt`, and it matters more
than the rest: a request whose reply was lost must not be repeated blindly, one that never left
must not be looked for.

Errors of an endpoint are open unions on the wire. They are kept as the chain of their tags,
("path", "conflict", "file"), and not as one class per variant: there are hundreds, new ones come
without notice, and callers ask for very few. `error_summary` is for people and never matched.

No message carries an access token: texts that come from outside go through `scrub`.
"""

# ruff: noqa: N818  (the names say what happened; all of them end in DropboxError above)

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(r"(?i)(bearer\s+)[^\s\"',;]+|\bsl\.[A-Za-z0-9_.-]{8,}")
_LONGEST_TEXT = 500


def scrub(text: str) -> str:
    """A text from outside, fit for a message: one line, of bounded length, without tokens."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    line = _TOKEN.sub(lambda found: (found.group(1) or "") + "***", line)
    return line if len(line) <= _LONGEST_TEXT else line[:_LONGEST_TEXT] + "…"


class DropboxError(Exception):
    """Anything that a call to Dropbox raises. `str()` is one line for people."""

    doubt: bool = False
    """True when the work may have been done although the call failed."""


class Unreachable(DropboxError):
    """No complete reply: no connection, a time-out, or a connection that was cut."""

    def __init__(self, text: str, *, doubt: bool) -> None:
        super().__init__(f"Dropbox cannot be reached: {scrub(text)}")
        self.doubt = doubt


class ServerTrouble(DropboxError):
    """HTTP 5xx: Dropbox's own trouble, to be tried again later.

    `retry_after`: seconds, where Dropbox named them.
    """

    def __init__(
        self, status: int, retry_after: float | None = None, *, doubt: bool = True
    ) -> None:
        super().__init__(f"Dropbox has a problem of its own (HTTP {status})")
        self.status = status
        self.retry_after = retry_after
        self.doubt = doubt


class RateLimited(DropboxError):
    """HTTP 429: nothing was done; come back after `retry_after` seconds (None: not said).

    `reason` is "too_many_requests", "too_many_write_operations" or one not known yet.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        when = "later" if retry_after is None else f"in {retry_after:g} s"
        super().__init__(f"Dropbox asks to come back {when} ({scrub(reason)})")
        self.reason = reason
        self.retry_after = retry_after


class Unauthorized(DropboxError):
    """HTTP 401, or a refused token refresh: log in again, or allow the app more.

    `tag`: "invalid_access_token", "expired_access_token", "missing_scope", "invalid_grant"…
    """

    def __init__(self, tag: str, detail: str = "") -> None:
        more = f": {scrub(detail)}" if detail else ""
        remedy = (
            "allow the app what it lacks in its settings on dropbox.com, and sign in again"
            if tag == "missing_scope"
            else "sign in again (dbxfs login), then unmount and mount"
        )
        super().__init__(f"Dropbox does not accept the login ({scrub(tag)}{more}); {remedy}")
        self.tag = tag


class AccessDenied(DropboxError):
    """HTTP 403: the account may not use this call. `tags` as in `EndpointError`."""

    def __init__(self, tags: tuple[str, ...], summary: str) -> None:
        super().__init__(f"Dropbox denies access: {_said(tags, summary)}")
        self.tags = tags


class BadRequest(DropboxError):
    """HTTP 400 or 416: the call was malformed, which is a mistake on this side."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Dropbox did not understand the request: {scrub(text)}")
        self.text = scrub(text)


class PathRootChanged(DropboxError):
    """HTTP 422: the path root is no longer the account's.

    `root_namespace` and `home_namespace` are the ones that hold now; None where Dropbox does not
    say them (`no_permission`).
    """

    def __init__(self, root_namespace: str | None, home_namespace: str | None) -> None:
        now = f"now {root_namespace}" if root_namespace else "not permitted"
        super().__init__(f"the account's root namespace changed ({scrub(now)})")
        self.root_namespace = root_namespace
        self.home_namespace = home_namespace


class UnexpectedReply(DropboxError):
    """A reply that is not what the API documents: no JSON, another shape, a foreign status."""

    def __init__(self, text: str, *, doubt: bool) -> None:
        super().__init__(f"unexpected reply: {scrub(text)}")
        self.doubt = doubt


class EndpointError(DropboxError):
    """HTTP 409: the endpoint refused, for a reason that its error union names.

    `tags` is the chain of the nested tags, outermost first: ("path", "conflict", "file").
    `payload` holds the plain values found beside the tags, such as `correct_offset`.
    """

    def __init__(
        self,
        tags: tuple[str, ...],
        summary: str,
        payload: Mapping[str, Any] | None = None,
        *,
        route: str = "",
    ) -> None:
        where = f"{route}: " if route else ""
        super().__init__(f"Dropbox refused: {where}{_said(tags, summary)}")
        self.tags = tags
        self.summary = summary
        self.payload: dict[str, Any] = dict(payload or {})
        self.route = route

    def has(self, *tags: str) -> bool:
        """Whether these tags stand in the chain one after the other, wherever they begin.

        Endpoints wrap the same reason differently ("path" here, "path_lookup" or "to" there), so
        `has("not_found")` and `has("conflict", "folder")` hold for all of them.
        """
        width = len(tags)
        return any(self.tags[at : at + width] == tags for at in range(len(self.tags) - width + 1))


class CursorReset(EndpointError):
    """The cursor is no longer good: list again from the beginning."""


class IncorrectOffset(EndpointError):
    """The upload session has another number of bytes than the call said: `correct_offset`."""

    def __init__(
        self,
        tags: tuple[str, ...],
        summary: str,
        payload: Mapping[str, Any],
        *,
        route: str = "",
    ) -> None:
        super().__init__(tags, summary, payload, route=route)
        self.correct_offset: int = payload["correct_offset"]


def _said(tags: tuple[str, ...], summary: str) -> str:
    return scrub("/".join(tags) or summary or "no reason given")
