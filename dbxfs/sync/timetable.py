"""When it is whose turn: after settling, after a burst, after a pause that Dropbox asked for.

An inode is due when it has been left alone for the settle delay, so that a file that is created and
removed at once, or saved by way of a temporary file, costs nothing or one commit. While a burst of
changes lasts (`core.batching.Burst`) what has settled waits for its end, unless somebody waits for
Dropbox to have it. While sending is paused, or Dropbox has asked for patience, nothing is due.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator

import trio

from dbxfs.core import batching

from .agenda import Agenda
from .switch import Switch

SETTLE = 1.0
CEILING = 20.0
"""Seconds after which what is changed again and again is sent all the same."""


class Timetable:
    """Tells who is due."""

    def __init__(self, switch: Switch, settle: float = SETTLE) -> None:
        """`settle`: seconds that an inode must be left alone before it is sent."""
        self.settle_delay = settle
        self._switch = switch
        self._agenda = Agenda()
        self._burst = batching.Burst()
        self._changed = 0
        """Which inode was changed last."""
        self._sent_some = False
        """Whether small files have gone since a burst was sent last."""
        self._awaited = 0
        """How many wait for something to be on Dropbox."""
        self._resume_at = 0.0
        self._asleep_until = -math.inf
        self._wake = trio.Event()

    # ---- What programs do ----

    def changed(self, ino: int) -> None:
        """The inode is due when it has settled."""
        now = trio.current_time()
        if self.settle_delay and ino != self._changed:
            # One that is written to all the time makes no burst, nor holds up others.
            self._burst = self._burst.changed(now)
            self._changed = ino
        self._agenda.settle(ino, now, self.settle_delay, CEILING)
        if self._next_time() < self._asleep_until:
            self.wake()

    def replaced(self, old: int, new: int) -> None:
        """A file was renamed over another one: it goes when that would have gone at the latest."""
        self._agenda.hand_on(old, new)

    def opened(self) -> None:
        """A program opens something: in a burst it is not over yet, so it goes on alone."""
        self._burst = self._burst.read(trio.current_time())

    # ---- What has become of it ----

    def put_off(self, ino: int, seconds: float = 0) -> None:
        """It is due in so many seconds, burst or not."""
        self._agenda.put(ino, trio.current_time() + seconds)
        self.wake()

    def is_put_off(self, ino: int) -> bool:
        """Whether it is due later than what has just been changed."""
        return self._agenda.due(ino) > trio.current_time() + self.settle_delay

    def wait_for_others(self, ino: int) -> None:
        """It is due with what settles next."""
        self._agenda.settle(ino, trio.current_time(), 0, CEILING)
        self.wake()

    def drop(self, ino: int) -> None:
        """It is not due any more."""
        self._agenda.drop(ino)

    def sent_small(self) -> None:
        """Small files are on their way."""
        self._sent_some = True

    def back_off(self, seconds: float, inos: Iterable[int]) -> None:
        """Nothing is due for so long, and then these."""
        self._sent_some = False
        self._resume_at = trio.current_time() + seconds
        for ino in inos:
            # One time for all, so that they go together again.
            self._agenda.put(ino, self._resume_at)
        self.wake()

    def go_on(self) -> None:
        """What `back_off` asked for is not waited out."""
        self._resume_at = 0.0
        self.wake()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """While it lasts, somebody waits for Dropbox to have it: no burst is waited out."""
        self._awaited += 1
        self.wake()
        try:
            yield
        finally:
            self._awaited -= 1

    # ---- Who is due ----

    @property
    def somebody_waits(self) -> bool:
        """Whether somebody waits for Dropbox to have something."""
        return self._awaited > 0

    @property
    def more_to_come(self) -> bool:
        """Whether a burst goes on, of which some has gone already."""
        return self._sent_some and self._burst.goes_on(trio.current_time())

    async def due(self, most: int) -> list[int]:
        """Wait until any are due; give the first of them."""
        while True:
            now = trio.current_time()
            until = now + self.settle_delay if self._burst.is_over(now) else now
            if now >= self._opens() and self._agenda.admit(now, until):
                self._burst = self._burst.sent(now)
                self._sent_some = False
            if now >= self._resumes() and (due := self._agenda.take(now, most)):
                return due
            self._wake = trio.Event()
            self._asleep_until = self._next_time()
            with trio.CancelScope(deadline=self._asleep_until):
                await self._wake.wait()

    def wake(self) -> None:
        """Look again who is due."""
        self._wake.set()

    def _next_time(self) -> float:
        """When there is something to do."""
        settled = max(self._agenda.next_settled(), self._opens())
        return min(settled, max(self._agenda.next_time(), self._resumes()))

    def _resumes(self) -> float:
        """When what is due may be worked on."""
        return math.inf if self._switch.paused else self._resume_at

    def _opens(self) -> float:
        """When what has settled may be worked on."""
        return self._resumes() if self.somebody_waits else max(self._resumes(), self._burst.opens())
