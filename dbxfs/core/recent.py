"""Mappings that keep what was put in or asked for last, and forget the rest."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep_recent(kept: OrderedDict[K, V], key: K, value: V, most: int) -> V:
    """Put the value in as the last one; what is beyond `most` goes, the oldest first."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return value
