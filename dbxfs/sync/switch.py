"""The switch by which a person holds up what is not urgent: sending, pins, reading ahead.

It outlasts a restart: who has paused on a metered link does not expect a remount to go on.
Programs' own reads, and the feed that keeps the tree current, go on.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from dbxfs.store.database import Database

_KEY = "paused"


class Switch:
    """Whether bulk transfers are paused."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open = trio.Event()
        self.paused = database.get_meta(_KEY) == "1"
        self.on_change: Callable[[], None] = lambda: None
        """Told when it was turned."""

    def turn(self, *, paused: bool) -> None:
        """Pause, or go on."""
        self._database.set_meta(_KEY, "1" if paused else None)
        self.paused = paused
        if not paused:
            self._open.set()
            self._open = trio.Event()
        self.on_change()

    async def wait_open(self) -> None:
        """Return when nothing is paused."""
        while self.paused:
            await self._open.wait()
