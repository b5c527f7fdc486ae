"""Whose turn it is: inodes by the time at which they are due.

A heap with an entry for every time that was ever set, and a dictionary with the one that counts;
what the heap has beyond that is skipped. So putting an inode off again and again, as a program
that writes does, costs a logarithm and no search. Times come in as arguments.
"""

from __future__ import annotations

import heapq
import math


class Agenda:
    """Inodes and when they are due, in seconds of any one clock."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._since: dict[int, float] = {}

    def put(self, ino: int, due: float) -> None:
        """The inode is due then, whatever was set before."""
        self._due[ino] = due
        heapq.heappush(self._heap, (due, ino))

    def settle(self, ino: int, now: float, seconds: float, ceiling: float) -> None:
        """The inode is due `seconds` after the last such call, `ceiling` after the first one."""
        since = self._since.setdefault(ino, now)
        self.put(ino, min(now + seconds, max(now, since + ceiling)))

    def drop(self, ino: int) -> None:
        """The inode is not due any more."""
        self._due.pop(ino, None)
        self._since.pop(ino, None)

    def due(self, ino: int) -> float:
        """When the inode is due; long ago, when it is not on the agenda."""
        return self._due.get(ino, -math.inf)

    def next_time(self) -> float:
        """When the first one is due; infinity when there is none."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def take(self, now: float, most: int) -> list[int]:
        """Take those that are due, the first ones first, at most so many."""
        taken: list[int] = []
        while len(taken) < most and self.next_time() <= now:
            _, ino = heapq.heappop(self._heap)
            self.drop(ino)
            taken.append(ino)
        return taken
