"""The agenda against a plain dictionary that is searched from end to end."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dbxfs.sync.agenda import Agenda

inodes = st.integers(2, 6)
times = st.integers(0, 8).map(float)
operations = st.one_of(
    st.tuples(st.just("put"), inodes, times),
    st.tuples(st.just("settle"), inodes, times),
    st.tuples(st.just("admit"), inodes, times),
    st.tuples(st.just("drop"), inodes, times),
    st.tuples(st.just("take"), inodes, times),
)


@given(st.lists(operations, max_size=60))
def test_it_answers_as_dictionaries_would(steps: list[tuple[str, int, float]]) -> None:
    agenda = Agenda()
    admitted, settling = dict[int, float](), dict[int, float]()
    for what, ino, time in steps:
        if what in ("put", "settle", "drop"):
            admitted.pop(ino, None)
            settling.pop(ino, None)
        if what == "put":
            agenda.put(ino, time)
            admitted[ino] = time
        elif what == "settle":
            agenda.settle(ino, time, 1.0, math.inf)
            settling[ino] = time + 1.0
        elif what == "admit":
            settled = {one: at for one, at in settling.items() if at <= time}
            assert agenda.admit(min(time, 3.0), time) == bool(settled)
            admitted |= {one: min(at, 3.0, time) for one, at in settled.items()}
            settling = {one: at for one, at in settling.items() if one not in settled}
        elif what == "drop":
            agenda.drop(ino)
        else:
            due = [(at, one) for one, at in admitted.items() if at <= time]
            expected = [one for _, one in sorted(due)[:2]]
            assert agenda.take(time, 2) == expected
            for one in expected:
                del admitted[one]
        assert agenda.next_time() == min(admitted.values(), default=math.inf)
        assert agenda.next_settled() == min(settling.values(), default=math.inf)
        both = admitted | settling
        assert all(agenda.due(one) == both.get(one, -math.inf) for one in range(2, 7))


def test_who_takes_the_place_of_another_waits_no_longer_than_that_would_have() -> None:
    agenda = Agenda()
    for second in range(30):
        agenda.settle(second, second, 5.0, 20.0)
        if second:
            agenda.hand_on(second - 1, second)
            agenda.settle(second, second, 5.0, 20.0)
            agenda.drop(second - 1)
        assert agenda.next_settled() == min(second + 5.0, max(second, 20.0))


@given(st.dictionaries(inodes, times))
def test_what_is_due_comes_out_in_the_order_of_time_and_once(due: dict[int, float]) -> None:
    agenda = Agenda()
    for ino, time in due.items():
        agenda.put(ino, time + 1)
        agenda.put(ino, time)
        agenda.put(ino, time)
    taken = agenda.take(100.0, 10)
    assert taken == [ino for _, ino in sorted((time, ino) for ino, time in due.items())]
    assert agenda.take(100.0, 10) == []
    assert agenda.next_time() == math.inf


def test_an_inode_that_is_put_off_is_not_taken_at_its_first_time() -> None:
    agenda = Agenda()
    agenda.put(2, 1.0)
    agenda.put(2, 5.0)
    assert agenda.take(4.9, 10) == []
    assert agenda.next_time() == 5.0
    assert agenda.take(5.0, 10) == [2]


def test_an_inode_that_is_put_forward_is_taken_once() -> None:
    agenda = Agenda()
    agenda.put(2, 5.0)
    agenda.put(2, 1.0)
    assert agenda.take(1.0, 10) == [2]
    assert agenda.take(5.0, 10) == []


def test_what_is_changed_again_and_again_is_due_at_the_ceiling() -> None:
    agenda = Agenda()
    for now in range(100):
        agenda.settle(2, float(now), 5.0, 20.0)
        assert agenda.admit(float(now), float(now)) == (now >= 20)
    assert agenda.take(99.0, 10) == [2]
    agenda.settle(2, 200.0, 5.0, 20.0)
    assert agenda.next_settled() == 205.0


def test_regression_what_is_set_again_and_again_takes_no_more_memory() -> None:
    agenda = Agenda()
    for now in range(10_000):
        agenda.settle(2, float(now), 5.0, math.inf)
        agenda.put(3, float(now))
    assert len(agenda._settling) + len(agenda._open) < 200
    assert (agenda.next_settled(), agenda.next_time()) == (10_004.0, 9_999.0)
