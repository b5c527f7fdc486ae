"""What is to be done so that pinned contents are here, and nothing else takes their room.

Pins say which files shall be complete; which contents those have changes with every edit. So what
to do is not remembered but computed, from the contents that are wanted now and the blocks that are
kept now: what is missing is fetched, what nobody wants any more is dropped. A kill at any time
leaves a state from which the same follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PinPlan:
    """What is to be fetched and dropped, and how much is missing."""

    fetch: tuple[str, ...]
    """Contents of which blocks are missing, in the order in which they are wanted."""
    drop: tuple[str, ...]
    """Contents that are kept and not wanted."""
    missing: int
    """Bytes to fetch, to the block."""


def plan(wanted: Mapping[str, int], held: Mapping[str, int], block: int) -> PinPlan:
    """`wanted`: contents and their sizes in bytes; `held`: how many blocks are kept of each."""
    fetch = []
    missing = 0
    for content, size in wanted.items():
        lacking = size - held.get(content, 0) * block
        if lacking > 0:
            fetch.append(content)
            missing += lacking
    drop = tuple(content for content in held if content not in wanted)
    return PinPlan(tuple(fetch), drop, missing)


def percent(cached: int, size: int) -> int:
    """How much is here; 100 only when all of it is. An empty file is."""
    return 100 if cached >= size else 100 * cached // size
