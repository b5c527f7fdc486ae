"""Keeping the tree fresh: the first crawl, then one longpoll that is always open.

One task owns the cursor. A crawl's pages and the feed's pages go the same way: fetched, applied
as one transaction with the cursor, their effects given to the kernel's side. A kill loses the
page under way and nothing else. `reset` begins another crawl over the same tree.

**Turns.** Commits change the feed, and their replies and the feed's pages arrive on different
connections: a page could show a commit before its reply is known, or a state from before it. So
the two take turns (`turn`, a fair lock that only this task and the replicator hold, each over one
bounded request; nothing that a program does ever waits for it). What a page says is then always
what came after everything that was confirmed. The alternative, to look at each doubtful entry
once more, needs a request for each entry below a moved folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import sqlite3
from collections.abc import Awaitable, Callable

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import (
    CursorReset,
    DropboxError,
    EndpointError,
    RateLimited,
    ServerTrouble,
)
from dbxfs.core.backoff import delay
from dbxfs.core.model import ROOT, Cursor, Page, RemotePath
from dbxfs.store.inode import Effect
from dbxfs.store.remote import SLICE, RemoteChanges
from dbxfs.store.tree import Tree

from .programs import Programs

log = logging.getLogger(__name__)

LONGPOLL = 60
RETRY_CAP = 30.0
FEW, MANY = 4, 20
"""Entries of the first crawl that are applied without a pause, in a millisecond or in five."""
QUICK = 2.0
"""Seconds; a longpoll that was open for less, in vain, must not be opened again at once."""
RECRAWL_AFTER = 5
"""Times that a page fails to be applied before the tree is compared with a new listing."""


class WrongAccountError(Exception):
    """The tree belongs to another account than the credentials."""


class Feed:
    """Follows one account's changes into the tree."""

    def __init__(
        self,
        client: Client,
        changes: RemoteChanges,
        turn: trio.Lock,
        on_effects: Callable[[list[Effect]], None],
        on_connected: Callable[[], None],
        programs: Programs,
        *,
        account: str,
        root: RemotePath = ROOT,
        templates: Callable[[], Awaitable[tuple[str, ...]]] | None = None,
    ) -> None:
        """`on_effects` is told what each page made stale; it must not block, nor must the other.

        `on_connected` is told that Dropbox answers, for the first time or again. `account`: the id
        of the account that the tree belongs to. `root`: the folder that is followed.
        `templates` gives those whose properties are to come with the entries.
        """
        self._on_connected = on_connected
        self._programs = programs
        self._account = account
        self._root = root
        self._templates = templates
        self._connected = False
        self._identified = False
        self._client = client
        self._changes = changes
        self._turn = turn
        self._on_effects = on_effects
        self._caught_up = trio.Event()
        self._polling: trio.CancelScope | None = None
        self._wanted = False
        self._listing_wanted = False
        self._behind = True
        self._in_vain = 0
        self.trouble: str | None = None
        """Why it is not following at the moment, for people; None: all is well."""

    async def run(self) -> None:
        """Follow for ever. Whatever Dropbox answers, it tries again, later and later.

        Raises `WrongAccountError` before anything of another account is applied.
        """
        failures = unapplied = resets = 0
        if self._changes.cursor is None:
            self._changes.begin_crawl()
        while True:
            try:
                await self._identify()
                await self._step()
                failures = 0
                self._report(None)
                if not self._changes.crawling:
                    resets = 0
            except CursorReset:
                log.info("Dropbox asks for a new listing; the tree is compared with it")
                self._recrawl()
                if resets:
                    await self._pause(_delay(resets))
                resets += 1
            except DropboxError as error:
                if isinstance(error, EndpointError) and error.has("template_not_found"):
                    # Somebody has removed it: list what there is without.
                    with contextlib.suppress(sqlite3.Error):
                        self._changes.list_with(())
                self._report(error)
                pause = _delay(failures)
                if isinstance(error, RateLimited | ServerTrouble) and error.retry_after:
                    pause = max(pause, error.retry_after)
                failures += 1
                await self._pause(pause)
            except WrongAccountError:
                raise
            except Exception as error:
                # The page was rolled back and comes again; a mistake of ours, or a full disk,
                # must not end the mount.
                log.exception("a page could not be applied")
                self.trouble = f"a change could not be applied: {error}"
                await self._pause(RETRY_CAP)
                unapplied += 1
                if unapplied % RECRAWL_AFTER == 0:
                    self._recrawl()

    async def catch_up(self) -> None:
        """Return when everything that was on Dropbox at the call has been applied."""
        self._wanted = True
        self._caught_up = self._caught_up if not self._caught_up.is_set() else trio.Event()
        if self._polling is not None:
            self._polling.cancel()
        await self._caught_up.wait()

    async def list_again(self) -> None:
        """Return when the tree has been compared with a new listing, and what differed applied."""
        self._listing_wanted = True
        await self.catch_up()

    def _recrawl(self) -> None:
        try:
            self._changes.begin_crawl()
        except sqlite3.Error as error:
            log.warning("a new listing cannot be begun: %s", error)

    async def _identify(self) -> None:
        """Once: see to it that the credentials are those of the tree's account."""
        if self._identified:
            return
        account = await self._client.account()
        if account.account_id != self._account:
            raise WrongAccountError(
                f"the credentials are those of {account.email}, but this state belongs to another "
                "account; mount with the right ones, or give the mount a state_dir of its own"
            )
        await self._ask_for_templates()
        self._identified = True

    async def _ask_for_templates(self) -> None:
        """A cursor brings the properties that its listing was asked for with, and no others."""
        if self._templates is None:
            return
        wanted = await self._templates()
        if wanted != self._changes.templates:
            self._changes.begin_crawl()
            self._changes.list_with(wanted)

    async def _step(self) -> None:
        """One crawl page; or wait for changes, then apply them."""
        changes = self._changes
        if self._listing_wanted:
            # Here and nowhere else: a page that is under way would be taken for the listing's.
            self._listing_wanted = False
            changes.begin_crawl()
        if changes.cursor is None:
            await self._turn_of(None)
        elif changes.crawling or self._wanted or self.trouble is not None or self._behind:
            await self._drain(changes.cursor)
        else:
            await self._poll(changes.cursor)

    async def _drain(self, cursor: Cursor) -> None:
        """Apply pages until there are no more."""
        wanted, self._wanted = self._wanted, False
        while True:
            try:
                page = await self._turn_of(cursor)
            except BaseException:
                self._wanted = self._wanted or wanted
                raise
            cursor = page.cursor
            if page.entries:
                self._in_vain = 0
            if not page.has_more:
                break
        self._behind = False
        if wanted and not self._wanted:
            self._caught_up.set()

    async def _turn_of(self, cursor: Cursor | None) -> Page:
        async with self._turn:
            templates = self._changes.templates
            if cursor is None:
                page = await self._client.list_folder(
                    self._root, recursive=True, templates=templates, patience=0
                )
            else:
                page = await self._client.list_folder_continue(
                    cursor, templates=templates, patience=0
                )
            for effects in self._changes.apply_in_slices(page, self._slice()):
                self._on_effects(effects)
                await self._programs.go_first()
        # Between two pages, or the log would grow for as long as a crawl goes on.
        await trio.to_thread.run_sync(self._changes.checkpoint)
        return page

    def _slice(self) -> int:
        """Entries to apply without a pause."""
        if self._changes.complete:
            # Watchers are told at once of what was moved together.
            return SLICE
        return FEW if self._programs.were_here_lately() else MANY

    async def _poll(self, cursor: Cursor) -> None:
        if self._in_vain > 1:
            await self._pause(_delay(self._in_vain))
            if self._wanted:
                return
        began = trio.current_time()
        with trio.CancelScope() as self._polling:
            try:
                reply = await self._client.longpoll(cursor, timeout=LONGPOLL)
                if reply.backoff:
                    await trio.sleep(reply.backoff)
            finally:
                self._polling = None
            if reply.changes:
                self._behind = True
            self._in_vain = self._in_vain + 1 if trio.current_time() - began < QUICK else 0

    async def _pause(self, seconds: float) -> None:
        with trio.CancelScope(deadline=trio.current_time() + seconds) as self._polling:
            await trio.sleep(math.inf)
        self._polling = None

    def _report(self, error: DropboxError | None) -> None:
        trouble = None if error is None else str(error)
        if trouble is not None and trouble != self.trouble:
            log.warning("changes made elsewhere cannot be followed: %s", trouble)
        self.trouble = trouble
        if trouble is None and not self._connected:
            log.info("connected to Dropbox")
            self._on_connected()
        self._connected = trouble is None


def _delay(failures: int) -> float:
    return delay(failures, base=1, cap=RETRY_CAP, random=random.random())  # noqa: S311


class Listing:
    """Folders that the first crawl has not reached, listed when they are asked for."""

    def __init__(
        self,
        client: Client,
        tree: Tree,
        changes: RemoteChanges,
        on_effects: Callable[[list[Effect]], None],
    ) -> None:
        self._client = client
        self._tree = tree
        self._changes = changes
        self._on_effects = on_effects
        self._under_way: dict[int, trio.Event] = {}

    async def ensure(self, ino: int) -> None:
        """Return when the folder's entries are all known; raises `DropboxError`.

        Those who ask meanwhile wait for the same request; should it fail or be cancelled, the
        next of them asks again.
        """
        while not self._tree.children_known(self._tree.get(ino)):
            if self._tree.base_path(ino) is None:
                # Gone from Dropbox meanwhile: what is here is all there is.
                return
            under_way = self._under_way.get(ino)
            if under_way is not None:
                await under_way.wait()
                continue
            self._under_way[ino] = trio.Event()
            try:
                await self._list(ino)
            finally:
                self._under_way.pop(ino).set()

    async def _list(self, ino: int) -> None:
        path = self._tree.base_path(ino)
        if path is None:
            return
        templates = self._changes.templates
        page = await self._client.list_folder(path, recursive=False, templates=templates)
        entries = list(page.entries)
        while page.has_more:
            page = await self._client.list_folder_continue(page.cursor, templates=templates)
            entries += page.entries
        for effects in self._changes.apply_listing(ino, path, entries):
            self._on_effects(effects)
            # A program waits for this one.
            await trio.lowlevel.checkpoint()
