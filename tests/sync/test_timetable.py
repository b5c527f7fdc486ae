"""When an inode's turn comes, by a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from dbxfs.store.database import Database
from dbxfs.sync.switch import Switch
from dbxfs.sync.timetable import CEILING, SETTLE, Timetable

Clock = trio.testing.MockClock


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    return Switch(Database(tmp_path / "state"))


@pytest.fixture
def times(switch: Switch) -> Timetable:
    return Timetable(switch)


async def turn(times: Timetable) -> tuple[list[int], float]:
    """Who is due next, and in how many seconds."""
    began = trio.current_time()
    due = await times.due(10)
    return sorted(due), pytest.approx(trio.current_time() - began)


async def test_what_is_changed_goes_when_it_has_settled(
    times: Timetable, autojump_clock: Clock
) -> None:
    times.changed(2)
    assert await turn(times) == ([2], SETTLE)


async def test_what_is_changed_again_and_again_goes_after_twenty_seconds(
    times: Timetable, autojump_clock: Clock
) -> None:
    async def change() -> None:
        while True:
            times.changed(2)
            await trio.sleep(SETTLE / 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        assert await turn(times) == ([2], CEILING)
        nursery.cancel_scope.cancel()


async def test_what_is_put_off_goes_at_its_time_and_those_that_are_due_together_go_together(
    times: Timetable,
    autojump_clock: Clock,
) -> None:
    times.put_off(2, 5)
    times.put_off(3, 5)
    times.put_off(4, 7)
    times.drop(4)
    assert times.is_put_off(2)
    assert not times.is_put_off(4)
    assert await turn(times) == ([2, 3], 5)


async def test_while_dropbox_asks_for_patience_nothing_is_due(
    times: Timetable, autojump_clock: Clock
) -> None:
    times.put_off(2)
    times.back_off(30, [3])
    assert await turn(times) == ([2, 3], 30)


async def test_a_pause_can_be_cut_short(times: Timetable, autojump_clock: Clock) -> None:
    times.put_off(2)
    times.back_off(30, [3])
    times.go_on()
    assert await turn(times) == ([2], 0)
    assert await turn(times) == ([3], 30)


@pytest.mark.parametrize("does", [Timetable.put_off, Timetable.changed])
async def test_while_sending_is_paused_nothing_is_due(
    times: Timetable, autojump_clock: Clock, switch: Switch, does: Callable[[Timetable, int], None]
) -> None:
    switch.on_change = times.wake
    switch.turn(paused=True)
    does(times, 2)
    with trio.move_on_after(1000):
        await times.due(10)
    assert trio.current_time() > 999
    switch.turn(paused=False)
    assert await turn(times) == ([2], 0)


async def test_who_waits_for_dropbox_waits_for_no_burst(
    times: Timetable, autojump_clock: Clock
) -> None:
    async def burst() -> None:
        for ino in range(2, 1000):
            times.changed(ino)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(burst)
        await trio.sleep(SETTLE + 0.5)
        with trio.move_on_after(1) as waited:
            await times.due(10)
        assert waited.cancelled_caught
        with times.awaited():
            due, after = await turn(times)
            assert (len(due), after) == (10, 0)
        nursery.cancel_scope.cancel()
