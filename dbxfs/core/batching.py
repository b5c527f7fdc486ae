"""Which of the calls that are due go together into one. Pure.

The planner names for each pending inode the one call that is next. Here calls of one kind are put
together: a thousand entries where Dropbox takes so many, fewer while it is slow or busy (`Size`).
Calls whose paths lie in each other never go together, because the entries of a batch are carried
out in no promised order.

Files beyond `SMALL` go by themselves: they take long, and what is small must not wait for them.
What failed in a batch for a reason of its own goes alone as well (`alone`).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .model import RemotePath
from .plan import Bring, Call, Move, SetAttributes

MOST = 1000
"""Entries that Dropbox takes in one call."""
SMALL = 4 * 1024 * 1024
"""Bytes of the largest file that shares a body with others."""
BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of the files of a batch: about what a usual link moves in a second."""
BODY_ENTRIES = 334
"""Files in one body, a third of a full batch: their list is in a header, some 130 bytes each, and
common proxies take 60 KiB. Where one takes less, whoever sends halves the number."""
BODY_BYTES = 8 * 1024 * 1024
TOGETHER = 64
"""Entries whose attributes are sent in one turn: each needs a call, and the feed waits for them."""
FEWEST = 10
LULL = 0.5
"""Seconds without a change that end a burst."""
LONG = 8.0
"""Seconds after which a burst that does not end is sent for the first time."""
LONGER = 16.0
"""Seconds after which it is sent again, each time: who unpacks for minutes gets full batches."""
MANY = 20
"""Changes from which on who reads goes before them, too."""
TOO_LONG = 15.0
"""Seconds of a commit after which the next one is smaller: meanwhile the feed stands still."""


@dataclass(frozen=True, slots=True)
class Member:
    """One inode and its next call."""

    ino: int
    call: Call
    size: int = 0
    """Bytes to send."""
    paths: tuple[RemotePath, ...] = ()
    """Where the entry is and where it goes, for a folder or file that moves."""


def batches(
    members: Iterable[Member], most: int = MOST, alone: Container[int] = ()
) -> list[list[Member]]:
    """The calls to make, each with its members; kinds in the order in which they came.

    Members that cannot go together with others of their batch are in a later one.
    """
    kinds: dict[type[Call], list[Member]] = {}
    singles: list[list[Member]] = []
    for member in members:
        if member.ino in alone or isinstance(member.call, Bring) or member.size > SMALL:
            singles.append([member])
        else:
            kinds.setdefault(type(member.call), []).append(member)
    found: list[list[Member]] = []
    for kind, of_kind in kinds.items():
        if kind is Move:
            found += _moves(of_kind, most)
        else:
            found += _filled(of_kind, min(most, TOGETHER) if kind is SetAttributes else most)
    return found + singles


def _filled(members: Sequence[Member], most: int) -> Iterator[list[Member]]:
    batch: list[Member] = []
    size = 0
    for member in members:
        if batch and (len(batch) >= most or size + member.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(member)
        size += member.size
    if batch:
        yield batch


def _moves(members: Sequence[Member], most: int) -> Iterator[list[Member]]:
    """No path in or above another one of the same batch."""
    left = list(members)
    while left:
        batch: list[Member] = []
        later: list[Member] = []
        taken: set[str] = set()
        above: set[str] = set()
        for member in left:
            ancestors = {up for path in member.paths for up in _ancestors(path)}
            entangled = any(path in taken or path in above for path in member.paths)
            if entangled or ancestors & taken or len(batch) >= most:
                later.append(member)
                continue
            batch.append(member)
            taken.update(member.paths)
            above |= ancestors
        yield batch
        left = later


def _ancestors(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def bodies(sizes: Sequence[int], entries: int = BODY_ENTRIES) -> list[range]:
    """How files of these sizes are shared out to bodies: runs of their indexes."""
    found: list[range] = []
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and (index - start >= entries or total + size > BODY_BYTES):
            found.append(range(start, index))
            start, total = index, 0
        total += size
    if start < len(sizes):
        found.append(range(start, len(sizes)))
    return found


@dataclass(frozen=True, slots=True)
class Burst:
    """Changes that come one after the other, as of a `cp -r`; times in seconds of any one clock.

    Until they pause nothing new is begun with: the programs have the processor for themselves, and
    what they do goes into few calls. A burst that goes on is sent now and then all the same.
    """

    begun: float = -math.inf
    """When it began, or when something was sent last."""
    last: float = -math.inf
    """The last change."""
    patience: float = LONG
    changes: int = 0

    def changed(self, now: float) -> Burst:
        """Another change."""
        if not self.goes_on(now):
            return Burst(now, now, changes=1)
        return replace(self, last=now, changes=self.changes + 1)

    def read(self, now: float) -> Burst:
        """A program opens something, as `diff` after `cp`. It holds up no lone document."""
        if not self.goes_on(now) or self.changes < MANY:
            return self
        return replace(self, last=now)

    def sent(self, now: float) -> Burst:
        """What is due is being sent."""
        return Burst(now, self.last, LONGER, self.changes)

    def goes_on(self, now: float) -> bool:
        """Whether more is likely to come."""
        return now <= self.last + LULL

    def is_over(self, now: float) -> bool:
        """Whether many changes have come to a pause: then the last of them needs no longer one."""
        return self.changes >= MANY and not self.goes_on(now)

    def opens(self) -> float:
        """When what is due may be sent."""
        return min(self.last + LULL, self.begun + self.patience)


@dataclass(frozen=True, slots=True)
class Size:
    """How many entries the next batch may have.

    Halved by a batch that Dropbox was too busy for or that took too long, doubled by one that went
    well.
    """

    most: int = MOST

    def after(self, *, seconds: float, busy: bool) -> Size:
        """What it is after a batch that took so long, or that Dropbox was too busy for."""
        if busy or seconds > TOO_LONG:
            return Size(max(FEWEST, self.most // 2))
        return Size(min(MOST, self.most * 2))
