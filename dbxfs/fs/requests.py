"""Taking the kernel's requests: all that wait in one turn of the event loop, up to a few.

pyfuse3 goes through the event loop for each request: once for a lock, once to hear that there is
one. While uploads and the feed are at work a turn takes some milliseconds, and a program's
operation is a chain of requests, among those of others. So what is there already is taken at once.

pyfuse3 asks its attribute `trio` for all that it needs of an event loop, as its own layer for
asyncio has it; it is given the same with another lock and another way of waiting.
"""

from __future__ import annotations

import select
from types import SimpleNamespace

import pyfuse3
import trio
from trio.lowlevel import ParkingLot

IN_A_ROW = 8
"""Requests that are taken while everything else waits, in a millisecond or two."""


class Lock:
    """A lock that costs no turn of the event loop when it is free, and prefers who comes back."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = ParkingLot()

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        self._waiting.unpark()


class Readable:
    """Waits until there is something to read; looks first."""

    def __init__(self) -> None:
        self._fd = -1
        self._poll = select.poll()
        self._in_a_row = 0

    async def wait(self, fd: int) -> None:
        """Return when there is something to read; without a turn where there is already."""
        if fd != self._fd:
            self._fd, self._poll = fd, select.poll()
            self._poll.register(fd, select.POLLIN)
        if self._in_a_row < IN_A_ROW and self._poll.poll(0):
            self._in_a_row += 1
            return
        self._in_a_row = 0
        await trio.lowlevel.wait_readable(fd)


def take_at_once() -> None:
    """Have pyfuse3 take requests this way, from its first session on."""
    loop = SimpleNamespace(
        current_task=trio.lowlevel.current_task,
        current_trio_token=trio.lowlevel.current_trio_token,
        notify_closing=trio.lowlevel.notify_closing,
        wait_readable=Readable().wait,
    )
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined]
        ClosedResourceError=trio.ClosedResourceError,
        Lock=Lock,
        lowlevel=loop,
        open_nursery=trio.open_nursery,
    )
