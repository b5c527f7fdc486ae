"""Reading the tree and the change feed: listings, cursors, the longpoll, metadata, the account.

All of these are reads and are repeated within the caller's patience, but the longpoll: it is the
feed's own loop, and the feed is better placed to decide what a failed one means.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbxfs.api import wire
from dbxfs.api.exchange import Exchange
from dbxfs.api.wire import Longpoll
from dbxfs.core.model import (
    ROOT,
    Account,
    Cursor,
    FileEntry,
    FolderEntry,
    Page,
    RemotePath,
    Space,
)

PAGE = 2000
"""The most entries that a page may be asked to have; Dropbox takes it as approximate."""

LONGPOLL_JITTER = 90
"""Seconds that Dropbox may add to a longpoll's timeout (API reference)."""

LONGPOLL_SLACK = 20
"""Seconds more for the network, before a longpoll counts as lost."""


class Listing:
    """The calls that read metadata. `patience`: seconds; None: the settings' own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._metadata = exchange.lanes.metadata

    async def account(self, *, patience: float | None = None) -> Account:
        """Whose Dropbox this is."""
        return await self._exchange.call(
            self._metadata, "users/get_current_account", None, wire.account, patience=patience
        )

    async def space(self, *, patience: float | None = None) -> Space:
        """What is used and what is allowed, bytes; the team's where its space is shared."""
        return await self._exchange.call(
            self._metadata, "users/get_space_usage", None, wire.space, patience=patience
        )

    async def list_folder(
        self,
        path: RemotePath,
        *,
        recursive: bool,
        limit: int = PAGE,
        templates: Sequence[str] = (),
        patience: float | None = None,
    ) -> Page:
        """The first page of a folder, or of all below it; with the properties of `templates`.

        EndpointError with ("path", "not_found"), ("path", "not_folder") or ("template_error",
        "template_not_found").
        """
        wanted = {".tag": "filter_some", "filter_some": list(templates)}
        return await self._exchange.call(
            self._metadata,
            "files/list_folder",
            _listing(path, recursive, limit)
            | ({"include_property_groups": wanted} if templates else {}),
            lambda body: wire.page(body, templates),
            patience=patience,
        )

    async def list_folder_continue(
        self, cursor: Cursor, *, templates: Sequence[str] = (), patience: float | None = None
    ) -> Page:
        """The next page after a cursor: of the listing, then of the changes since.

        `templates`: those that the cursor was made with. CursorReset when the cursor is no longer
        good.
        """
        return await self._exchange.call(
            self._metadata,
            "files/list_folder/continue",
            {"cursor": cursor},
            lambda body: wire.page(body, templates),
            patience=patience,
        )

    async def latest_cursor(
        self,
        path: RemotePath = ROOT,
        recursive: bool = True,
        *,
        limit: int = PAGE,
        patience: float | None = None,
    ) -> Cursor:
        """A cursor from which only changes after now are seen."""
        return await self._exchange.call(
            self._metadata,
            "files/list_folder/get_latest_cursor",
            _listing(path, recursive, limit),
            wire.cursor,
            patience=patience,
        )

    async def longpoll(self, cursor: Cursor, timeout: int = 60) -> Longpoll:  # noqa: ASYNC109
        """Wait until there are changes after the cursor, or for `timeout` seconds (30 to 480).

        Dropbox adds up to 90 s. CursorReset as in `list_folder_continue`. Raises the first failure
        at once.
        """
        return await self._exchange.call(
            self._exchange.lanes.longpoll,
            "files/list_folder/longpoll",
            {"cursor": cursor, "timeout": timeout},
            wire.longpoll,
            patience=0.0,
            notify=True,
            silence=float(timeout + LONGPOLL_JITTER + LONGPOLL_SLACK),
        )

    async def metadata(
        self, path: RemotePath, *, patience: float | None = None
    ) -> FileEntry | FolderEntry:
        """What is at a path, an id or a rev. EndpointError with ("path", "not_found")."""
        return await self._exchange.call(
            self._metadata, "files/get_metadata", {"path": path}, wire.entry, patience=patience
        )


def _listing(path: RemotePath, recursive: bool, limit: int) -> dict[str, object]:
    return {
        "path": path,
        "recursive": recursive,
        "limit": limit,
        "include_deleted": False,
        "include_mounted_folders": True,
        "include_non_downloadable_files": True,
    }
