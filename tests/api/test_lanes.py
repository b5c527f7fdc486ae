"""A lane bounds what runs at once; a pause stops its own lane and no other."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from dbxfs.api.errors import RateLimited
from dbxfs.api.lanes import Hold, Lane, Lanes


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=8), st.floats(0, 300))
def test_a_hold_lasts_as_long_as_the_longest_asked_for(
    pauses: list[tuple[float, float]], now: float
) -> None:
    hold = Hold()
    for at, seconds in pauses:
        hold.extend(at, seconds, "r")
    until = max((at + seconds for at, seconds in pauses), default=now)
    assert hold.remaining(now) == max(0.0, until - now)


def test_the_reason_is_that_of_the_longest_hold() -> None:
    hold = Hold()
    hold.extend(0, 10, "long")
    hold.extend(0, 5, "short")
    assert hold.reason == "long"


async def test_no_more_than_the_limit_at_once() -> None:
    lane, inside, most, leave = Lane(3), 0, 0, trio.Event()

    async def call() -> None:
        nonlocal inside, most
        async with lane.slot():
            inside += 1
            most = max(most, inside)
            await leave.wait()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(call)
        await wait_all_tasks_blocked()
        assert inside == 3
        leave.set()
    assert most == 3
    assert inside == 0


async def test_one_task_may_hold_several_places() -> None:
    lane = Lane(2)
    async with lane.slot(), lane.slot():
        with trio.move_on_after(0):
            async with lane.slot():
                pytest.fail("a third place in a lane of two")


async def test_a_place_is_given_back_after_an_error_and_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    lane = Lane(1)
    with pytest.raises(RuntimeError):
        async with lane.slot():
            raise RuntimeError
    with trio.move_on_after(1):
        async with lane.slot():
            await trio.sleep_forever()
    with trio.fail_after(1):
        async with lane.slot():
            pass


async def test_a_pause_holds_every_caller_until_its_end(autojump_clock: MockClock) -> None:
    lane, starts = Lane(2), list[float]()
    lane.pause(5)

    async def call() -> None:
        async with lane.slot():
            starts.append(trio.current_time())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(call)
    assert [start - began for start in starts] == pytest.approx([5, 5, 5, 5])


async def test_a_pause_also_holds_who_was_waiting_for_a_place(autojump_clock: MockClock) -> None:
    lane, starts = Lane(1), list[float]()
    began = trio.current_time()

    async def second() -> None:
        async with lane.slot():
            starts.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery, lane.slot():
        nursery.start_soon(second)
        await wait_all_tasks_blocked()
        lane.pause(7)
    assert starts == pytest.approx([7])


async def test_a_pause_grows_while_one_waits(autojump_clock: MockClock) -> None:
    lane = Lane(1)
    lane.pause(2)
    began = trio.current_time()

    async def again() -> None:
        await trio.sleep(1)
        lane.pause(4)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(again)
        async with lane.slot():
            assert trio.current_time() - began == pytest.approx(5)


async def test_a_pause_longer_than_the_patience_is_said_at_once(
    autojump_clock: MockClock,
) -> None:
    lane = Lane(1)
    lane.pause(300, "too_many_write_operations")
    began = trio.current_time()
    with pytest.raises(RateLimited) as caught:
        async with lane.slot(20):
            pass
    assert trio.current_time() == began
    assert caught.value.reason == "too_many_write_operations"
    assert caught.value.retry_after == pytest.approx(300)


async def test_a_paused_lane_never_stops_another(autojump_clock: MockClock) -> None:
    lanes = Lanes()
    lanes.commit.pause(1000)
    began = trio.current_time()
    for lane in (lanes.metadata, lanes.download, lanes.append, lanes.longpoll):
        async with lane.slot():
            assert trio.current_time() == began


async def test_there_is_a_connection_for_every_place() -> None:
    assert Lanes(metadata=3, download=5, append=2).connections == 16
