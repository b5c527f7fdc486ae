"""Which call comes next for an inode that is due, or for what it waits for.

What to do is decided in `core.plan`. What an inode depends on (its folder, whoever holds its name)
goes first: it is a *waiter* of that until the next round. Where inodes wait for each other, one of
them gives way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from dbxfs.core import plan
from dbxfs.core.batching import Member
from dbxfs.core.model import RemotePath
from dbxfs.core.names import fold, shown_name
from dbxfs.store.journal import Journal
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree

from .timetable import Timetable

log = logging.getLogger(__name__)

HELD_AGAIN = 300.0
FEED_FIRST = 1.0
"""Seconds to wait when Dropbox knows something that the feed has still to tell."""


class Decisions:
    """What is to be done in a round, and who waits for whom."""

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        staging: Staging,
        times: Timetable,
        busy: AbstractSet[int],
        on_done: Callable[[int], None],
    ) -> None:
        """`busy`: whose content is on its way. `on_done`: nothing is left to do for an inode."""
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._times = times
        self._busy = busy
        self._on_done = on_done
        self._waiters: dict[int, set[int]] = {}
        self._asked: dict[int, int] = {}
        """Who waits for an inode that had nothing to do when it was asked."""
        self._decided: set[int] = set()
        self.ready: dict[int, Member] = {}
        """Whose turn it is in this round, and with which call."""

    def begin_round(self) -> None:
        """Nothing is decided yet."""
        self.ready, self._decided = {}, set()

    def decide(self, ino: int) -> None:
        """Find the call that comes next for the inode, or for what it depends on."""
        chain: list[int] = []
        while ino not in self._decided and ino not in self._busy:
            self._decided.add(ino)
            if self._journal.row(ino) is None or self._tree.find(ino) is None:
                self._times.drop(ino)
                self.wake_waiters(ino)
                break
            if self._tree.is_in_limbo(ino):
                self._times.put_off(ino, FEED_FIRST)
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
                self.hold(ino, f"waits for inode {step.ino}, which waits for it")
                break
            if not self._may_go_first(ino, step.ino):
                break
            self._waiters.setdefault(step.ino, set()).add(ino)
            chain.append(ino)
            ino = step.ino
        else:
            if not chain and ino in self._busy:
                self._waiters.setdefault(ino, set()).add(ino)

    def hold(self, ino: int, reason: str, code: str | None = None) -> None:
        """It cannot be sent for now; people are told why."""
        log.warning("inode %d stays here for now: %s", ino, reason)
        self._journal.refused(ino, reason, code)
        self._times.put_off(ino, HELD_AGAIN)
        self.wake_waiters(ino)

    def wake_waiters(self, ino: int) -> None:
        """Who waits for it is looked at again."""
        for waiter in self._waiters.pop(ino, ()):
            self._times.put_off(waiter)

    def _take_up(self, ino: int, step: plan.Step) -> None:
        match step:
            case plan.Done():
                self._finish(ino)
            case plan.Hold(reason):
                self.hold(ino, reason)
            case (
                plan.Bring()
                | plan.Upload()
                | plan.CreateFolder()
                | plan.Delete()
                | plan.Move()
                | plan.SetAttributes()
            ):
                self.ready[ino] = self._member(ino, step)
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

    def _finish(self, ino: int) -> None:
        row = self._journal.row(ino)
        self._journal.done(ino)
        self._times.drop(ino)
        self._asked.pop(ino, None)
        self._on_done(ino)
        self.wake_waiters(ino)
        if row is not None and row.error is not None:
            # Others may have been held because of this one.
            for other in self._journal.held():
                self._times.put_off(other)

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
            self.hold(ino, f"waits for inode {first}, which has nothing to do")
            return False
        if row is None:
            self._asked[ino] = first
            self._tree.mark_pending(first)
        elif row.error is not None:
            name = shown_name(self._tree.get(first).name)
            self.hold(ino, f"waits for {name!r}: {row.error}", row.code)
            return False
        elif first not in self._busy and self._times.is_put_off(first):
            self._times.put_off(ino, FEED_FIRST)
            return False
        return True
