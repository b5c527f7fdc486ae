"""`dbxfs check`: database, staging, cache and Dropbox held against each other, on a running mount.

The daemon does it, as it alone knows what is under way. Each part is read in a thread from a
connection of its own, so programs notice nothing; what is found is looked for again after a
moment, since the parts are not read in the same instant.

Repair goes from what others depend on to what depends on it: first the places and rows that hang
on nothing, then a new listing where Dropbox is not known rightly, then, after another look, what
is to be sent. What is still found at the end is told as not repaired.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from dbxfs.api.errors import DropboxError
from dbxfs.store.blocks import BLOCK
from dbxfs.store.checking import LISTED, PROBLEMS, Finding, Rule, StoreCheck
from dbxfs.store.comparison import Comparison, Difference
from dbxfs.store.inode import Content
from dbxfs.store.repairing import LISTING, REMEDIES, Repair, holders
from dbxfs.store.scrubbing import SAMPLE, Scrub
from dbxfs.store.tree import TreeError
from dbxfs.sync.checking import compare, interruptible

if TYPE_CHECKING:
    from .services import Services

T = TypeVar("T")

PAUSES = (0.0, 0.3, 1.0)
"""Seconds before the looks at the store; what is not found in each of them was under way."""
PATIENCE = 10.0
"""Seconds without Dropbox after which it is left out."""
PROGRESS_EVERY = 0.5

LAST = frozenset({Rule.NOT_PENDING, Rule.NOTHING_PENDING, Rule.SIZE, Rule.NO_CONTENT})
"""What is judged by the base, and so mended after it."""
NOT_TO_TRUST = frozenset({Rule.DAMAGED, Rule.UNREADABLE})

IN_CACHE = "what is cached of it is not what Dropbox has"
DROP = "--repair drops it from the cache"
LIST = "--repair compares all with a new listing"


@dataclass(slots=True)
class Found:
    """All that one look has found; `None` for what could not be looked at."""

    store: list[Finding]
    cache: dict[str, list[int]]
    there: list[Difference] | None

    def __bool__(self) -> bool:
        return bool(self.store or self.cache or self.there)


async def check(
    services: Services,
    reply: Callable[[dict[str, Any]], Awaitable[None]],
    *,
    repair: bool,
    full: bool,
) -> None:
    """Answer the command; progress now and then. `full`: all of the cache, not a sample."""
    work = _Check(services, full=full)
    async with trio.open_nursery() as nursery:

        async def progress() -> None:
            while True:
                await trio.sleep(PROGRESS_EVERY)
                await reply({"checking": work.part})

        nursery.start_soon(progress)
        found = await work.look()
        left = await work.repair(found) if repair and found else found
        nursery.cancel_scope.cancel()
    await reply({**work.report(found, left), "done": True})


class _Check:
    """One check of one mount."""

    def __init__(self, services: Services, *, full: bool) -> None:
        """`full`: read all of the cache, not a sample."""
        self._services = services
        self._database = services.tree.database
        self._sample = None if full else SAMPLE
        self.part = "database"
        """What is being looked at, for people."""
        self.trouble: str | None = None
        """Why Dropbox was left out."""
        self._cached_paths: dict[str, str] = {}
        """Of contents that are cached wrongly."""

    # ---- Looking ----

    async def look(self) -> Found:
        """Everything, once."""
        return Found(await self._store(), await self._cache(), await self._dropbox())

    async def _store(self) -> list[Finding]:
        self.part = "database"
        findings: list[Finding] = []
        for pause in PAUSES:
            await trio.sleep(pause)
            before, findings = set(findings), await self._look_at_store()
            if pause:
                findings = [finding for finding in findings if finding in before]
            if not findings:
                break
        self._database.trusted = not NOT_TO_TRUST & {finding.rule for finding in findings}
        return findings

    async def _look_at_store(self) -> list[Finding]:
        tree, staging = self._services.tree, self._services.staging
        store = StoreCheck(
            self._database.path,
            self._services.folders.staging,
            tree.in_use,
            lambda ino: staging.peek(ino) is not None,
        )
        try:
            return await interruptible(store.run, store.interrupt)
        except sqlite3.OperationalError as error:
            return [Finding(Rule.UNREADABLE, 0, "", str(error))]

    async def _cache(self) -> dict[str, list[int]]:
        self.part = "cache"
        scrub = Scrub(self._services.cache, self._sample)
        found = await interruptible(scrub.run, scrub.interrupt)
        bad = dict(found.bad)
        self._cached_paths.update((content, content) for content in {**bad, **found.unsure})
        for ino, content in (await self._holders({**bad, **found.unsure})).items():
            inode = self._services.tree.find(ino)
            cached = len(found.unsure.get(content, ())) * BLOCK
            if inode is not None and cached and inode.base_size == cached:
                bad[content] = found.unsure[content]
            with contextlib.suppress(TreeError):
                self._cached_paths[content] = self._services.tree.path(ino)
        return bad

    async def _holders(self, contents: Iterable[str]) -> dict[int, str]:
        found = list(contents)
        if not found:
            return {}
        return await trio.to_thread.run_sync(holders, self._database.path, found)

    async def _dropbox(self) -> list[Difference] | None:
        """What differs; None: Dropbox did not answer."""
        self.part = "Dropbox"
        root = self._services.tree.root
        comparison = await trio.to_thread.run_sync(Comparison, self._database.path, root)
        client, feed = self._services.client, self._services.feed
        found = await self._online(partial(compare, client, feed, comparison, root))
        await trio.to_thread.run_sync(comparison.close)
        return found

    async def _online(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What the work gives; None, and `trouble`, when Dropbox cannot be reached meanwhile."""
        self.trouble = None
        found: T | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_up, nursery.cancel_scope)
            try:
                found = await work()
            except (DropboxError, sqlite3.Error) as error:
                self.trouble = str(error)
            nursery.cancel_scope.cancel()
        return found

    async def _give_up(self, scope: trio.CancelScope) -> None:
        feed, well = self._services.feed, trio.current_time()
        while trio.current_time() - well < PATIENCE:
            await trio.sleep(PROGRESS_EVERY)
            if feed.trouble is None:
                well = trio.current_time()
        self.trouble = feed.trouble
        scope.cancel()

    # ---- Repair ----

    async def repair(self, found: Found) -> Found:
        """Mend what can be mended; gives what another look still finds."""
        self.part = "repair"
        self._mend(finding for finding in found.store if finding.rule not in LAST)
        await self._drop(found.cache)
        if found.there or LISTING & {finding.rule for finding in found.store}:
            self.part = "a new listing"
            await self._online(self._services.feed.list_again)
        between = await self._store()
        unsure = {finding.ino for finding in between if finding.rule is Rule.BASE}
        self._mend(
            finding for finding in between if finding.rule in LAST and finding.ino not in unsure
        )
        return await self.look()

    def _mend(self, findings: Iterable[Finding]) -> None:
        services = self._services
        repair = Repair(
            services.tree,
            services.journal,
            services.staging,
            services.folders.staging,
            services.folders.recovered,
            services.kernel.stale,
        )
        for finding in findings:
            repair.mend(finding)

    async def _drop(self, bad: dict[str, list[int]]) -> None:
        """Take bad blocks out of every cache on the way to the programs."""
        cache, fetcher = self._services.cache, self._services.fetcher
        for content, blocks in bad.items():
            await trio.to_thread.run_sync(cache.drop, content, blocks)
            fetcher.drop(content)
        self._services.kernel.stale([Content(ino) for ino in await self._holders(bad)])

    # ---- Telling ----

    def report(self, found: Found, left: Found) -> dict[str, Any]:
        """The answer: what was found, and what of it is left."""
        remaining = {self._key(line) for line in self._lines(left)}
        first = {self._key(line): line for line in self._lines(found)}
        lines = {**first, **{self._key(line): line for line in self._lines(left)}}
        return {
            "findings": [{**line, "repaired": key not in remaining} for key, line in lines.items()],
            "more": any(len(part) >= LISTED for part in (left.store, left.there or ())),
            "compared": left.there is not None,
            "trouble": self.trouble,
            "pending": self._services.journal.count(),
        }

    @staticmethod
    def _key(line: dict[str, str]) -> tuple[str, str]:
        return line["path"], line["problem"]

    def _lines(self, found: Found) -> list[dict[str, str]]:
        store = [
            {
                "part": "store",
                "path": finding.path,
                "problem": PROBLEMS[finding.rule]
                + (f" ({finding.detail})" if finding.detail else ""),
                "remedy": REMEDIES[finding.rule],
            }
            for finding in found.store
        ]
        cache = [
            {
                "part": "cache",
                "path": self._cached_paths[content],
                "problem": IN_CACHE,
                "remedy": DROP,
            }
            for content in found.cache
        ]
        there = [
            {
                "part": "dropbox",
                "path": difference.path,
                "problem": difference.problem,
                "remedy": LIST,
            }
            for difference in found.there or ()
        ]
        return store + cache + there
