"""Read-ahead: what a reader in order gains, and that a random one pays nothing for it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.readahead import LARGEST_WINDOW, Pattern, advance

totals = st.integers(1, 400)


def read_all(reads: Iterable[tuple[int, int]], total: int) -> list[tuple[Pattern, range]]:
    """What each read of blocks first to last leads to."""
    pattern: Pattern | None = None
    answers = []
    for first, last in reads:
        pattern, ahead = advance(pattern, first, last, total)
        answers.append((pattern, ahead))
    return answers


def in_order(sizes: Iterable[int], total: int, start: int = 0) -> list[tuple[int, int]]:
    """Reads without a gap from block `start`, of so many blocks each, to the end of the file."""
    reads = []
    for size in sizes:
        if start >= total:
            break
        reads.append((start, min(start + size, total) - 1))
        start += size
    return reads


@given(totals, st.data())
def test_nothing_beyond_the_file_or_before_the_reader_is_fetched(
    total: int, data: st.DataObject
) -> None:
    blocks = st.integers(0, total - 1)
    spans = st.tuples(blocks, blocks).map(lambda pair: (min(pair), max(pair)))
    reads = data.draw(st.lists(spans, max_size=30))
    for (_, last), (pattern, ahead) in zip(reads, read_all(reads, total), strict=True):
        assert all(last < block < total for block in ahead)
        assert 0 <= pattern.window <= LARGEST_WINDOW
        assert len(ahead) <= LARGEST_WINDOW


@pytest.mark.parametrize("first", [0, 5, 99])
def test_the_first_read_of_a_file_costs_what_was_asked_for(first: int) -> None:
    assert advance(None, first, first, 100) == (Pattern(first + 1, 0, first + 1), range(0))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 3))
def test_a_random_reader_pays_nothing(firsts: list[int], length: int) -> None:
    reads: list[tuple[int, int]] = []
    for first in firsts:
        if not reads or first not in (reads[-1][1], reads[-1][1] + 1):
            reads.append((first, first + length - 1))
    assert all(not ahead and not p.window for p, ahead in read_all(reads, 400))


def test_a_reader_from_the_end_to_the_beginning_pays_nothing() -> None:
    answers = read_all([(block, block) for block in reversed(range(50))], 50)
    assert all(not ahead for _, ahead in answers)


def test_a_jump_starts_over_with_no_window() -> None:
    *_, (before, _) = read_all([(block, block) for block in range(10)], 1000)
    assert before.window == LARGEST_WINDOW
    after, ahead = advance(before, 500, 500, 1000)
    assert (after, ahead) == (Pattern(501, 0, 501), range(0))


def test_the_window_doubles_up_to_the_limit() -> None:
    answers = read_all([(block, block) for block in range(10)], 1000)
    assert [pattern.window for pattern, _ in answers] == [0, 1, 2, 4, 8, 16, 32, 32, 32, 32]
    assert LARGEST_WINDOW == 32


def test_smaller_reads_within_a_block_neither_grow_the_window_nor_fetch() -> None:
    pattern, _ = advance(None, 0, 0, 100)
    for _ in range(20):
        assert advance(pattern, 0, 0, 100) == (pattern, range(0))
    grown, ahead = advance(pattern, 0, 1, 100)
    assert (grown.window, ahead) == (1, range(2, 3))


@given(totals, st.integers(0, 50), st.lists(st.integers(1, 6), min_size=2, max_size=200))
def test_no_block_is_asked_twice_by_a_sequential_reader(
    total: int, start: int, sizes: list[int]
) -> None:
    asked: set[int] = set()
    for _, ahead in read_all(in_order(sizes, total, start), total):
        assert asked.isdisjoint(ahead)
        asked.update(ahead)


@given(totals, st.lists(st.integers(1, 6), min_size=2, max_size=200))
def test_a_sequential_reader_never_finds_less_than_half_a_window_under_way(
    total: int, sizes: list[int]
) -> None:
    reads = in_order(sizes, total)
    asked: set[int] = set()
    for (first, last), (pattern, ahead) in zip(reads, read_all(reads, total), strict=True):
        asked.update(range(first, last + 1), ahead)
        if pattern.window:
            enough = min(pattern.window // 2 + 1, total - 1 - last)
            assert asked >= set(range(last + 1, last + 1 + enough))


def test_with_the_full_window_requests_stay_long() -> None:
    answers = read_all([(block, block) for block in range(2000)], 2000)
    requests = [len(ahead) for _, ahead in answers[10:-LARGEST_WINDOW] if ahead]
    assert requests[:-1]
    assert min(requests[:-1]) >= LARGEST_WINDOW // 2 - 1


@given(st.integers(3, 400))
def test_all_that_a_sequential_reader_needs_after_the_second_read_was_asked_before(
    total: int,
) -> None:
    reads = [(block, block) for block in range(total)]
    coming: set[int] = set()
    for (block, _), (_, ahead) in zip(reads, read_all(reads, total), strict=True):
        assert block < 2 or block in coming
        coming.update(ahead)
