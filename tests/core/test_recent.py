"""Forgetting the oldest."""

from __future__ import annotations

from collections import OrderedDict

from dbxfs.core.recent import keep_recent


def test_the_oldest_go_and_what_is_used_again_is_young() -> None:
    kept: OrderedDict[str, int] = OrderedDict()
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        assert keep_recent(kept, key, value, 2) == value
    assert list(kept.items()) == [("a", 3), ("c", 4)]
