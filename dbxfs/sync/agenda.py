"""Whose turn it is: inodes by the time at which they are due.

What programs change *settles*; when that is over it waits to be admitted, together with what else
settled meanwhile. What is under way, put off for a moment or waiting for another one, is due at its
time without that.

A heap for each of the two with an entry for every time that was ever set, and a dictionary with the
one that counts; what the heaps have beyond that is skipped. So putting an inode off again and
again, as a program that writes does, costs a logarithm and no search. Times come in as arguments.
"""

from __future__ import annotations

import heapq
import math

SLACK = 64
"""Times of a heap that need not count before it is put in order."""

_Heap = list[tuple[float, int]]


class Agenda:
    """Inodes and when they are due, in seconds of any one clock."""

    def __init__(self) -> None:
        self._due: dict[int, tuple[float, _Heap]] = {}
        self._open: _Heap = []
        self._settling: _Heap = []
        self._since: dict[int, float] = {}

    def put(self, ino: int, due: float) -> None:
        """The inode is due then, whatever was set before."""
        self._put(ino, due, self._open)

    def settle(self, ino: int, now: float, seconds: float, ceiling: float) -> None:
        """The inode is settled `seconds` after the last such call, `ceiling` after the first."""
        since = self._since.setdefault(ino, now)
        self._put(ino, min(now + seconds, max(now, since + ceiling)), self._settling)

    def hand_on(self, old: int, new: int) -> None:
        """What `new` stands for has been settling for as long as `old`."""
        if old in self._since:
            self._since[new] = min(self._since[old], self._since.get(new, math.inf))

    def _put(self, ino: int, due: float, heap: _Heap) -> None:
        self._due[ino] = due, heap
        heapq.heappush(heap, (due, ino))
        if len(heap) > 2 * len(self._due) + SLACK:
            # While nothing is taken, what is skipped would only grow.
            heap[:] = [(due, ino) for ino, (due, where) in self._due.items() if where is heap]
            heapq.heapify(heap)

    def drop(self, ino: int) -> None:
        """The inode is not due any more."""
        self._due.pop(ino, None)
        self._since.pop(ino, None)

    def due(self, ino: int) -> float:
        """When the inode is due or settled; long ago, when it is not on the agenda."""
        return self._due[ino][0] if ino in self._due else -math.inf

    def next_time(self) -> float:
        """When the first one is due that needs not be admitted; infinity when there is none."""
        return self._first(self._open)

    def next_settled(self) -> float:
        """When the first of the others is settled; infinity when there is none."""
        return self._first(self._settling)

    def _first(self, heap: _Heap) -> float:
        while heap:
            due, ino = heap[0]
            counts, where = self._due.get(ino, (math.nan, heap))
            if counts == due and where is heap:
                return due
            heapq.heappop(heap)
        return math.inf

    def admit(self, now: float, until: float) -> bool:
        """What is settled `until` then is due now; whether there was anything."""
        admitted = False
        while self.next_settled() <= until:
            due, ino = heapq.heappop(self._settling)
            self.put(ino, min(due, now))
            admitted = True
        return admitted

    def take(self, now: float, most: int) -> list[int]:
        """Take those that are due, the first ones first, at most so many."""
        taken: list[int] = []
        while len(taken) < most and self.next_time() <= now:
            _, ino = heapq.heappop(self._open)
            self.drop(ino)
            taken.append(ino)
        return taken
