"""Changes of the tree without contents: folders, deletions, moves, copies.

They go through the commit lane, one at a time. A call whose fate is not known raises with `doubt`
set and is not repeated here: whether a move was done is seen by looking for its id, and only the
caller knows what to look for.
"""

from __future__ import annotations

from typing import Any

from dbxfs.api import wire
from dbxfs.api.exchange import Exchange
from dbxfs.core.model import FileEntry, FolderEntry, RemotePath, Rev


class Commits:
    """The calls that change the tree. `patience`: seconds; None: the settings' own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def create_folder(
        self, path: RemotePath, *, patience: float | None = None
    ) -> FolderEntry:
        """A new folder, and its missing parents.

        EndpointError with ("path", "conflict", "folder") when it is there already.
        """
        return await self._exchange.call(
            self._exchange.lanes.commit,
            "files/create_folder_v2",
            {"path": path, "autorename": False},
            wire.wrapped_folder,
            writing=True,
            patience=patience,
        )

    async def delete(
        self,
        path: RemotePath,
        parent_rev: Rev | None = None,
        *,
        patience: float | None = None,
    ) -> FileEntry | FolderEntry:
        """Remove a file, or a folder with all that is in it; the entry as it was.

        With `parent_rev` (files only) nothing but that revision is removed. EndpointError with
        ("path_lookup", "not_found"), or ("path_write", "conflict", …) for another revision.
        """
        arg: dict[str, Any] = {"path": path}
        if parent_rev is not None:
            arg["parent_rev"] = parent_rev
        return await self._exchange.call(
            self._exchange.lanes.commit,
            "files/delete_v2",
            arg,
            wire.wrapped_entry,
            writing=True,
            patience=patience,
        )

    async def move(
        self, source: RemotePath, target: RemotePath, *, patience: float | None = None
    ) -> FileEntry | FolderEntry:
        """Move or rename; the entry at its new place, same id, new rev.

        Never over something: EndpointError with ("to", "conflict", …); ("from_lookup",
        "not_found") when the source is gone.
        """
        return await self._relocate("files/move_v2", source, target, patience)

    async def copy(
        self, source: RemotePath, target: RemotePath, *, patience: float | None = None
    ) -> FileEntry | FolderEntry:
        """Copy on the server. Errors as in `move`."""
        return await self._relocate("files/copy_v2", source, target, patience)

    async def _relocate(
        self, route: str, source: RemotePath, target: RemotePath, patience: float | None
    ) -> FileEntry | FolderEntry:
        return await self._exchange.call(
            self._exchange.lanes.commit,
            route,
            {"from_path": source, "to_path": target, "autorename": False},
            wire.wrapped_entry,
            writing=True,
            patience=patience,
        )
