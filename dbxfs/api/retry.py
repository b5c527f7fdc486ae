"""Whether a failed call is made again, and when. Pure.

Reads are repeated on everything that may pass by itself. Calls that change something are repeated
only when it is certain that nothing was done: on a rate limit, and when the request was never
sent whole. In doubt they are not, since only the caller can look whether the work was done.

All of it ends with the caller's patience: a program waits on the other side.
"""

from __future__ import annotations

from dbxfs.api.errors import (
    DropboxError,
    RateLimited,
    ServerTrouble,
    UnexpectedReply,
    Unreachable,
)
from dbxfs.core.backoff import delay

FIRST_WAIT = 0.5
"""Seconds: the ceiling of the first wait."""

LONGEST_WAIT = 8.0
"""Seconds: the ceiling of all waits that Dropbox did not ask for."""


def wait(
    error: DropboxError,
    *,
    attempt: int,
    elapsed: float,
    patience: float,
    writing: bool,
    random: float,
) -> float | None:
    """Seconds to wait before the call is made again; None: raise `error`.

    `attempt` counts the failures before this one, `elapsed` the seconds since the call was first
    made, `random` is in [0, 1). A wait that Dropbox asked for is never shortened: where it does
    not fit into the patience that is left, there is no further attempt.
    """
    left = patience - elapsed
    if left <= 0 or not _may_repeat(error, attempt, writing):
        return None
    asked = asked_for(error)
    if asked is not None and asked > left:
        return None
    own = delay(attempt, base=FIRST_WAIT, cap=LONGEST_WAIT, random=random)
    return max(asked or 0.0, min(own, left))


def asked_for(error: DropboxError) -> float | None:
    """Seconds that Dropbox asked to wait; None: it did not."""
    if isinstance(error, RateLimited | ServerTrouble):
        return error.retry_after
    return None


def _may_repeat(error: DropboxError, attempt: int, writing: bool) -> bool:
    if isinstance(error, RateLimited):
        return True
    if isinstance(error, Unreachable | ServerTrouble):
        return not (writing and error.doubt)
    # A garbled reply may be a hiccup of something in between; a second one is not.
    return isinstance(error, UnexpectedReply) and not writing and attempt == 0
