"""The bytes of small files, many in one call.

Each has a session, which is closed with its bytes; the commit is made elsewhere. Where that is
refused for the moment, as when Dropbox is busy, the sessions are still good: only the commit has to
be repeated.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

import trio

from dbxfs.api.batches import Part, refused_route
from dbxfs.api.client import Client, SessionId
from dbxfs.api.errors import AccessDenied, BadRequest
from dbxfs.core.batching import BODY_ENTRIES, bodies
from dbxfs.core.content_hash import content_hash
from dbxfs.core.recent import keep_recent

from .draft import Draft
from .steps import ChangedMeanwhileError, Outcomes
from .uploader import first_of

log = logging.getLogger(__name__)

BODIES_AT_ONCE = 4
FEWEST = 3
"""Files in a body that a proxy will hardly find too many."""
KEPT = 4000
"""Sessions that are not committed yet and may be."""


class SmallFiles:
    """Sends small files' bytes into sessions."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._entries = BODY_ENTRIES
        self._refused = False
        self._sent: OrderedDict[int, tuple[str, SessionId]] = OrderedDict()
        """The closed sessions of inodes, and what is in them."""

    def sent_before(self, draft: Draft) -> SessionId | None:
        """The session that has these bytes already."""
        digest, session = self._sent.get(draft.ino, ("", None))
        return session if digest == draft.digest else None

    def forget(self, drafts: Sequence[Draft]) -> None:
        """Their sessions are committed, or of no use."""
        for draft in drafts:
            self._sent.pop(draft.ino, None)

    async def send(self, drafts: Sequence[Draft], failed: Outcomes) -> None:
        """Give each a closed session with its bytes, or none where Dropbox takes no such calls."""
        if self._refused:
            return
        try:
            await self._send_together(drafts, failed)
        except (AccessDenied, BadRequest) as error:
            if refused_route(error):
                log.warning("small files go one by one: %s", error)
                self._refused = True
            elif self._entries > FEWEST:
                # A proxy may take no header as long as the list of the files is.
                self._entries //= 2
                log.warning("fewer files go in one body: %s", error)
                raise ChangedMeanwhileError(str(error)) from error
            else:
                raise
            for draft in drafts:
                draft.session = None

    async def _send_together(self, drafts: Sequence[Draft], failed: Outcomes) -> None:
        sessions = await self._client.start_sessions(len(drafts))
        for draft, session in zip(drafts, sessions, strict=True):
            draft.session = session
        limit = trio.CapacityLimiter(BODIES_AT_ONCE)

        async def send(body: Sequence[Draft]) -> None:
            async with limit:
                await self._send_body(body, failed)

        try:
            async with trio.open_nursery() as nursery:
                for run in bodies([draft.size for draft in drafts], self._entries):
                    nursery.start_soon(send, drafts[run.start : run.stop])
        except BaseExceptionGroup as group:
            raise first_of(group) from group

    async def _send_body(self, drafts: Sequence[Draft], failed: Outcomes) -> None:
        parts = [
            Part(draft.session, 0, draft.size, close=True)
            for draft in drafts
            if draft.session is not None
        ]
        whole = await trio.to_thread.run_sync(b"".join, [draft.data for draft in drafts])
        digest = await trio.to_thread.run_sync(content_hash, whole)
        answers = await self._client.append_batch(parts, whole, digest)
        for draft, error in zip(drafts, answers, strict=True):
            draft.data = b""
            if error is not None:
                failed[draft.ino] = ChangedMeanwhileError(str(error))
            elif draft.session is not None:
                keep_recent(self._sent, draft.ino, (draft.digest, draft.session), KEPT)
