"""How much room there is on Dropbox, as statfs shows it: asked now and then, and after a sync."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import DropboxError, PathRootChanged
from dbxfs.core.model import Space
from dbxfs.store.database import Database

log = logging.getLogger(__name__)

EVERY = 60.0


class SpaceWatch:
    """Keeps what `users/get_space_usage` says in the database, where an offline mount finds it."""

    def __init__(
        self, client: Client, database: Database, on_root_changed: Callable[[str | None], None]
    ) -> None:
        """`on_root_changed` is told the namespace of a team's root that is another one now."""
        self._client = client
        self._database = database
        self._on_root_changed = on_root_changed

    def known(self) -> Space | None:
        """What was said last; None: nothing yet."""
        stored = self._database.get_meta("space")
        if stored is None:
            return None
        used, allocated = stored.split()
        return Space(used=int(used), allocated=int(allocated))

    async def refresh(self) -> None:
        """Ask; without an answer what is known stays."""
        try:
            space = await self._client.space()
            self._database.set_meta("space", f"{space.used} {space.allocated}")
        except PathRootChanged as error:
            self._on_root_changed(error.root_namespace)
        except DropboxError as error:
            log.debug("the quota is not known: %s", error)
        except sqlite3.Error as error:
            log.warning("the quota cannot be stored: %s", error)

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.refresh()
            await trio.sleep(EVERY)
