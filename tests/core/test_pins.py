"""What pins ask for, given what is here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.pins import percent, plan

BLOCK = 10

sizes = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 55))
blocks = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 6))


def test_what_lacks_a_block_is_fetched_and_what_nobody_wants_is_dropped() -> None:
    found = plan({"a": 25, "b": 25, "c": 0}, {"a": 2, "b": 3, "old": 1}, BLOCK)
    assert found.fetch == ("a",)
    assert found.drop == ("old",)
    assert found.missing == 5


@given(wanted=sizes, held=blocks)
def test_when_the_plan_is_carried_out_nothing_is_left_to_do(
    wanted: dict[str, int], held: dict[str, int]
) -> None:
    first = plan(wanted, held, BLOCK)
    assert set(first.drop) == held.keys() - wanted.keys()
    assert set(first.fetch) <= wanted.keys()
    assert (first.missing == 0) == (not first.fetch)
    assert first.missing <= sum(wanted.values())
    after = {name: count for name, count in held.items() if name not in first.drop}
    after |= {name: -(-wanted[name] // BLOCK) for name in first.fetch}
    second = plan(wanted, after, BLOCK)
    assert (second.fetch, second.drop, second.missing) == ((), (), 0)


@given(cached=st.integers(0, 10**12), size=st.integers(0, 10**12))
def test_a_hundred_per_cent_means_all(cached: int, size: int) -> None:
    assert (percent(cached, size) == 100) == (cached >= size)
