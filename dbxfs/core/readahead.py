"""How far to read ahead of a reader: a pure decision on block numbers.

A reader that goes on where it stopped gets a window that doubles with each step, up to a limit;
any other read starts over with none. So the first read of a file costs what was asked for, a
sequential reader soon has a long request under way, and a random one pays for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_WINDOW = 32


@dataclass(frozen=True, slots=True)
class Pattern:
    """What is remembered of the reads of one file."""

    next: int
    """The block that a sequential reader asks for next."""
    window: int
    """Blocks to have under way beyond that."""
    ahead: int
    """The first block that nobody has asked for yet."""


def advance(pattern: Pattern | None, first: int, last: int, total: int) -> tuple[Pattern, range]:
    """After a read of blocks `first` to `last` of `total`: what to fetch besides them."""
    goes_on = pattern is not None and first in (pattern.next - 1, pattern.next)
    if pattern is None or not goes_on:
        return Pattern(next=last + 1, window=0, ahead=last + 1), range(0)
    if last < pattern.next:
        # Still in a block that was counted: the kernel reads in smaller pieces than ours.
        return pattern, range(0)
    window = min(max(1, pattern.window * 2), LARGEST_WINDOW)
    start = max(pattern.ahead, last + 1)
    end = min(last + 1 + window, total)
    if start - last > window // 2 + 1 or start >= end:
        return Pattern(last + 1, window, start), range(0)
    return Pattern(last + 1, window, end), range(start, end)
