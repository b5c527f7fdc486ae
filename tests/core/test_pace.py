"""Bytes keep to their rate, whoever shares it and whatever came before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.pace import BURST, Pace


@given(
    st.floats(1, 1e9),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**6)), min_size=1, max_size=50),
)
def test_no_stretch_of_time_brings_more_than_its_share(
    rate: float, sends: list[tuple[float, int]]
) -> None:
    pace, now = Pace(rate), 100.0
    began, total = now, 0
    for pause, size in sends:
        now += pause
        now += pace.wait(now, size)
        total += size
        assert total <= rate * (now - began + BURST) * (1 + 1e-9) + 1e-6


def test_two_who_share_a_rate_get_half_each() -> None:
    pace = Pace(100.0)
    first = [pace.wait(10.0, 50), pace.wait(10.0, 50)]
    assert first == pytest.approx([0.5 - BURST, 1.0 - BURST])


def test_silence_brings_no_flood() -> None:
    pace = Pace(100.0)
    pace.wait(0.0, 100)
    assert pace.wait(3600.0, 100) == pytest.approx(1.0 - BURST)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate"):
        Pace(0)
