"""Ranges behave as the set of integers that they stand for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.ranges import Ranges

TOP = 30
positions = st.integers(0, TOP)
pairs = st.tuples(positions, positions)
ranges = st.lists(pairs, max_size=8).map(Ranges)


def members(value: Ranges) -> set[int]:
    return {position for start, end in value for position in range(start, end)}


def span(start: int, end: int) -> set[int]:
    return set(range(start, end))


def well_formed(value: Ranges) -> bool:
    flat = [bound for pair in value for bound in pair]
    return all(a < b for a, b in pairwise(flat)) and value.total == len(members(value))


@given(ranges, pairs)
def test_adding_is_union_with_the_span(value: Ranges, pair: tuple[int, int]) -> None:
    grown = value.add(*pair)
    assert members(grown) == members(value) | span(*pair)
    assert well_formed(grown)


@given(ranges, pairs)
def test_removing_is_difference_from_the_span(value: Ranges, pair: tuple[int, int]) -> None:
    shrunk = value.remove(*pair)
    assert members(shrunk) == members(value) - span(*pair)
    assert well_formed(shrunk)


@given(ranges, ranges)
def test_union_is_the_sets_union(one: Ranges, other: Ranges) -> None:
    both = one.union(other)
    assert members(both) == members(one) | members(other)
    assert both == other.union(one)
    assert well_formed(both)


@given(ranges, pairs)
def test_missing_and_present_split_the_span(value: Ranges, pair: tuple[int, int]) -> None:
    missing, present = value.missing(*pair), value.present(*pair)
    assert members(Ranges(missing)) == span(*pair) - members(value)
    assert members(Ranges(present)) == span(*pair) & members(value)
    assert list(Ranges(missing)) == missing
    assert list(Ranges(present)) == present
    assert value.covers(*pair) is (not missing)


@given(ranges, st.integers(-3, TOP + 3))
def test_clipping_keeps_what_lies_before(value: Ranges, size: int) -> None:
    clipped = value.clip(size)
    assert members(clipped) == {position for position in members(value) if position < size}
    assert well_formed(clipped)


@given(ranges)
def test_equal_sets_are_equal_values(value: Ranges) -> None:
    again = Ranges(reversed(list(value)))
    assert again == value
    assert hash(again) == hash(value)
    assert bool(value) is bool(members(value))
    assert value.end == max(members(value), default=-1) + 1
    assert {p for p in range(TOP + 2) if p in value} == members(value)


@given(ranges)
def test_stored_bytes_come_back_as_the_same_set(value: Ranges) -> None:
    assert Ranges.from_bytes(value.to_bytes()) == value


@given(st.binary(max_size=12))
def test_stored_bytes_are_canonical_or_refused(raw: bytes) -> None:
    try:
        value = Ranges.from_bytes(raw)
    except ValueError:
        return
    assert value.to_bytes() == raw
    assert list(Ranges(value)) == list(value)


def test_large_offsets_are_stored_in_few_bytes() -> None:
    value = Ranges([(0, 2**41), (2**41 + 1, 2**41 + 5)])
    assert Ranges.from_bytes(value.to_bytes()) == value
    assert len(value.to_bytes()) <= 10


def test_a_sequential_writer_has_one_range() -> None:
    value = Ranges()
    for start in range(0, 100 * 4096, 4096):
        value = value.add(start, start + 4096)
    assert list(value) == [(0, 100 * 4096)]


def test_adding_what_is_there_gives_the_same_object() -> None:
    value = Ranges([(0, 10)])
    assert value.add(2, 5) is value
    assert value.add(5, 5) is value
    assert value.remove(10, 20) is value


def test_a_negative_start_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Ranges().add(-1, 3)


def test_reads_well() -> None:
    assert repr(Ranges([(5, 9), (0, 2)])) == "Ranges([(0, 2), (5, 9)])"
