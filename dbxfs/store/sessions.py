"""Upload sessions under way: where a restart goes on."""

from __future__ import annotations

from .database import Database


class Sessions:
    """The rows of table `session`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, ino: int, content_hash: str) -> tuple[str, int] | None:
        """The session that is sending this content of the inode, and the bytes confirmed."""
        row = self._database.execute(
            "SELECT session, sent FROM session WHERE ino = ? AND hash = ?", ino, content_hash
        ).fetchone()
        return (row[0], row[1]) if row else None

    def store(self, ino: int, session: str, sent: int, content_hash: str) -> None:
        """Remember how far the session is."""
        self._database.execute(
            "INSERT OR REPLACE INTO session (ino, session, sent, hash) VALUES (?, ?, ?, ?)",
            ino,
            session,
            sent,
            content_hash,
        )

    def drop(self, ino: int) -> None:
        """Forget it: the content is sent from the start."""
        self._database.execute("DELETE FROM session WHERE ino = ?", ino)
