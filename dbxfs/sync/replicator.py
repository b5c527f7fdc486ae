"""Draining the journal: one inode after the other, each until nothing is left to do.

What to do is decided in `core.plan` and carried out in `steps`; here is decided when, and what
becomes of it where it fails. An inode's turn comes when it has been left alone for the settle
delay, so that a file that is created and removed at once, or saved by way of a temporary file,
costs nothing or one commit. What it depends on (its folder, whoever holds its name) goes first.

Dropbox's refusals are kept in the journal with the reason and tried again after some minutes, or
at once when a program changes the file; they never hold up what does not depend on them.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3

import trio

from dbxfs.api.errors import (
    DropboxError,
    EndpointError,
    PathRootChanged,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from dbxfs.core import plan, refusals
from dbxfs.core.backoff import delay
from dbxfs.core.names import shown_name
from dbxfs.store.journal import Journal
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree

from .agenda import Agenda
from .fetcher import DamagedContentError
from .steps import Steps
from .uploader import ChangedMeanwhileError

log = logging.getLogger(__name__)

SETTLE = 1.0
AGAIN = 0.1
"""Seconds after which what changed under our hands is tried again, at the earliest."""
HELD_AGAIN = 300.0
FEED_FIRST = 1.0
"""Seconds to wait when Dropbox knows something that the feed has still to tell."""
FEED_TRIES = 5
WAIT_FOR = (Unreachable, RateLimited, ServerTrouble, Unauthorized, PathRootChanged)
"""Failures that are nobody's fault but the moment's: everything waits. Others are held alone."""
FEED_KNOWS = (("from_lookup", "not_found"), ("to", "conflict"), ("path", "conflict"))
PAUSE_CAP = 30.0
LOOK_AGAIN = 1.0


class NotSentError(Exception):
    """Dropbox does not have it, and `str()` says why; it stays in the journal.

    `code`: the kind of refusal (core.refusals), where that is known; `offline`: Dropbox has not
    refused it, it was not asked.
    """

    def __init__(self, reason: str, code: str | None = None, *, offline: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.offline = offline


class Replicator:
    """Makes Dropbox equal to what programs see."""

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        staging: Staging,
        steps: Steps,
        settle: float = SETTLE,
    ) -> None:
        """`settle`: seconds that an inode must be left alone before it is sent."""
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._steps = steps
        self._settle = settle
        self._agenda = Agenda()
        self._failures: dict[int, int] = {}
        self._in_a_row = 0
        self._resume_at = 0.0
        self._wake = trio.Event()
        self._progress = trio.Event()
        self.running = False
        self.trouble: str | None = None
        """Why nothing can be sent at the moment, for people; None: all is well."""

    # ---- What others call ----

    def pending(self, ino: int) -> None:
        """The inode has changed: it is due when it has settled."""
        self._put_off(ino, self._settle)

    def hurry(self) -> None:
        """Send everything now, also what was put off."""
        self._resume_at = 0.0
        for row in self._journal.rows():
            self._put_off(row.ino, 0)

    def retry(self, code: str) -> None:
        """The cause of refusals of this kind may be gone."""
        for ino in self._journal.held(code):
            self._put_off(ino, 0)

    async def drained(self) -> None:
        """Return when nothing is left that can be sent; what Dropbox refuses again may remain."""
        self._staging.record_all()
        self._journal.forgive()
        self.hurry()
        while self._journal.anything_to_send():
            await self._progress.wait()

    async def sent(self, ino: int) -> None:
        """Return when Dropbox has the inode as it is now; `NotSentError` when it refuses."""
        self._put_off(ino, 0)
        while (row := self._journal.row(ino)) is not None:
            trouble = row.error or self.trouble
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
            self._put_off(row.ino, 0)
        while True:
            now = trio.current_time()
            ino = self._agenda.take(now) if now >= self._resume_at else None
            if ino is not None:
                await self._guarded(ino)
                self._progress.set()
                self._progress = trio.Event()
                continue
            self._wake = trio.Event()
            with trio.CancelScope(deadline=max(self._agenda.next_time(), self._resume_at)):
                await self._wake.wait()

    def _put_off(self, ino: int, seconds: float) -> None:
        self._agenda.put(ino, trio.current_time() + seconds)
        self._wake.set()

    # ---- One inode ----

    async def _guarded(self, ino: int) -> None:
        """Work on it; a mistake of ours with one inode must not end the mount for all."""
        try:
            await self._work(ino)
        except Exception as error:
            log.exception("inode %d could not be worked on", ino)
            self._put_off(ino, HELD_AGAIN)
            with contextlib.suppress(sqlite3.Error):
                self._hold(ino, f"internal error ({type(error).__name__}); see the log")

    async def _work(self, ino: int) -> None:
        """Do what the inode needs, and before that what it depends on."""
        waiting: list[int] = []
        finished: set[int] = set()
        while True:
            await trio.lowlevel.checkpoint()
            if self._journal.row(ino) is None or self._tree.find(ino) is None:
                finished.add(ino)
                if not waiting:
                    return
                ino = waiting.pop()
                continue
            who, step = ino, plan.next_step(self._journal.facts(ino))
            if isinstance(step, plan.After) and step.ino in (*waiting, ino):
                who, step = self._break_circle([*waiting, ino])
            if not isinstance(step, plan.After):
                going_on = await self._do(who, step)
            elif step.ino in (*waiting, ino) or step.ino in finished:
                self._hold(ino, f"waits for inode {step.ino}, which waits for it")
                going_on = False
            elif going_on := self._may_go_first(ino, step.ino):
                waiting.append(ino)
                ino = step.ino
            if not going_on:
                for other in waiting:
                    self._put_off(other, FEED_FIRST)
                return

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
        if row is None:
            self._tree.mark_pending(first)
        elif row.error is not None:
            name = shown_name(self._tree.get(first).name)
            self._hold(ino, f"waits for {name!r}: {row.error}", row.code)
            return False
        elif self._agenda.due(first) > trio.current_time() + self._settle:
            self._put_off(ino, FEED_FIRST)
            return False
        return True

    async def _do(self, ino: int, step: plan.Step) -> bool:
        """Carry out one step; whether to go on now."""
        try:
            match step:
                case plan.Done():
                    self._finish(ino)
                case plan.Hold(reason):
                    self._hold(ino, reason)
                    return False
                case (
                    plan.Bring() | plan.Upload() | plan.CreateFolder() | plan.Delete() | plan.Move()
                ):
                    await self._steps.carry_out(ino, step)
        except EndpointError as error:
            self._refused(ino, error)
            return False
        except WAIT_FOR as error:
            self._failed(ino, error)
            return False
        except DropboxError as error:
            self._steps.doubt(ino)
            self._hold_at_last(ino, error, passing=isinstance(error, UnexpectedReply))
            return False
        except ChangedMeanwhileError as error:
            log.debug("inode %d: %s", ino, error)
            self._put_off(ino, max(self._settle, AGAIN))
            return False
        except (DamagedContentError, OSError) as error:
            self._hold(ino, str(error))
            return False
        self._well()
        return True

    def _finish(self, ino: int) -> None:
        row = self._journal.row(ino)
        self._journal.done(ino)
        self._steps.settled(ino)
        self._failures.pop(ino, None)
        self._agenda.drop(ino)
        if row is not None and row.error is not None:
            # Others may have been held because of this one.
            for other in self._journal.held():
                self._put_off(other, 0)

    # ---- What went wrong ----

    def _refused(self, ino: int, error: EndpointError) -> None:
        """Dropbox will not do this one: later, after the feed, or after a look by a person."""
        if "too_many_write_operations" in error.tags:
            self._failed(ino, error)
            return
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

    def _failed(self, ino: int, error: DropboxError) -> None:
        """Dropbox cannot be reached, or asks for patience: everything waits a while."""
        if getattr(error, "doubt", True):
            self._steps.doubt(ino)
        pause = delay(self._in_a_row, base=0.5, cap=PAUSE_CAP, random=random.random())  # noqa: S311
        if isinstance(error, RateLimited | ServerTrouble) and error.retry_after:
            pause = max(pause, error.retry_after)
        self._in_a_row += 1
        self._resume_at = trio.current_time() + pause
        self._put_off(ino, pause)
        if self.trouble is None:
            log.warning("changes cannot be sent: %s", error)
        self.trouble = str(error)

    def _well(self) -> None:
        self._in_a_row, self.trouble = 0, None
