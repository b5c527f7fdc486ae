"""Draining the journal, in rounds: all that is due at once, in as few calls as that takes.

Who is due is told by `timetable`, what comes next for each by `decisions`, what goes together by
`core.batching`; `steps` and `uploads` carry it out. Here the rounds are made, and what fails is
seen to.

Contents are sent by tasks of their own, large files apart from small ones, while rounds go on: so
everything that comes meanwhile is in the next batch.

Dropbox's refusals are kept in the journal with the reason and tried again after some minutes, or
at once when a program changes the file; they never hold up what does not depend on them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from dbxfs.api.batches import refused_route
from dbxfs.api.errors import (
    AccessDenied,
    BadRequest,
    DropboxError,
    EndpointError,
    PathRootChanged,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from dbxfs.core import batching, plan, refusals
from dbxfs.core.backoff import delay
from dbxfs.core.batching import Member
from dbxfs.store.journal import Journal
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree, TreeError

from .decisions import FEED_FIRST, HELD_AGAIN, Decisions
from .fetcher import DamagedContentError
from .programs import Programs
from .steps import ChangedMeanwhileError, GoesOnError, Outcomes, Steps
from .switch import Switch
from .timetable import Timetable
from .uploads import FEW, Uploads

log = logging.getLogger(__name__)

ROUND = 2000
"""Inodes decided about in one round."""
LANES = 2
"""Batches of small files that are sent side by side, and of large ones."""
AT_A_TIME = 20
"""Decisions without a pause for programs."""
AGAIN = 0.1
"""Seconds after which what changed under our hands is tried again, at the earliest."""
FEED_TRIES = 5
WAIT_FOR = (Unreachable, RateLimited, ServerTrouble, Unauthorized, PathRootChanged)
"""Failures that are nobody's fault but the moment's: everything waits. Others are held alone."""
FEED_KNOWS = (("from_lookup", "not_found"), ("to", "conflict"), ("path", "conflict"))
PAUSE_CAP = 30.0
PATIENT = 3
"""Times that Dropbox may put us off before people are told."""
LOOK_AGAIN = 1.0


PAUSED = "sending is paused (dbxfs resume goes on)"


class NotSentError(Exception):
    """Dropbox does not have it, and `str()` says why; it stays in the journal.

    `code`: the kind of refusal (core.refusals), where that is known; `offline`: Dropbox has not
    refused it, it was not asked.
    """

    def __init__(self, reason: str, code: str | None = None, *, offline: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.offline = offline


@dataclass(slots=True)
class Sending:
    """Batches of contents that may be on their way at once, and who waits for that."""

    free: int
    queue: dict[int, None] = field(default_factory=dict)
    """In their order; each once, however often it was asked for."""


class Replicator:
    """Makes Dropbox equal to what programs see."""

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        staging: Staging,
        steps: Steps,
        uploads: Uploads,
        switch: Switch,
        programs: Programs,
        times: Timetable,
        together: int = batching.MOST,
    ) -> None:
        """`together`: how many may be sent at once."""
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._steps = steps
        self._uploads = uploads
        self._switch = switch
        self._programs = programs
        self._times = times
        self._together = together
        switch.on_change = self.switched
        self._busy: set[int] = set()
        """Whose content is on its way; the same set for ever, as `_decisions` looks at it."""
        self._decisions = Decisions(tree, journal, staging, times, self._busy, self._done)
        self._small, self._large = Sending(LANES), Sending(LANES)
        self._alone: set[int] = set()
        """Who failed with others and goes alone."""
        self._no_batches: set[type[plan.Call]] = set()
        """What Dropbox takes one by one only."""
        self._size = batching.Size()
        self._failures: dict[int, int] = {}
        self._in_a_row = 0
        self._progress = trio.Event()
        self.running = False
        self.trouble: str | None = None
        """Why nothing can be sent at the moment, for people; None: all is well."""

    # ---- What others call ----

    def grows_large(self, ino: int) -> None:
        """So much of the file is written that sending it can begin."""
        if ino not in self._busy:
            self._times.put_off(ino)

    def is_sending(self, ino: int) -> bool:
        """Whether the inode's content is on its way."""
        return ino in self._busy

    def sending(self) -> int | None:
        """An inode whose content is on its way, where there is one."""
        return next(iter(self._busy), None)

    def switched(self) -> None:
        """Sending was paused, or goes on."""
        self._times.wake()
        self._tell_progress()

    def connected(self) -> None:
        """Dropbox answers again."""
        self._well()
        self.hurry()

    def hurry(self) -> None:
        """Send everything now, also what was put off; only a burst is waited out."""
        self._times.go_on()
        for row in self._journal.rows():
            self._times.wait_for_others(row.ino)

    def retry(self, code: str) -> None:
        """The cause of refusals of this kind may be gone."""
        for ino in self._journal.held(code):
            self._times.put_off(ino)

    async def drained(self) -> None:
        """Return when nothing is left that can be sent; what Dropbox refuses again may remain.

        `NotSentError` when sending is paused.
        """
        self._staging.record_all()
        self._journal.forgive()
        self.hurry()
        with self._times.awaited():
            while self._journal.anything_to_send():
                if self._switch.paused:
                    raise NotSentError(PAUSED, offline=True)
                await self._progress.wait()

    async def sent(self, ino: int) -> None:
        """Return when Dropbox has the inode as it is now; `NotSentError` when it refuses."""
        self._journal.forgive(ino)
        self._times.put_off(ino)
        with self._times.awaited():
            while (row := self._journal.row(ino)) is not None:
                trouble = row.error or (PAUSED if self._switch.paused else self.trouble)
                if trouble is None and not self.running:
                    trouble = "Dropbox has not answered yet"
                if trouble is not None:
                    raise NotSentError(trouble, row.code, offline=row.error is None)
                with trio.move_on_after(LOOK_AGAIN):
                    await self._progress.wait()

    async def run(self) -> None:
        """Work for ever."""
        self.running = True
        for row in self._journal.rows():
            self._times.wait_for_others(row.ino)
        async with trio.open_nursery() as nursery:
            while True:
                due = await self._times.due(ROUND)
                await self._round(due, nursery)
                self._tell_progress()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    # ---- A round: decide for all that are due, then make the calls ----

    async def _round(self, due: Sequence[int], nursery: trio.Nursery) -> None:
        """Decide what each of them needs, and make the calls; contents go beside what follows."""
        self._decisions.begin_round()
        for number, ino in enumerate(due, 1):
            try:
                self._decisions.decide(ino)
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._mistaken([ino], error)
            if number % AT_A_TIME == 0:
                await self._programs.go_first()
        ready = self._decisions.ready
        alone = self._alone | {
            ino for ino, member in ready.items() if type(member.call) in self._no_batches
        }
        most = min(self._size.most, self._together)
        batches = batching.batches(ready.values(), most, alone)
        small = [batch for batch in batches if _is_small(batch)]
        structure = [batch for batch in batches if not _is_content(batch)]
        if small and len(small[-1]) < most and self._has_time(small[-1], bool(structure)):
            batches.remove(small[-1])
        for batch in batches:
            if _is_content(batch):
                self._begin_to_send(batch, nursery)
            else:
                await self._carry_out(batch)
        for lane in (self._small, self._large):
            if lane.free == LANES:
                # Nothing came of those that were taken from its queue, and nobody else would look.
                self._take_from_queue(lane)

    def _has_time(self, batch: list[Member], structure: bool) -> bool:
        """Whether a batch of small files that is not full can wait for more; then it does.

        Folders are made in this round that more of them wait for, or a burst goes on, and others
        have gone since it was sent last.
        """
        if self._times.somebody_waits:
            return False
        if structure and len(batch) >= FEW:
            for member in batch:
                self._times.put_off(member.ino)
            return True
        if self._times.more_to_come:
            for member in batch:
                self._times.wait_for_others(member.ino)
            return True
        return False

    def _begin_to_send(self, batch: list[Member], nursery: trio.Nursery) -> None:
        """Large files do not keep small ones waiting, nor do contents keep the rest."""
        lane = self._small if _is_small(batch) else self._large
        if lane.free == 0:
            lane.queue |= dict.fromkeys(member.ino for member in batch)
            return
        lane.free -= 1
        if lane is self._small:
            self._times.sent_small()
        self._busy.update(member.ino for member in batch)
        nursery.start_soon(self._send, batch, lane)

    async def _send(self, batch: list[Member], lane: Sending) -> None:
        try:
            await self._carry_out(batch)
        finally:
            lane.free += 1
            self._busy.difference_update(member.ino for member in batch)
        self._take_from_queue(lane)
        self._tell_progress()

    def _take_from_queue(self, lane: Sending) -> None:
        for ino in list(itertools.islice(lane.queue, ROUND)):
            del lane.queue[ino]
            self._times.put_off(ino)

    # ---- One call, for one inode or many ----

    async def _carry_out(self, batch: list[Member]) -> None:
        """Make the call, and see to what becomes of each member."""
        inos = [member.ino for member in batch]
        began = trio.current_time()
        failed: Outcomes = {}
        try:
            failed = await self._call(batch)
        except (AccessDenied, BadRequest, EndpointError) as error:
            if len(batch) == 1:
                failed = dict.fromkeys(inos, error)
            else:
                self._go_alone(batch, error)
                return
        except WAIT_FOR as error:
            if len(batch) > 1:
                self._too_much_at_once(inos, error)
            self._failed(inos, error)
            return
        except DropboxError as error:
            self._steps.doubt()
            failed = dict.fromkeys(inos, error)
        except TreeError as error:
            # One of them is gone, maybe while an answer was stored.
            self._steps.doubt()
            failed = dict.fromkeys(inos, ChangedMeanwhileError(str(error)))
        except (ChangedMeanwhileError, DamagedContentError, OSError) as error:
            failed = dict.fromkeys(inos, error)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._steps.doubt()
            self._mistaken(inos, error)
            return
        self._resized(trio.current_time() - began, failed)
        busy = [ino for ino in inos if _is_busy(failed.get(ino))]
        if len(busy) < len(inos):
            self._well()
        for ino in inos:
            if _is_busy(failed.get(ino)):
                continue
            if ino in failed:
                try:
                    self._member_failed(ino, failed[ino], together=len(batch) > 1)
                except sqlite3.Error as error:
                    self._mistaken([ino], error)
            else:
                self._times.put_off(ino)
            self._decisions.wake_waiters(ino)
        if busy:
            # One pause for all of them: Dropbox was busy once.
            self._failed(busy, failed[busy[0]])

    async def _call(self, batch: list[Member]) -> Outcomes:
        if isinstance(batch[0].call, plan.Bring):
            await self._uploads.bring(batch[0].ino)
            return {}
        if isinstance(batch[0].call, plan.Upload):
            return await self._uploads.send(batch)
        return await self._steps.carry_out(batch)

    def _resized(self, seconds: float, failed: Outcomes) -> None:
        busy = any(_is_busy(error) for error in failed.values())
        self._size = self._size.after(seconds=seconds, busy=busy)

    def _done(self, ino: int) -> None:
        self._failures.pop(ino, None)
        self._alone.discard(ino)

    # ---- What went wrong ----

    def _go_alone(self, batch: list[Member], error: DropboxError) -> None:
        """Dropbox refuses the batch as such: its members are tried one by one."""
        kind = type(batch[0].call)
        if error.doubt:
            self._steps.doubt()
        if refused_route(error):
            log.warning("no more %s calls for many at once: %s", kind.__name__, error)
            self._no_batches.add(kind)
        else:
            log.info("%d inodes are tried one by one: %s", len(batch), error)
        for member in batch:
            self._alone.add(member.ino)
            self._times.put_off(member.ino)

    def _too_much_at_once(self, inos: Sequence[int], error: Exception) -> None:
        """Dropbox broke off: the batch may have been too large for it."""
        if not (isinstance(error, ServerTrouble | Unreachable) and error.doubt):
            return
        if len(inos) <= batching.FEWEST and isinstance(error, ServerTrouble):
            # One of them may be what Dropbox cannot take.
            self._alone.update(inos)
        self._size = self._size.after(seconds=0, busy=True)

    def _member_failed(self, ino: int, error: Exception, *, together: bool) -> None:
        if self._tree.find(ino) is None:
            self._times.drop(ino)
        elif isinstance(error, EndpointError) and together and not _is_understood(error):
            # It may be refused only because of the others.
            self._alone.add(ino)
            self._times.put_off(ino, AGAIN)
        elif isinstance(error, EndpointError):
            self._refused(ino, error)
        elif isinstance(error, DropboxError):
            self._hold_at_last(ino, error, passing=isinstance(error, UnexpectedReply))
        elif isinstance(error, GoesOnError):
            self._times.put_off(ino)
        elif isinstance(error, ChangedMeanwhileError):
            log.debug("inode %d: %s", ino, error)
            self._times.put_off(ino, max(self._times.settle_delay, AGAIN))
        else:
            self._decisions.hold(ino, str(error))

    def _mistaken(self, inos: Sequence[int], error: Exception) -> None:
        """A mistake of ours with one inode must not end the mount for all, nor hold up others."""
        log.error("inodes %s could not be worked on", inos[:5], exc_info=error)
        for ino in inos:
            if len(inos) > 1:
                self._alone.add(ino)
                self._times.put_off(ino)
                continue
            self._times.put_off(ino, HELD_AGAIN)
            with contextlib.suppress(sqlite3.Error):
                self._decisions.hold(ino, f"internal error ({type(error).__name__}); see the log")
            self._decisions.wake_waiters(ino)

    def _refused(self, ino: int, error: EndpointError) -> None:
        """Dropbox will not do this one: later, after the feed, or after a look by a person."""
        self._hold_at_last(ino, error, passing=any(error.has(*tags) for tags in FEED_KNOWS))

    def _hold_at_last(self, ino: int, error: DropboxError, *, passing: bool) -> None:
        """Try what may be over in a moment a few times before people are told."""
        failures = self._failures[ino] = self._failures.get(ino, 0) + 1
        if passing and failures <= FEED_TRIES:
            self._times.put_off(ino, FEED_FIRST * failures)
        else:
            code = refusals.code_of(getattr(error, "tags", ()))
            known = refusals.find(code)
            self._decisions.hold(ino, f"{known.reason} ({error})" if known else str(error), code)

    def _failed(self, inos: Sequence[int], error: Exception) -> None:
        """Dropbox cannot be reached, or asks for patience: everything waits a while."""
        if getattr(error, "doubt", True):
            self._steps.doubt()
        pause = delay(self._in_a_row, base=0.5, cap=PAUSE_CAP, random=random.random())  # noqa: S311
        if isinstance(error, RateLimited | ServerTrouble) and error.retry_after:
            pause = max(pause, error.retry_after)
        self._in_a_row += 1
        self._times.back_off(pause, inos)
        for ino in inos:
            self._decisions.wake_waiters(ino)
        if self._in_a_row <= PATIENT and (isinstance(error, RateLimited) or _is_busy(error)):
            # It asks for a moment's patience, and nobody need know.
            return
        if self.trouble is None:
            log.warning("changes cannot be sent: %s", error)
        self.trouble = str(error)

    def _well(self) -> None:
        self._in_a_row, self.trouble = 0, None


def _is_content(batch: Sequence[Member]) -> bool:
    return isinstance(batch[0].call, plan.Upload | plan.Bring)


def _is_small(batch: Sequence[Member]) -> bool:
    return isinstance(batch[0].call, plan.Upload) and batch[0].size <= batching.SMALL


def _is_understood(error: EndpointError) -> bool:
    """Whether the reason for a refusal lies in the inode itself, or in what the feed will tell."""
    known = refusals.find(refusals.code_of(error.tags)) is not None
    return known or any(error.has(*tags) for tags in FEED_KNOWS)


def _is_busy(error: Exception | None) -> bool:
    """Whether Dropbox was at work on another change."""
    return "too_many_write_operations" in getattr(error, "tags", ())
