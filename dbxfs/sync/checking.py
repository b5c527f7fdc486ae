"""Whether the tree is what Dropbox has: a fresh listing, held against it.

Both sides go on changing meanwhile, and a listing of a large account takes minutes. So a
difference counts only when nothing has moved at it over several looks: before each, the feed is
followed to its end and the listing brought up to date, in this order, and what was at the path
before must still be there, the same on both sides. What we ourselves commit in the meantime is in
one of them a moment before the other; the pauses between the looks cover that.

Rejected: to stop the replicator for the time of the check. Programs would not notice, but the
differences between two listings of a service that is not one machine would remain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import CursorReset
from dbxfs.core.model import Page, RemotePath
from dbxfs.store.comparison import Comparison, Difference

from .feed import Feed

T = TypeVar("T")

log = logging.getLogger(__name__)

PAUSES = (0.3, 1.0)
"""Seconds between the looks at what differs."""

LISTINGS = 3
"""Times that a listing is begun anew when Dropbox asks for that."""


async def compare(
    client: Client, feed: Feed, comparison: Comparison, root: RemotePath
) -> list[Difference]:
    """What differs, and goes on differing. Waits as long as the feed has trouble.

    `comparison` is fresh. Raises `DropboxError`.
    """
    await feed.catch_up()
    page = await _list(client, comparison, root)
    differences = await _in_thread(comparison)
    for pause in PAUSES:
        if not differences:
            break
        await trio.sleep(pause)
        await feed.catch_up()
        try:
            page = await _follow(client, comparison, page)
        except CursorReset:
            page = await _list(client, comparison, root)
        before = set(differences)
        differences = [found for found in await _in_thread(comparison) if found in before]
    return differences


async def _list(client: Client, comparison: Comparison, root: RemotePath) -> Page:
    for attempt in range(LISTINGS):
        await trio.to_thread.run_sync(comparison.forget)
        try:
            page = await client.list_folder(root, recursive=True)
            await trio.to_thread.run_sync(comparison.add, page.entries)
            return await _follow(client, comparison, page)
        except CursorReset:
            if attempt == LISTINGS - 1:
                raise
            log.info("Dropbox asks for a new listing; the check begins anew")
    raise AssertionError("unreachable")


async def _follow(client: Client, comparison: Comparison, page: Page) -> Page:
    """The listing, brought up to date. A page that came last is asked for what is new."""
    while True:
        page = await client.list_folder_continue(page.cursor)
        await trio.to_thread.run_sync(comparison.add, page.entries)
        if not page.has_more:
            return page


async def _in_thread(comparison: Comparison) -> list[Difference]:
    return await interruptible(comparison.differences, comparison.interrupt)


async def interruptible(work: Callable[[], T], interrupt: Callable[[], None]) -> T:
    """The result of a thread that is told to end, and not waited for, when we are cancelled."""
    try:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
    except trio.Cancelled:
        interrupt()
        raise
