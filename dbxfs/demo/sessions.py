"""Upload sessions: bytes that gather on the server before they are committed.

A session's bytes are a file in sessions/, written in place; what counts is the row that says how
far it is (sequential) or which pieces it has (concurrent), and that changes only when a whole
body has come and its hash was right. So a body that breaks off leaves no trace.

A retry of an append whose answer was lost is told the correct offset if the session is
sequential; a concurrent session takes the same piece again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import trio

from dbxfs.core.content_hash import BLOCK
from dbxfs.demo.account import Account
from dbxfs.demo.content import Received, hash_file, receive_body
from dbxfs.demo.wire import EndpointError, union

LIFETIME = 7 * 24 * 3600
"""Seconds that a session can be used."""

LARGEST_FILE = 2**41 - 2**22
"""Bytes."""

LARGEST_BODY = 150 * 1024 * 1024
"""Bytes in one request."""


class Session(NamedTuple):
    """A row of `sessions`. `final`: where the closing piece of a concurrent session ends."""

    id: str
    concurrent: int
    closed: int
    committed: int
    size: int
    final: int | None
    created: int


class Sessions:
    """The upload sessions of an account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._db = account.db
        self._digests: dict[str, dict[int, bytes]] = {}
        self._turns: dict[str, trio.Lock] = {}
        self._expire()

    def _expire(self) -> None:
        """Removes the bytes of sessions that are too old to be used."""
        limit = int(self._account.now()) - LIFETIME
        old = self._db.execute("SELECT id FROM sessions WHERE created < ?", (limit,)).fetchall()
        for (ident,) in old:
            self._account.contents.session(ident).unlink(missing_ok=True)
            self._db.execute("DELETE FROM sessions WHERE id = ?", (ident,))
            self._db.execute("DELETE FROM pieces WHERE session = ?", (ident,))

    def create(self, *, concurrent: bool) -> str:
        """A new, empty session's id."""
        ident = "pid_upload_session:" + secrets.token_urlsafe(33)
        self._account.contents.session(ident).touch()
        self._db.execute(
            "INSERT INTO sessions VALUES (?, ?, 0, 0, 0, NULL, ?)",
            (ident, int(concurrent), int(self._account.now())),
        )
        return ident

    def close(self, ident: str) -> None:
        """Nothing more can be appended."""
        self._db.execute("UPDATE sessions SET closed = 1 WHERE id = ?", (ident,))

    def find(self, ident: str, *tags: str) -> Session:
        """The session. Raises not_found below `tags`."""
        row = self._db.execute("SELECT * FROM sessions WHERE id = ?", (ident,)).fetchone()
        session = Session(*row) if row else None
        if session is None or session.created + LIFETIME < self._account.now():
            raise EndpointError(union(*tags, "not_found"))
        return session

    def turn(self, session: Session) -> AbstractAsyncContextManager[object]:
        """Held while a body is appended: one after the other, unless the session is concurrent."""
        if session.concurrent:
            return nullcontext()
        return self._turns.setdefault(session.id, trio.Lock())

    def check_append(
        self, ident: str, offset: int, length: int | None, *tags: str, close: bool
    ) -> Session:
        """Whether such an append is right; `length` is None while it is not known.

        Raises values of UploadSessionLookupError below `tags`.
        """
        session = self.find(ident, *tags)
        if session.committed or (session.closed and not self._is_repeat(session, offset, length)):
            raise EndpointError(union(*tags, "closed"))
        if offset + (length or 0) > LARGEST_FILE:
            raise EndpointError(union(*tags, "too_large"))
        if session.concurrent:
            if offset % BLOCK:
                raise EndpointError(union(*tags, "concurrent_session_invalid_offset"))
            if length is not None and length % BLOCK and not close:
                raise EndpointError(union(*tags, "concurrent_session_invalid_data_size"))
        elif offset != session.size:
            raise EndpointError(union(*tags, "incorrect_offset", correct_offset=session.size))
        return session

    def _is_repeat(self, session: Session, offset: int, length: int | None) -> bool:
        """Whether a closed concurrent session has just this piece, or could still miss it."""
        return bool(session.concurrent) and (session.final is None or offset < session.final)

    async def take(
        self, session: Session, offset: int, chunks: AsyncIterator[bytes], limit: int
    ) -> Received:
        """Writes a body; it does not count before `record`. Raises TooLargeError."""
        if self._has_piece(session, offset):
            return await self._take_again(chunks, offset, limit)
        path = self._account.contents.session(session.id)
        return await receive_body(chunks, path, offset, limit)

    async def _take_again(self, chunks: AsyncIterator[bytes], offset: int, limit: int) -> Received:
        """Reads a piece that is there already: what counts must not be written over."""
        scratch = self._account.contents.incoming()
        try:
            body = await receive_body(chunks, scratch, 0, limit)
        finally:
            scratch.unlink(missing_ok=True)
        return Received(body.size, body.content_hash, {})

    def _has_piece(self, session: Session, offset: int) -> bool:
        sql = "SELECT 1 FROM pieces WHERE session = ? AND start = ?"
        return self._db.execute(sql, (session.id, offset)).fetchone() is not None

    def adopt(self, source: Path, body: Received) -> str:
        """A session that holds the body in the file `source`; returns its id."""
        ident = self.create(concurrent=False)
        os.replace(source, self._account.contents.session(ident))
        self.record(self.find(ident), 0, body, close=False)
        return ident

    def record(self, session: Session, offset: int, body: Received, *, close: bool) -> None:
        """Makes what was taken part of the session."""
        end = offset + body.size
        digests = self._digests.setdefault(session.id, {})
        if offset % BLOCK:
            digests.pop(offset // BLOCK, None)
        digests.update(body.digests)
        self._db.execute("BEGIN IMMEDIATE")
        if session.concurrent:
            if body.size:
                self._db.execute(
                    "INSERT OR IGNORE INTO pieces VALUES (?, ?, ?)", (session.id, offset, end)
                )
            if close:
                self._db.execute(
                    "UPDATE sessions SET closed = 1, final = ? WHERE id = ?", (end, session.id)
                )
        else:
            self._db.execute(
                "UPDATE sessions SET closed = ?, size = ? WHERE id = ?",
                (int(close), end, session.id),
            )
        self._db.execute("COMMIT")

    def check_finish(self, ident: str, offset: int, *, batch: bool) -> Session:
        """Whether the session can be committed. Raises UploadSessionFinishError values."""
        session = self.find(ident, "lookup_failed")
        if session.committed:
            raise EndpointError(union("lookup_failed", "closed"))
        if session.concurrent:
            if not session.closed or session.final is None:
                raise EndpointError(union("concurrent_session_not_closed"))
            size = session.final
            if self._covered(session) < size:
                raise EndpointError(union("concurrent_session_missing_data"))
        else:
            if batch and not session.closed:
                raise EndpointError(union("lookup_failed", "not_closed"))
            size = session.size
        if offset != size:
            raise EndpointError(union("lookup_failed", "incorrect_offset", correct_offset=size))
        return session

    def _covered(self, session: Session) -> int:
        """How far a concurrent session's pieces reach without a gap."""
        reach = 0
        rows = self._db.execute(
            "SELECT start, stop FROM pieces WHERE session = ? ORDER BY start", (session.id,)
        )
        for start, stop in rows:
            if start > reach:
                break
            reach = max(reach, stop)
        return reach

    async def content(self, session: Session) -> tuple[str, int]:
        """The content hash and size of what was gathered."""
        size = session.size if session.final is None else session.final
        known = self._digests.get(session.id, {})
        path = self._account.contents.session(session.id)
        return await hash_file(path, size, known), size

    def path(self, session: Session) -> Path:
        """The file that holds the session's bytes."""
        return self._account.contents.session(session.id)

    def use_up(self, session: Session) -> None:
        """The session was committed; its file goes."""
        self._db.execute(
            "UPDATE sessions SET committed = 1, closed = 1 WHERE id = ?", (session.id,)
        )
        self._db.execute("DELETE FROM pieces WHERE session = ?", (session.id,))
        self.path(session).unlink(missing_ok=True)
        self._digests.pop(session.id, None)
        self._turns.pop(session.id, None)
