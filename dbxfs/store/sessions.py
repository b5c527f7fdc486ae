"""Upload sessions under way: where a restart goes on."""

from __future__ import annotations

from dbxfs.core.ranges import Ranges

from .database import Database


class Sessions:
    """The rows of table `session`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, ino: int, content_hash: str) -> tuple[str, Ranges] | None:
        """The session that is sending this content of the inode, and what is confirmed of it."""
        row = self._database.execute(
            "SELECT session, sent, parts FROM session WHERE ino = ? AND hash = ?", ino, content_hash
        ).fetchone()
        if row is None:
            return None
        session, sent, parts = row
        return session, Ranges([(0, sent)] if sent else []) if parts is None else Ranges.from_bytes(
            parts
        )

    def store(self, ino: int, session: str, parts: Ranges, content_hash: str) -> None:
        """Remember what Dropbox has confirmed."""
        self._database.execute(
            "INSERT OR REPLACE INTO session (ino, session, sent, hash, parts)"
            " VALUES (?, ?, ?, ?, ?)",
            ino,
            session,
            parts.total,
            content_hash,
            parts.to_bytes(),
        )

    def drop(self, ino: int) -> None:
        """Forget it: the content is sent from the start."""
        self._database.execute("DELETE FROM session WHERE ino = ?", ino)
