"""Many changes in one call: what makes a thousand small files cost a handful of requests.

Every entry of a batch succeeds or fails by itself; the result is a list in the order of what was
given, each the entry or the `EndpointError` that it would have raised alone. Some routes answer at
once, some with a job that is asked for until it is done; callers do not see the difference. What
fails as a whole raises: nothing is known then of any entry (`doubt`).

`start_sessions`, `append_batch` and `finish_batch` carry contents; their sessions are those of
`transfer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from dbxfs.api import wire
from dbxfs.api.body import Body, Source
from dbxfs.api.errors import DropboxError, EndpointError, UnexpectedReply, Unreachable
from dbxfs.api.exchange import Exchange
from dbxfs.api.modes import SessionId, WriteMode
from dbxfs.api.replies import chain
from dbxfs.api.transfer import commit_info
from dbxfs.core.model import FileEntry, FolderEntry, PropertyGroup, RemotePath, Rev

LARGEST_BATCH = 1000
"""Entries that Dropbox takes in one call."""
FIRST_LOOK = 0.05
"""Seconds after which a job is asked for first; each further wait is twice as long."""
LONGEST_LOOK = 2.0
JOB_PATIENCE = 300.0
"""Seconds that a job may take."""

Outcome = FileEntry | FolderEntry | EndpointError
"""What became of one entry."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a session, in a body with others'."""

    session: SessionId
    offset: int
    length: int
    close: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """A closed session of `size` bytes, to be committed."""

    session: SessionId
    size: int
    path: RemotePath
    mode: WriteMode
    client_modified_ns: int
    properties: PropertyGroup | None = None


class Batches:
    """The calls with many entries. All make one attempt: they run while the feed waits."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def create_folders(self, paths: Sequence[RemotePath]) -> list[Outcome]:
        """New folders; none may lie in another one of them. Errors as in `create_folder`."""
        arg = {"paths": list(paths), "autorename": False, "force_async": False}
        return await self._changes("files/create_folder_batch", "/check", arg, len(paths))

    async def delete_batch(self, entries: Sequence[tuple[RemotePath, Rev | None]]) -> list[Outcome]:
        """Remove files and folders, each only in that revision where one is given."""
        arg = {
            "entries": [
                {"path": path} if rev is None else {"path": path, "parent_rev": rev}
                for path, rev in entries
            ]
        }
        return await self._changes("files/delete_batch", "/check", arg, len(entries))

    async def move_batch(self, entries: Sequence[tuple[RemotePath, RemotePath]]) -> list[Outcome]:
        """Move from and to; no path may lie in another. Errors as in `move`."""
        return await self._relocations("files/move_batch", entries)

    async def copy_batch(self, entries: Sequence[tuple[RemotePath, RemotePath]]) -> list[Outcome]:
        """Copy on the server from and to; no path may lie in another. Errors as in `copy`."""
        return await self._relocations("files/copy_batch", entries)

    async def _relocations(
        self, route: str, entries: Sequence[tuple[RemotePath, RemotePath]]
    ) -> list[Outcome]:
        arg = {
            "entries": [{"from_path": source, "to_path": target} for source, target in entries],
            "autorename": False,
        }
        return await self._changes(f"{route}_v2", "/check_v2", arg, len(entries))

    async def _changes(
        self, route: str, check: str, arg: dict[str, Any], count: int
    ) -> list[Outcome]:
        """Start the batch and wait for its result."""
        began = trio.current_time()
        reply = await self._call(route, arg, writing=True)
        pause = FIRST_LOOK
        while isinstance(reply, str):
            if trio.current_time() - began > JOB_PATIENCE:
                raise Unreachable(f"{route} is not done within {JOB_PATIENCE:g} s", doubt=True)
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK)
            job = reply
            try:
                found = await self._call(
                    route.removesuffix("_v2") + check, {"async_job_id": job}, writing=False
                )
            except DropboxError as error:
                # Whatever became of the question, the job itself was begun.
                error.doubt = True
                raise
            reply = job if found is None else found
        if reply is None:
            raise UnexpectedReply(f"{route} began and named no job", doubt=True)
        return _outcomes(route, reply, count)

    async def _call(
        self, route: str, arg: dict[str, Any], *, writing: bool
    ) -> list[wire.Outcome] | str | None:
        return await self._exchange.call(
            self._exchange.lanes.commit,
            route,
            arg,
            wire.batch,
            writing=writing,
            patience=0 if writing else None,
        )

    # ---- Contents ----

    async def start_sessions(self, count: int) -> list[SessionId]:
        """So many new, empty upload sessions."""
        found = await self._exchange.call(
            self._exchange.lanes.append,
            "files/upload_session/start_batch",
            {"num_sessions": count},
            wire.sessions,
        )
        if len(found) != count:
            raise UnexpectedReply(f"{len(found)} upload sessions for {count}", doubt=False)
        return [SessionId(ident) for ident in found]

    async def append_batch(
        self, parts: Sequence[Part], chunks: Source, content_hash: str
    ) -> list[EndpointError | None]:
        """Bytes for many sessions in one body, at most 150 MiB; what became of each part.

        `content_hash`: of the whole body.
        """
        arg = {
            "entries": [
                {
                    "cursor": {"session_id": part.session, "offset": part.offset},
                    "length": part.length,
                    "close": part.close,
                }
                for part in parts
            ],
            "content_hash": content_hash,
        }
        route = "files/upload_session/append_batch"
        found = await self._exchange.put(
            self._exchange.lanes.append,
            route,
            arg,
            Body(chunks, sum(part.length for part in parts)),
            wire.failures,
        )
        _check_count(route, len(found), len(parts))
        return [None if error is None else _refusal(route, error) for error in found]

    async def finish_batch(self, entries: Sequence[Finish]) -> list[Outcome]:
        """Commit closed sessions as files; errors as in `session_finish`."""
        arg = {
            "entries": [
                {
                    "cursor": {"session_id": entry.session, "offset": entry.size},
                    "commit": commit_info(
                        entry.path,
                        entry.mode,
                        entry.client_modified_ns,
                        properties=entry.properties,
                    ),
                }
                for entry in entries
            ]
        }
        route = "files/upload_session/finish_batch_v2"
        found = await self._call(route, arg, writing=True)
        if not isinstance(found, list):
            raise UnexpectedReply(f"{route} gave no entries", doubt=True)
        return _outcomes(route, found, len(entries))


def _outcomes(route: str, found: Sequence[wire.Outcome], count: int) -> list[Outcome]:
    _check_count(route, len(found), count)
    return [
        _refusal(route, outcome) if isinstance(outcome, dict | str) else outcome
        for outcome in found
    ]


def _check_count(route: str, found: int, count: int) -> None:
    if found != count:
        raise UnexpectedReply(f"{route} answered for {found} entries of {count}", doubt=True)


def _refusal(route: str, error: object) -> EndpointError:
    """An entry's failure, told as the route for one alone tells it."""
    tags, payload = chain(error)
    if tags[:1] == ("relocation_error",):
        tags = tags[1:]
    return EndpointError(tags, "", payload, route=route)


def refused_route(error: DropboxError) -> bool:
    """Whether the account, the app or a proxy has no such call at all."""
    text = getattr(error, "text", "").lower()
    tags = getattr(error, "tags", ())
    return "route_access_denied" in tags or "unknown function" in text or "unknown api" in text
