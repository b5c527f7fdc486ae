"""What is fetched ahead: every way of reading, and what holds for any."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.readahead import (
    FIRST,
    LARGEST_PIECE,
    SMALLEST_PIECE,
    Pattern,
    Range,
    advance,
    fill_pays,
    pieces,
)

KIB, MIB = 1024, 1024 * 1024
LARGE = 1024 * MIB
LIMIT = 32 * MIB
REQUEST = 128 * KIB


def read(
    offsets: list[int], length: int = REQUEST, size: int = LARGE, limit: int = LIMIT
) -> list[list[Range]]:
    """What is fetched besides, for each of the reads of one reader."""
    pattern: Pattern | None = None
    fetched = []
    for offset in offsets:
        pattern, ranges = advance(pattern, offset, min(offset + length, size), size, limit)
        fetched.append(ranges)
    return fetched


def total(fetched: list[list[Range]]) -> int:
    return sum(end - start for ranges in fetched for start, end in ranges)


def test_the_first_read_of_a_large_file_brings_little() -> None:
    pattern, ranges = advance(None, 0, 4 * KIB, LARGE, LIMIT)
    assert ranges == [(4 * KIB, FIRST)]
    # What the kernel asks for on its own after that.
    _, more = advance(pattern, 16 * KIB, 48 * KIB, LARGE, LIMIT)
    assert more == []


def test_in_order_the_window_grows_to_the_limit_and_stays_ahead() -> None:
    fetched = read([n * REQUEST for n in range(800)])
    ahead = 0
    for number, ranges in enumerate(fetched):
        for start, end in ranges:
            assert start == max(ahead, (number + 1) * REQUEST), "nothing twice, nothing left out"
            ahead = end
        assert ahead - number * REQUEST <= LIMIT + REQUEST
        assert number < 4 or ahead - number * REQUEST > REQUEST
    assert ahead > 700 * REQUEST + LIMIT // 2


def test_the_full_window_is_reached_within_some_reads() -> None:
    assert total(read([n * REQUEST for n in range(100)])) > LIMIT


def test_what_the_kernel_asks_out_of_order_is_no_jump() -> None:
    in_order = [n * REQUEST for n in range(64)]
    shuffled = [in_order[n ^ 1] for n in range(64)]
    assert total(read(shuffled)) > LIMIT // 2


def test_backward_reading_is_fetched_ahead_downward() -> None:
    fetched = read([LARGE - (n + 1) * REQUEST for n in range(100)])
    assert total(fetched) > LIMIT // 2
    below = LARGE
    for ranges in fetched:
        for start, end in ranges:
            assert end <= below
            below = start


@pytest.mark.parametrize("step", [MIB, 10 * MIB, -MIB])
def test_equal_steps_bring_the_next_places(step: int) -> None:
    begin = LARGE // 2
    fetched = read([begin + n * step for n in range(6)], length=4 * KIB)
    places = {start for ranges in fetched for start, _ in ranges}
    assert {begin + n * step for n in range(6, 12)} <= places
    assert all(end - start == 4 * KIB for ranges in fetched for start, end in ranges)


def test_jumping_about_brings_nothing_more() -> None:
    offsets = [random.Random(n).randrange(LARGE) for n in range(100)]
    assert total(read(offsets, length=4 * KIB)) == 0


def test_in_order_after_jumps_is_in_order() -> None:
    offsets = [500 * MIB, 3 * MIB, 900 * MIB, *(100 * MIB + n * REQUEST for n in range(100))]
    assert total(read(offsets)) > LIMIT // 2


def test_filling_pays_when_much_was_waited_for_little() -> None:
    assert not fill_pays(0.1, 256 * MIB, 50e6)
    assert fill_pays(2.0, 256 * MIB, 50e6)
    assert not fill_pays(2.0, 100 * 1024 * MIB, 50e6)


@given(st.integers(0, 2**34), st.integers(1, 2**26))
def test_pieces_are_the_range_in_order(start: int, length: int) -> None:
    cut = pieces(start, start + length)
    assert [end for _, end in cut[:-1]] == [begin for begin, _ in cut[1:]]
    assert (cut[0][0], cut[-1][1]) == (start, start + length)
    assert all(end - begin <= LARGEST_PIECE for begin, end in cut)
    assert all(end - begin >= SMALLEST_PIECE for begin, end in cut[:-1])


def test_regression_readers_who_share_the_limit_ask_in_large_pieces() -> None:
    found = read([*range(0, 64 * MIB, REQUEST)], size=64 * MIB, limit=LIMIT // 8)
    asked = [piece for ranges in found for start, end in ranges for piece in pieces(start, end)]
    assert len(asked) <= 64 + 4, "a round trip for each half megabyte left the link idle"


@given(
    st.integers(1, 64 * MIB),
    st.lists(st.tuples(st.integers(0, 64 * MIB), st.integers(1, MIB)), max_size=40),
    st.integers(SMALLEST_PIECE, LIMIT),
)
def test_nothing_outside_the_file_and_nothing_beyond_the_limit(
    size: int, reads: list[tuple[int, int]], limit: int
) -> None:
    pattern: Pattern | None = None
    for offset, length in reads:
        start = offset % size
        end = min(size, start + length)
        pattern, ranges = advance(pattern, start, end, size, limit)
        assert all(0 <= first < last <= size for first, last in ranges)
        assert sum(last - first for first, last in ranges) <= max(limit, FIRST, 16 * length) + MIB
