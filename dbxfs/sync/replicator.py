"""Draining the journal, in rounds: all that is due at once, in as few calls as that takes.

What to do is decided in `core.plan`, what goes together in `core.batching`; `steps` and `uploads`
carry it out. Here is decided when, and what becomes of it where it fails. An inode's turn comes
when it has been left alone for the settle delay, so that a file that is created and removed at
once, or saved by way of a temporary file, costs nothing or one commit. What it depends on (its
folder, whoever holds its name) goes first: it is a *waiter* of that until the next round.

Contents are sent by tasks of their own, large files apart from small ones, while rounds go on: so
everything that comes meanwhile is in the next batch.

Dropbox's refusals are kept in the journal with the reason and tried again after some minutes, or
at once when a program changes the file; they never hold up what does not depend on them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
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
from dbxfs.core.model import RemotePath
from dbxfs.core.names import fold, shown_name
from dbxfs.store.journal import Journal
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree, TreeError

from .agenda import Agenda
from .fetcher import DamagedContentError
from .programs import Programs
from .steps import ChangedMeanwhileError, GoesOnError, Outcomes, Steps
from .switch import Switch
from .uploads import FEW, Uploads

log = logging.getLogger(__name__)

SETTLE = 1.0
CEILING = 20.0
"""Seconds after which what is changed again and again is sent all the same."""
ROUND = 2000
"""Inodes decided about in one round."""
AT_A_TIME = 20
"""Decisions without a pause for programs."""
AGAIN = 0.1
"""Seconds after which what changed under our hands is tried again, at the earliest."""
HELD_AGAIN = 300.0
FEED_FIRST = 1.0
"""Seconds to wait when Dropbox knows something that the feed has still to tell."""
FEED_TRIES = 5
WAIT_FOR = (Unreachable, RateLimited, ServerTrouble, Unauthorized, PathRootChanged)
"""Failures that are nobody's fault but the moment's: everything waits. Others are held alone."""
FEED_KNOWS = (("from_lookup", "not_found"), ("to", "conflict"), ("path", "conflict"))
NESTED = "duplicated_or_nested_paths"
"""Two of a batch cannot go together."""
PAUSE_CAP = 30.0
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
    queue: deque[int] = field(default_factory=deque)


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
        settle: float = SETTLE,
        together: int = batching.MOST,
    ) -> None:
        """`settle`: seconds that an inode must be left alone before it is sent.

        `together`: how many may be sent at once.
        """
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._steps = steps
        self._settle = settle
        self._together = together
        self._uploads = uploads
        self._switch = switch
        self._programs = programs
        switch.on_change = self.switched
        self._agenda = Agenda()
        self._waiters: dict[int, set[int]] = {}
        self._asked: dict[int, int] = {}
        """Who waits for an inode that had nothing to do when it was asked."""
        self._busy: set[int] = set()
        """Whose content is on its way."""
        self._small, self._large = Sending(2), Sending(2)
        self._ready: dict[int, Member] = {}
        self._decided: set[int] = set()
        self._alone: set[int] = set()
        """Who failed with others and goes alone."""
        self._no_batches: set[type[plan.Call]] = set()
        """What Dropbox takes one by one only."""
        self._size = batching.Size()
        self._burst = batching.Burst()
        self._changed = 0
        """Which inode was changed last."""
        self._sent_some = False
        """Whether small files have gone since a burst was sent last."""
        self._waiting = 0
        """How many wait for something to be on Dropbox."""
        self._failures: dict[int, int] = {}
        self._in_a_row = 0
        self._resume_at = 0.0
        self._asleep_until = -math.inf
        self._wake = trio.Event()
        self._progress = trio.Event()
        self.running = False
        self.trouble: str | None = None
        """Why nothing can be sent at the moment, for people; None: all is well."""

    # ---- What others call ----

    def pending(self, ino: int) -> None:
        """The inode has changed: it is due when it has settled."""
        now = trio.current_time()
        if self._settle and ino != self._changed:
            # One that is written to all the time makes no burst, nor holds up others.
            self._burst = self._burst.changed(now)
            self._changed = ino
        self._agenda.settle(ino, now, self._settle, CEILING)
        if self._next_time() < self._asleep_until:
            self._wake.set()

    def replaced(self, old: int, new: int) -> None:
        """A file was renamed over another one: it goes when that would have gone at the latest."""
        self._agenda.hand_on(old, new)

    def opened(self) -> None:
        """A program opens something: in a burst it is not over yet, so it goes on alone."""
        self._burst = self._burst.read(trio.current_time())

    def grows_large(self, ino: int) -> None:
        """So much of the file is written that sending it can begin."""
        if ino not in self._busy:
            self._put_off(ino, 0)

    def is_sending(self, ino: int) -> bool:
        """Whether the inode's content is on its way."""
        return ino in self._busy

    def sending(self) -> int | None:
        """An inode whose content is on its way, where there is one."""
        return next(iter(self._busy), None)

    def switched(self) -> None:
        """Sending was paused, or goes on."""
        self._wake.set()
        self._tell_progress()

    def hurry(self) -> None:
        """Send everything now, also what was put off; only a burst is waited out."""
        self._resume_at = 0.0
        for row in self._journal.rows():
            self._wait_for_others(row.ino)

    def retry(self, code: str) -> None:
        """The cause of refusals of this kind may be gone."""
        for ino in self._journal.held(code):
            self._put_off(ino, 0)

    async def drained(self) -> None:
        """Return when nothing is left that can be sent; what Dropbox refuses again may remain.

        `NotSentError` when sending is paused.
        """
        self._staging.record_all()
        self._journal.forgive()
        self.hurry()
        with self._awaited():
            while self._journal.anything_to_send():
                if self._switch.paused:
                    raise NotSentError(PAUSED, offline=True)
                await self._progress.wait()

    async def sent(self, ino: int) -> None:
        """Return when Dropbox has the inode as it is now; `NotSentError` when it refuses."""
        self._put_off(ino, 0)
        with self._awaited():
            while (row := self._journal.row(ino)) is not None:
                trouble = row.error or (PAUSED if self._switch.paused else self.trouble)
                if trouble is None and not self.running:
                    trouble = "Dropbox has not answered yet"
                if trouble is not None:
                    raise NotSentError(trouble, row.code, offline=row.error is None)
                with trio.move_on_after(LOOK_AGAIN):
                    await self._progress.wait()

    @contextlib.contextmanager
    def _awaited(self) -> Iterator[None]:
        """While it lasts, somebody waits for Dropbox to have it: no burst is waited out."""
        self._waiting += 1
        self._wake.set()
        try:
            yield
        finally:
            self._waiting -= 1

    async def run(self) -> None:
        """Work for ever."""
        self.running = True
        for row in self._journal.rows():
            self._wait_for_others(row.ino)
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                until = now + self._settle if self._burst.is_over(now) else now
                if now >= self._opens() and self._agenda.admit(now, until):
                    self._burst = self._burst.sent(now)
                    self._sent_some = False
                due = self._agenda.take(now, ROUND) if now >= self._resumes() else []
                if due:
                    await self._round(due, nursery)
                    self._tell_progress()
                    continue
                self._wake = trio.Event()
                self._asleep_until = self._next_time()
                with trio.CancelScope(deadline=self._asleep_until):
                    await self._wake.wait()

    def _next_time(self) -> float:
        """When there is something to do."""
        settled = max(self._agenda.next_settled(), self._opens())
        return min(settled, max(self._agenda.next_time(), self._resumes()))

    def _resumes(self) -> float:
        """When what is due may be worked on."""
        return math.inf if self._switch.paused else self._resume_at

    def _opens(self) -> float:
        """When what has settled may be worked on."""
        return self._resumes() if self._waiting else max(self._resumes(), self._burst.opens())

    def _put_off(self, ino: int, seconds: float) -> None:
        self._agenda.put(ino, trio.current_time() + seconds)
        self._wake.set()

    def _wait_for_others(self, ino: int) -> None:
        """It is due with what settles next."""
        self._agenda.settle(ino, trio.current_time(), 0, CEILING)
        self._wake.set()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    # ---- A round: decide for all that are due, then make the calls ----

    async def _round(self, due: Sequence[int], nursery: trio.Nursery) -> None:
        """Decide what each of them needs, and make the calls; contents go beside what follows."""
        self._ready, self._decided = {}, set()
        for number, ino in enumerate(due, 1):
            try:
                self._decide(ino)
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._mistaken([ino], error)
            if number % AT_A_TIME == 0:
                await self._programs.go_first()
        alone = self._alone | {
            ino for ino, member in self._ready.items() if type(member.call) in self._no_batches
        }
        most = min(self._size.most, self._together)
        batches = batching.batches(self._ready.values(), most, alone)
        small = [batch for batch in batches if _is_small(batch)]
        structure = [batch for batch in batches if not _is_content(batch)]
        if small and len(small[-1]) < most and self._has_time(small[-1], bool(structure)):
            batches.remove(small[-1])
        for batch in batches:
            if _is_content(batch):
                self._begin_to_send(batch, nursery)
            else:
                await self._carry_out(batch)

    def _has_time(self, batch: list[Member], structure: bool) -> bool:
        """Whether a batch of small files that is not full can wait for more; then it does.

        Folders are made in this round that more of them wait for, or a burst goes on, and others
        have gone since it was sent last.
        """
        if self._waiting:
            return False
        if structure and len(batch) >= FEW:
            for member in batch:
                self._put_off(member.ino, 0)
            return True
        if self._sent_some and self._burst.goes_on(trio.current_time()):
            for member in batch:
                self._wait_for_others(member.ino)
            return True
        return False

    def _begin_to_send(self, batch: list[Member], nursery: trio.Nursery) -> None:
        """Large files do not keep small ones waiting, nor do contents keep the rest."""
        lane = self._small if _is_small(batch) else self._large
        if lane.free == 0:
            lane.queue.extend(member.ino for member in batch)
            return
        lane.free -= 1
        self._sent_some |= lane is self._small
        self._busy.update(member.ino for member in batch)
        nursery.start_soon(self._send, batch, lane)

    async def _send(self, batch: list[Member], lane: Sending) -> None:
        try:
            await self._carry_out(batch)
        finally:
            lane.free += 1
            self._busy.difference_update(member.ino for member in batch)
        for _ in range(min(ROUND, len(lane.queue))):
            self._put_off(lane.queue.popleft(), 0)
        self._tell_progress()

    def _decide(self, ino: int) -> None:
        """Find the call that comes next for the inode, or for what it depends on."""
        chain: list[int] = []
        while ino not in self._decided and ino not in self._busy:
            self._decided.add(ino)
            if self._journal.row(ino) is None or self._tree.find(ino) is None:
                self._agenda.drop(ino)
                self._wake_waiters(ino)
                break
            who, step = ino, plan.next_step(self._journal.facts(ino))
            if isinstance(step, plan.After) and step.ino in (*chain, ino):
                self._waiters.setdefault(step.ino, set()).add(ino)
                # Who only waits for the circle is not in it.
                circle = [*chain, ino]
                who, step = self._break_circle(circle[circle.index(step.ino) :])
            if not isinstance(step, plan.After):
                self._take_up(who, step)
                break
            if step.ino in (*chain, ino):
                self._hold(ino, f"waits for inode {step.ino}, which waits for it")
                break
            if not self._may_go_first(ino, step.ino):
                break
            self._waiters.setdefault(step.ino, set()).add(ino)
            chain.append(ino)
            ino = step.ino
        else:
            if not chain and ino in self._busy:
                self._waiters.setdefault(ino, set()).add(ino)

    def _take_up(self, ino: int, step: plan.Step) -> None:
        match step:
            case plan.Done():
                self._finish(ino)
            case plan.Hold(reason):
                self._hold(ino, reason)
            case (
                plan.Bring()
                | plan.Upload()
                | plan.CreateFolder()
                | plan.Delete()
                | plan.Move()
                | plan.SetAttributes()
            ):
                self._ready[ino] = self._member(ino, step)
            case plan.After():
                raise AssertionError("the first of a chain waits for nobody")

    def _member(self, ino: int, call: plan.Call) -> Member:
        if isinstance(call, plan.Upload):
            # What is written at this moment, the tree knows later.
            staged = self._staging.peek(ino)
            return Member(ino, call, self._tree.get(ino).size if staged is None else staged.size)
        if isinstance(call, plan.Move):
            base = self._tree.base_path(ino) or call.source
            return Member(ino, call, paths=(RemotePath(fold(base)), RemotePath(fold(call.target))))
        return Member(ino, call)

    def _wake_waiters(self, ino: int) -> None:
        for waiter in self._waiters.pop(ino, ()):
            self._put_off(waiter, 0)

    def _break_circle(self, circle: list[int]) -> tuple[int, plan.Step]:
        """Who of those that wait for each other can give way, and by which step.

        A folder that is to go rather than what has to leave it: that would still be in it.
        """
        facts = [self._journal.facts(ino) for ino in circle]
        for of in sorted(facts, key=lambda of: of.must_leave is None):
            ino, step = of.ino, plan.next_step(of, in_cycle=True)
            if not isinstance(step, plan.After):
                break
        return ino, step

    def _may_go_first(self, ino: int, first: int) -> bool:
        """Whether the inode that `ino` waits for can be worked on now; else `ino` is put off."""
        row = self._journal.row(first)
        if row is None and self._asked.get(ino) == first:
            self._hold(ino, f"waits for inode {first}, which has nothing to do")
            return False
        if row is None:
            self._asked[ino] = first
            self._tree.mark_pending(first)
        elif row.error is not None:
            name = shown_name(self._tree.get(first).name)
            self._hold(ino, f"waits for {name!r}: {row.error}", row.code)
            return False
        elif first not in self._busy and self._due_later(first):
            self._put_off(ino, FEED_FIRST)
            return False
        return True

    def _due_later(self, ino: int) -> bool:
        return self._agenda.due(ino) > trio.current_time() + self._settle

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
            self._failed(inos, error)
            return
        except DropboxError as error:
            self._steps.doubt()
            failed = dict.fromkeys(inos, error)
        except TreeError as error:
            # One of them is gone.
            failed = dict.fromkeys(inos, ChangedMeanwhileError(str(error)))
        except (ChangedMeanwhileError, DamagedContentError, OSError) as error:
            failed = dict.fromkeys(inos, error)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._mistaken(inos, error)
            return
        self._resized(trio.current_time() - began, failed)
        busy = [ino for ino in inos if _is_busy(failed.get(ino))]
        for ino in inos:
            if _is_busy(failed.get(ino)):
                continue
            if ino in failed:
                try:
                    self._member_failed(ino, failed[ino])
                except sqlite3.Error as error:
                    self._mistaken([ino], error)
            else:
                self._well()
                self._put_off(ino, 0)
            self._wake_waiters(ino)
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
            self._put_off(member.ino, 0)

    def _member_failed(self, ino: int, error: Exception) -> None:
        if self._tree.find(ino) is None:
            self._agenda.drop(ino)
        elif isinstance(error, EndpointError) and NESTED in error.tags and ino not in self._alone:
            # Another batch of this round has moved what they were in.
            self._alone.add(ino)
            self._put_off(ino, AGAIN)
        elif isinstance(error, EndpointError):
            self._refused(ino, error)
        elif isinstance(error, DropboxError):
            self._hold_at_last(ino, error, passing=isinstance(error, UnexpectedReply))
        elif isinstance(error, GoesOnError):
            self._put_off(ino, 0)
        elif isinstance(error, ChangedMeanwhileError):
            log.debug("inode %d: %s", ino, error)
            self._put_off(ino, max(self._settle, AGAIN))
        else:
            self._hold(ino, str(error))

    def _mistaken(self, inos: Sequence[int], error: Exception) -> None:
        """A mistake of ours with one inode must not end the mount for all, nor hold up others."""
        log.error("inodes %s could not be worked on", inos[:5], exc_info=error)
        for ino in inos:
            if len(inos) > 1:
                self._alone.add(ino)
                self._put_off(ino, 0)
                continue
            self._put_off(ino, HELD_AGAIN)
            with contextlib.suppress(sqlite3.Error):
                self._hold(ino, f"internal error ({type(error).__name__}); see the log")
            self._wake_waiters(ino)

    def _finish(self, ino: int) -> None:
        row = self._journal.row(ino)
        self._journal.done(ino)
        self._failures.pop(ino, None)
        self._agenda.drop(ino)
        self._alone.discard(ino)
        self._asked.pop(ino, None)
        self._wake_waiters(ino)
        if row is not None and row.error is not None:
            # Others may have been held because of this one.
            for other in self._journal.held():
                self._put_off(other, 0)

    # ---- What went wrong ----

    def _refused(self, ino: int, error: EndpointError) -> None:
        """Dropbox will not do this one: later, after the feed, or after a look by a person."""
        self._hold_at_last(ino, error, passing=any(error.has(*tags) for tags in FEED_KNOWS))

    def _hold_at_last(self, ino: int, error: DropboxError, *, passing: bool) -> None:
        """Try what may be over in a moment a few times before people are told."""
        failures = self._failures[ino] = self._failures.get(ino, 0) + 1
        if passing and failures <= FEED_TRIES:
            self._put_off(ino, FEED_FIRST * failures)
        else:
            code = refusals.code_of(getattr(error, "tags", ()))
            known = refusals.find(code)
            self._hold(ino, f"{known.reason} ({error})" if known else str(error), code)

    def _hold(self, ino: int, reason: str, code: str | None = None) -> None:
        log.warning("inode %d stays here for now: %s", ino, reason)
        self._journal.refused(ino, reason, code)
        self._put_off(ino, HELD_AGAIN)
        self._wake_waiters(ino)

    def _failed(self, inos: Sequence[int], error: Exception) -> None:
        """Dropbox cannot be reached, or asks for patience: everything waits a while."""
        if getattr(error, "doubt", True):
            self._steps.doubt()
        pause = delay(self._in_a_row, base=0.5, cap=PAUSE_CAP, random=random.random())  # noqa: S311
        if isinstance(error, RateLimited | ServerTrouble) and error.retry_after:
            pause = max(pause, error.retry_after)
        self._in_a_row += 1
        self._sent_some = False
        self._resume_at = trio.current_time() + pause
        for ino in inos:
            # One time for all, so that they go together again.
            self._agenda.put(ino, self._resume_at)
            self._wake_waiters(ino)
        self._wake.set()
        if self.trouble is None:
            log.warning("changes cannot be sent: %s", error)
        self.trouble = str(error)

    def _well(self) -> None:
        self._in_a_row, self.trouble = 0, None


def _is_content(batch: Sequence[Member]) -> bool:
    return isinstance(batch[0].call, plan.Upload | plan.Bring)


def _is_small(batch: Sequence[Member]) -> bool:
    return isinstance(batch[0].call, plan.Upload) and batch[0].size <= batching.SMALL


def _is_busy(error: Exception | None) -> bool:
    """Whether Dropbox was at work on another change."""
    return "too_many_write_operations" in getattr(error, "tags", ())
