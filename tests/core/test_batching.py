"""What goes together into one call: laws that hold for any mixture, and the cases that matter."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.batching import (
    BATCH_BYTES,
    BODY_BYTES,
    FEWEST,
    LONG,
    LONGER,
    LULL,
    MANY,
    MOST,
    SMALL,
    TOO_LONG,
    Burst,
    Member,
    Size,
    batches,
    bodies,
)
from dbxfs.core.model import RemotePath
from dbxfs.core.plan import Bring, CreateFolder, Delete, Move, Upload

names = st.text("abc", min_size=1, max_size=2)
places = st.lists(names, min_size=1, max_size=3).map(
    lambda parts: RemotePath("/" + "/".join(parts))
)


def upload(ino: int, size: int = 10) -> Member:
    return Member(ino, Upload(RemotePath(f"/{ino}"), None), size)


def move(ino: int, source: str, target: str) -> Member:
    paths = (RemotePath(source), RemotePath(target))
    return Member(ino, Move(*paths), paths=paths)


def inos(found: list[list[Member]]) -> list[list[int]]:
    return [[member.ino for member in batch] for batch in found]


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    found = []
    for ino in range(2, draw(st.integers(2, 30))):
        path, other = draw(places), draw(places)
        kind = draw(st.sampled_from(["create", "delete", "move", "upload", "large", "bring"]))
        call = {
            "create": CreateFolder(path),
            "delete": Delete(path, None),
            "move": Move(path, other),
            "upload": Upload(path, None),
            "large": Upload(path, None),
            "bring": Bring(),
        }[kind]
        size = {"upload": 1000, "large": SMALL + 1}.get(kind, 0)
        found.append(Member(ino, call, size, (path, other) if kind == "move" else ()))
    return found


@given(members(), st.integers(1, 8), st.sets(st.integers(2, 30)))
def test_everyone_is_in_one_batch_of_their_own_kind(
    given: list[Member], most: int, alone: set[int]
) -> None:
    found = batches(given, most, alone)
    assert sorted(ino for batch in inos(found) for ino in batch) == [m.ino for m in given]
    for batch in found:
        assert len({type(member.call) for member in batch}) == 1
        assert 1 <= len(batch) <= most
        if len(batch) > 1:
            assert not any(member.ino in alone for member in batch)
            assert not any(isinstance(member.call, Bring) for member in batch)
            assert all(member.size <= SMALL for member in batch)


@given(members())
def test_moves_that_touch_each_other_never_go_together(given: list[Member]) -> None:
    for batch in batches(given):
        for one in batch:
            for other in batch:
                if one.ino != other.ino:
                    assert not any(
                        a == b or a.startswith(f"{b}/") for a in one.paths for b in other.paths
                    )


def test_a_thousand_files_are_one_batch_and_the_next_is_another() -> None:
    assert [len(batch) for batch in batches(upload(ino) for ino in range(2, 2502))] == [
        MOST,
        MOST,
        500,
    ]


def test_a_batch_has_a_second_of_the_link() -> None:
    size = SMALL
    found = batches([upload(ino, size) for ino in range(2, 22)])
    assert all(sum(member.size for member in batch) <= BATCH_BYTES for batch in found)
    assert len(found) == 3


def test_a_large_file_keeps_nobody_waiting() -> None:
    assert inos(batches([upload(2), upload(3, SMALL + 1), upload(4)])) == [[2, 4], [3]]


def test_a_move_out_of_a_folder_that_moves_is_in_another_batch() -> None:
    given = [move(2, "/a", "/b"), move(3, "/a/x", "/x"), move(4, "/c", "/d")]
    assert inos(batches(given)) == [[2, 4], [3]]


@given(st.lists(st.integers(0, SMALL), max_size=60), st.integers(1, 20))
def test_bodies_share_out_all_files_in_their_order(sizes: list[int], entries: int) -> None:
    runs = bodies(sizes, entries)
    assert [index for run in runs for index in run] == list(range(len(sizes)))
    for run in runs:
        assert 1 <= len(run) <= entries
        assert len(run) == 1 or sum(sizes[index] for index in run) <= BODY_BYTES


@pytest.mark.parametrize(
    ("before", "seconds", "busy", "after"),
    [
        (MOST, 1.0, False, MOST),
        (MOST, 1.0, True, MOST // 2),
        (MOST, TOO_LONG + 1, False, MOST // 2),
        (FEWEST, 1.0, True, FEWEST),
        (100, 1.0, False, 200),
    ],
)
def test_the_size_follows_what_dropbox_bears(
    before: int, seconds: float, busy: bool, after: int
) -> None:
    assert Size(before).after(seconds=seconds, busy=busy) == Size(after)


def test_a_burst_is_sent_when_it_pauses() -> None:
    burst = Burst()
    for tenth in range(20):
        burst = burst.changed(10 + tenth / 10)
    assert burst.opens() == pytest.approx(11.9 + LULL)


def test_a_burst_without_end_is_sent_now_and_then() -> None:
    burst, sent = Burst(), [10.0]
    for tenth in range(700):
        now = 10 + tenth / 10
        burst = burst.changed(now)
        if now >= burst.opens():
            sent.append(now)
            burst = burst.sent(now)
    between = [later - sooner for sooner, later in itertools.pairwise(sent)]
    assert between == pytest.approx([LONG, LONGER, LONGER, LONGER], abs=0.2)


def test_after_a_pause_a_burst_is_a_new_one() -> None:
    burst = Burst().changed(10).sent(14).sent(22).changed(30)
    assert burst == Burst().changed(30)


def test_who_sends_late_does_not_end_a_burst() -> None:
    burst = Burst().changed(10.0)
    for tenth in range(100):
        burst = burst.changed(10 + tenth / 10)
    assert burst.opens() == 10.0 + LONG
    assert burst.sent(19.9).opens() == pytest.approx(19.9 + LULL)


@pytest.mark.parametrize(
    ("changes", "now", "over"), [(MANY, 10.4, False), (MANY, 10.6, True), (MANY - 1, 10.6, False)]
)
def test_many_changes_are_over_at_their_pause(changes: int, now: float, over: bool) -> None:
    burst = Burst()
    for _ in range(changes):
        burst = burst.changed(10.0)
    assert burst.goes_on(now) == (now < 10.5)
    assert burst.is_over(now) == over


def test_who_reads_goes_before_many_changes_but_not_for_long() -> None:
    burst = Burst()
    for hundredth in range(MANY):
        burst = burst.changed(10 + hundredth / 100)
    assert burst.read(10.5).opens() == pytest.approx(10.5 + LULL)
    assert burst.read(20.0) == burst
    for tenth in range(100):
        burst = burst.read(10 + tenth / 10)
    assert burst.opens() == 10.0 + LONG


def test_a_lone_change_waits_for_no_reader() -> None:
    burst = Burst().changed(10.0)
    assert burst.read(10.4) == burst


def test_a_single_change_waits_for_nobody() -> None:
    assert Burst().opens() == -math.inf
    assert Burst().changed(10.0).opens() == 10.0 + LULL
