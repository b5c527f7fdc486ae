"""How the kernel's requests are taken: at once, one at a time, and not to the exclusion of all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from dbxfs.fs.requests import IN_A_ROW, Lock, Readable


class Turns(trio.abc.Instrument):
    """Counts how often the event loop looks for news."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
async def turns() -> Turns:
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    return turns


async def test_what_is_there_costs_no_turn(pipe: tuple[int, int], turns: Turns) -> None:
    readable, lock = Readable(), Lock()
    os.write(pipe[1], b"request")
    before = turns.count
    for _ in range(IN_A_ROW):
        async with lock:
            await readable.wait(pipe[0])
    assert turns.count == before


async def test_others_have_their_turn_however_much_is_there(
    pipe: tuple[int, int], turns: Turns
) -> None:
    readable = Readable()
    os.write(pipe[1], b"request")
    before = turns.count
    for _ in range(3 * (IN_A_ROW + 1)):
        await readable.wait(pipe[0])
    assert turns.count - before >= 3


async def test_what_comes_later_is_waited_for(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    readable, came = Readable(), trio.Event()

    async def wait() -> None:
        await readable.wait(pipe[0])
        came.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not came.is_set()
    os.write(pipe[1], b"request")
    with trio.fail_after(5):
        await came.wait()


async def test_a_file_that_is_closed_ends_the_wait(
    pipe: tuple[int, int], nursery: trio.Nursery
) -> None:
    ended = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await Readable().wait(pipe[0])
        ended.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.notify_closing(pipe[0])
    with trio.fail_after(5):
        await ended.wait()


async def test_one_at_a_time_and_everybody_in_the_end(nursery: trio.Nursery) -> None:
    lock, inside, done = Lock(), 0, []

    async def work(number: int) -> None:
        nonlocal inside
        for _ in range(5):
            async with lock:
                inside += 1
                assert inside == 1
                await trio.lowlevel.checkpoint()
                inside -= 1
        done.append(number)

    async with trio.open_nursery() as workers:
        for number in range(10):
            workers.start_soon(work, number)
    assert sorted(done) == list(range(10))


async def test_who_is_cancelled_while_it_waits_leaves_the_lock_to_others() -> None:
    lock = Lock()

    async def work() -> None:
        async with lock:
            pass

    async with trio.open_nursery() as waiting, lock:
        with trio.move_on_after(0.01):
            await work()
        waiting.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
    async with lock:
        pass
