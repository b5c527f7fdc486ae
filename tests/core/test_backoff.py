"""The wait grows, has a ceiling, and is spread over the whole span."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.backoff import delay


@pytest.mark.parametrize(
    ("attempt", "random", "expected"),
    [
        (0, 0.0, 0.0),
        (0, 0.5, 0.25),
        (1, 0.5, 0.5),
        (3, 0.5, 2.0),
        (6, 0.5, 15.0),
        (10**9, 0.5, 15.0),
        (-1, 0.5, 0.25),
    ],
)
def test_table(attempt: int, random: float, expected: float) -> None:
    assert delay(attempt, base=0.5, cap=30, random=random) == expected


@given(
    st.integers(0, 10_000),
    st.floats(0.001, 100),
    st.floats(0.001, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_within_the_cap_and_never_shrinking(
    attempt: int, base: float, cap: float, random: float
) -> None:
    now = delay(attempt, base=base, cap=cap, random=random)
    later = delay(attempt + 1, base=base, cap=cap, random=random)
    assert 0 <= now <= later <= cap
