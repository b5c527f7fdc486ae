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

    def put(self, ino: int, due: float) -> None:
        """The inode is due then, whatever was set before."""
        self._due[ino] = due
        heapq.heappush(self._heap, (due, ino))

    def drop(self, ino: int) -> None:
        """The inode is not due any more."""
        self._due.pop(ino, None)

    def due(self, ino: int) -> float:
        """When the inode is due; long ago, when it is not on the agenda."""
        return self._due.get(ino, -math.inf)

    def next_time(self) -> float:
        """When the first one is due; infinity when there is none."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def take(self, now: float) -> int | None:
        """Take the first one that is due, or None."""
        if not self._due or self.next_time() > now:
            return None
        _, ino = heapq.heappop(self._heap)
        del self._due[ino]
        return ino
