"""Writes that programs need not wait for.

write(2) returns when the bytes are in memory, as on any file system; a thread brings them into the
staging file. The first one begins at once, and while a program goes on writing, what has come in a
moment goes together: so many small writes cost few hops to a thread, and none of them waits for
one. Whatever looks at the content or sets the times waits until all is there (`wait`), and so does
close(2): from then on a kill of the daemon loses nothing.

Where a write fails, what came after it for that file is dropped with it. The next write, close(2)
or fsync(2) says so, as the kernel does for its own pages; that the disk is full is known before
and told at once (`Staging.check_room`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from dbxfs.store.staged import StagedFile

log = logging.getLogger(__name__)

MOMENT = 0.005
TOGETHER = 1024 * 1024
"""Bytes that do not wait for more."""
MOST = 4 * 1024 * 1024
"""Bytes of a file that may be on their way; who writes more waits."""


@dataclass(slots=True)
class _Work:
    """A file that is written to."""

    wanted: trio.Event = field(default_factory=trio.Event)
    """What is on its way is to be brought there without waiting for more."""
    done: trio.Event = field(default_factory=trio.Event)
    """What was on its way is there, or is lost."""
    busy: bool = False
    """A thread is at it, and has the file in use for a moment longer than there are bytes."""


class WritesBehind:
    """What was written and is not in its staging file yet."""

    def __init__(self, nursery: trio.Nursery, lost: Callable[[int], None]) -> None:
        """`lost` is told of an inode some of whose written bytes are gone."""
        self._nursery = nursery
        self._lost = lost
        self._works: dict[StagedFile, _Work] = {}
        self._failures: dict[int, OSError] = {}

    async def write(self, staged: StagedFile, offset: int, data: bytes, now: int) -> None:
        """Take the bytes. Raises what an earlier write failed with."""
        self.complain(staged.ino)
        staged.write_later(offset, data, now)
        work = self._works.get(staged)
        if work is None:
            work = self._works[staged] = _Work()
            self._nursery.start_soon(self._work, staged, work)
        if staged.awaited >= TOGETHER:
            work.wanted.set()
        if staged.awaited > MOST:
            await self.wait(staged)

    async def wait(self, staged: StagedFile | None) -> None:
        """Return when nothing is on its way to the file, and nothing uses it for that."""
        while (
            staged is not None
            and (work := self._works.get(staged))
            and (staged.awaited or work.busy)
        ):
            work.wanted.set()
            await work.done.wait()

    def complain(self, ino: int, *, keep: bool = False) -> None:
        """Raise what could not be written to the inode's file; once, unless it is to be kept."""
        failure = self._failures.get(ino)
        if failure is not None:
            if not keep:
                del self._failures[ino]
            raise failure

    def forgive(self, ino: int) -> None:
        """Nobody who has written to the inode is left to be told."""
        self._failures.pop(ino, None)

    async def finish(self) -> None:
        """Return when nothing is on its way to any file."""
        for staged in list(self._works):
            await self.wait(staged)

    async def _work(self, staged: StagedFile, work: _Work) -> None:
        try:
            while staged.awaited:
                work.busy = True
                with staged.writing():
                    await trio.to_thread.run_sync(staged.carry_out)
                work.busy = False
                work.done.set()
                work.wanted, work.done = trio.Event(), trio.Event()
                with trio.move_on_after(MOMENT):
                    await work.wanted.wait()
        except OSError as error:
            # Also what has come since the thread gave up.
            staged.drop_awaited()
            if not staged.retired:
                log.warning("what was written to inode %d is lost: %s", staged.ino, error)
                self._failures[staged.ino] = error
                self._lost(staged.ino)
        finally:
            del self._works[staged]
            work.done.set()
