"""Lanes: how many calls of one sort may run at once, and when the next may go.

Dropbox limits sorts of calls separately, and so must we: a `Retry-After` for commits must not stop
an `ls`, and a hundred downloads must not keep a small listing waiting. Each lane is a limit on
calls in flight plus a `Hold`, the time before which none may start.

`Hold` is the decision and is pure, times come in as arguments; `Lane` is the thin waiter around
it. One limiter for everything with priorities was rejected: a priority decides who goes next, but
cannot keep room for a sort of call that is not there yet.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dbxfs.api.errors import RateLimited

PROPERTIES = 4
"""Calls at once that set properties: there is one for each file, and no batch."""


class Hold:
    """The time before which no call may start; in seconds of any one clock."""

    def __init__(self) -> None:
        self._until = -math.inf
        self.reason = "too_many_requests"

    def extend(self, now: float, seconds: float, reason: str) -> None:
        """No call before `now + seconds`. A hold that lasts longer already stays."""
        if now + seconds > self._until:
            self._until = now + seconds
            self.reason = reason

    def remaining(self, now: float) -> float:
        """Seconds until a call may start; 0 when it may."""
        return max(0.0, self._until - now)


class Lane:
    """At most `limit` calls at once, none before a pause is over."""

    def __init__(self, limit: int) -> None:
        self._limiter = trio.CapacityLimiter(limit)
        self._hold = Hold()

    def pause(self, seconds: float, reason: str = "too_many_requests") -> None:
        """Start no call of this lane for so many seconds. Calls in flight go on."""
        self._hold.extend(trio.current_time(), seconds, reason)

    @asynccontextmanager
    async def slot(self, patience: float = math.inf) -> AsyncIterator[None]:
        """Hold one place in the lane.

        Waits for a free place, and for the end of a pause. A pause that outlasts `patience`
        (seconds from now) raises RateLimited at once: nobody gains by waiting for it.
        """
        deadline = trio.current_time() + patience
        await self._until_open(deadline)
        # Not on behalf of the task: one task may have several downloads open.
        place = object()
        await self._limiter.acquire_on_behalf_of(place)
        try:
            await self._until_open(deadline)
            yield
        finally:
            self._limiter.release_on_behalf_of(place)

    async def _until_open(self, deadline: float) -> None:
        while True:
            now = trio.current_time()
            wait = self._hold.remaining(now)
            if wait <= 0:
                return
            if now + wait > deadline:
                raise RateLimited(self._hold.reason, wait)
            await trio.sleep(wait)


class Lanes:
    """The lanes of one account.

    Commits go one at a time, because Dropbox holds a lock per namespace and refuses the second
    (`too_many_write_operations`). The other limits are what keeps a usual link full.
    """

    def __init__(self, *, metadata: int = 8, download: int = 32, append: int = 8) -> None:
        self.metadata = Lane(metadata)
        self.download = Lane(download)
        self.append = Lane(append)
        self.commit = Lane(1)
        self.properties = Lane(PROPERTIES)
        self.longpoll = Lane(1)
        self.connections = metadata + download + append + PROPERTIES + 2
        """How many connections all lanes together can use at once."""
