"""Programs at work in the mount go first: what can wait is done in their pauses.

The event loop is one thread. A program's operation is a chain of requests, each asked for when the
one before is answered; where a few milliseconds of other work came between any two of them, it
would take many times as long. So whoever has much to do does it in small pieces, and between them
waits for a pause, for a little while.
"""

from __future__ import annotations

import math

import trio

PAUSE = 0.001
"""Seconds without a request after which a program has stopped to think."""
PATIENCE = 0.02
"""Seconds to wait for that, at the most."""
LATELY = 2.0
"""Seconds after a request in which the next ones are likely to come."""
SHARE = 2.0
"""What a program may have of the time for each second of other work: that must get on as well."""


class Programs:
    """Knows when programs ask for something."""

    def __init__(self) -> None:
        self._under_way = 0
        self._answered = self._resumed = -math.inf

    def asked(self) -> None:
        """There is a request."""
        self._under_way += 1

    def answered(self) -> None:
        """A request is answered."""
        self._under_way -= 1
        self._answered = trio.current_time()

    def _were_here(self, seconds: float) -> bool:
        return self._under_way > 0 or trio.current_time() < self._answered + seconds

    def were_here_lately(self) -> bool:
        """Whether one is likely to ask for something soon."""
        return self._were_here(LATELY)

    async def go_first(self) -> None:
        """Return when no program is at work, or after a little while."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        deadline = now + min(PATIENCE, SHARE * (now - self._resumed))
        # No event: the pause begins again with each request, thousands of times a second.
        while self._were_here(PAUSE) and trio.current_time() < deadline:  # noqa: ASYNC110
            await trio.sleep(PAUSE)
        self._resumed = trio.current_time()
