"""How much room there is on Dropbox: what statfs shows, and how much programs may still write.

Dropbox is asked now and then, and after a sync. Between two answers what programs add is counted,
so that a write which cannot fit is refused when it is made and not an hour later by Dropbox. What
they truncate and remove is not: before a refusal all that waits is counted anew, and Dropbox asked
again if its answer is old.
"""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import DropboxError, PathRootChanged
from dbxfs.core.model import Space
from dbxfs.core.refusals import NO_SPACE
from dbxfs.store.database import Database

log = logging.getLogger(__name__)

EVERY = 60.0
OLD = 2.0
"""Seconds after which an answer is too old to refuse a write by."""
PATIENCE = 5.0
"""Seconds that a write waits for a newer answer."""


class SpaceWatch:
    """Keeps what `users/get_space_usage` says in the database, where an offline mount finds it."""

    def __init__(
        self,
        client: Client,
        database: Database,
        on_root_changed: Callable[[str | None], None],
        retry: Callable[[str], None],
        growing: Callable[[], int],
    ) -> None:
        """`on_root_changed` is told the namespace of a team's root that is another one now.

        `retry` is told the kind of refusals (core.refusals) whose cause may be gone. `growing`
        gives the bytes that programs have added and the database does not know yet.
        """
        self._client = client
        self._database = database
        self._on_root_changed = on_root_changed
        self._retry = retry
        self._growing = growing
        self._asked = -math.inf
        self._asking = trio.Lock()
        self._unsent = 0
        self._added = 0

    def known(self) -> Space | None:
        """What was said last; None: nothing yet."""
        stored = self._database.get_meta("space")
        if stored is None:
            return None
        used, allocated = stored.split()
        return Space(used=int(used), allocated=int(allocated))

    def room(self) -> float:
        """Bytes that programs may still add, what is not sent yet considered."""
        space = self.known()
        if space is None or not space.allocated:
            return math.inf
        return space.allocated - space.used - self._unsent - self._added

    async def add(self, size: int) -> bool:
        """A program wants to make a file larger by `size` bytes; whether they fit."""
        if size > self.room():
            await self._count()
        if size > self.room():
            with trio.move_on_after(PATIENCE):
                async with self._asking:
                    if trio.current_time() - self._asked > OLD:
                        await self.refresh()
        if size > self.room():
            return False
        self._added += size
        return True

    async def refresh(self) -> None:
        """Ask; without an answer what is known stays."""
        try:
            space = await self._client.space()
            self._database.set_meta("space", f"{space.used} {space.allocated}")
            self._asked = trio.current_time()
            await self._count()
            if self.room() > 0:
                self._retry(NO_SPACE)
        except PathRootChanged as error:
            self._on_root_changed(error.root_namespace)
        except DropboxError as error:
            log.debug("the quota is not known: %s", error)
        except sqlite3.Error as error:
            log.warning("the quota cannot be stored: %s", error)

    async def _count(self) -> None:
        """Count anew what is not sent."""
        added = self._added
        try:
            unsent = await trio.to_thread.run_sync(self._database.unsent)
        except sqlite3.Error as error:
            log.warning("what is not sent cannot be counted: %s", error)
        else:
            self._unsent, self._added = unsent + self._growing(), self._added - added

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.refresh()
            await trio.sleep(EVERY)
