"""Who waits for whom: background work for programs, but not for long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dbxfs.sync.programs import LATELY, PATIENCE, PAUSE, SHARE, Programs


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def test_nobody_waits_for_programs_that_ask_for_nothing(autojump_clock: MockClock) -> None:
    programs = Programs()
    began = trio.current_time()
    await programs.go_first()
    programs.asked()
    programs.answered()
    await trio.sleep(PAUSE)
    await programs.go_first()
    assert trio.current_time() - began == PAUSE


async def test_background_work_goes_on_when_a_program_pauses(autojump_clock: MockClock) -> None:
    programs = Programs()
    began = trio.current_time()
    programs.asked()
    programs.answered()
    await programs.go_first()
    assert trio.current_time() - began == pytest.approx(PAUSE)


async def test_a_program_whose_request_waits_does_not_pause(autojump_clock: MockClock) -> None:
    programs = Programs()
    began = trio.current_time()
    programs.asked()
    await programs.go_first()
    assert trio.current_time() - began == pytest.approx(PATIENCE)


async def test_background_work_goes_on_though_a_program_does_not_pause(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    programs = Programs()

    async def work() -> None:
        while True:
            programs.asked()
            programs.answered()
            await trio.sleep(PAUSE / 3)

    nursery.start_soon(work)
    await trio.sleep(PAUSE)
    began = trio.current_time()
    await programs.go_first()
    waited = trio.current_time() - began
    assert PATIENCE <= waited < PATIENCE + 2 * PAUSE
    await trio.sleep(2 * PAUSE)
    began = trio.current_time()
    await programs.go_first()
    waited = trio.current_time() - began
    assert SHARE * 2 * PAUSE <= waited < (SHARE * 2 + 2) * PAUSE, "so it has its share of the time"


async def test_who_was_here_lately_is_likely_to_come_again(autojump_clock: MockClock) -> None:
    programs = Programs()
    assert not programs.were_here_lately()
    programs.asked()
    await trio.sleep(2 * LATELY)
    assert programs.were_here_lately()
    programs.answered()
    await trio.sleep(LATELY / 2)
    assert programs.were_here_lately()
    await trio.sleep(LATELY / 2)
    assert not programs.were_here_lately()
