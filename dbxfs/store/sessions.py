"""Upload sessions under way: where a restart goes on."""

from __future__ import annotations

from .database import Database


class Sessions:
    """The rows of tables `session` and `part`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, ino: int) -> tuple[str, int] | None:
        """The session that the inode's content is being sent into, and the size of its parts."""
        row = self._database.execute(
            "SELECT session, part_size FROM session WHERE ino = ?", ino
        ).fetchone()
        return (row[0], row[1]) if row else None

    def parts(self, ino: int) -> dict[int, str]:
        """Where the parts that Dropbox has begin, and the content hash of each."""
        return dict(self._database.execute("SELECT start, hash FROM part WHERE ino = ?", ino))

    def begin(self, ino: int, session: str, part_size: int) -> None:
        """Remember a new session; nothing is in it."""
        with self._database.transaction():
            self.drop(ino)
            self._database.execute(
                "INSERT INTO session (ino, session, part_size) VALUES (?, ?, ?)",
                ino,
                session,
                part_size,
            )

    def confirm(self, ino: int, start: int, content_hash: str) -> None:
        """Dropbox has a part."""
        self._database.execute(
            "INSERT OR REPLACE INTO part (ino, start, hash) VALUES (?, ?, ?)",
            ino,
            start,
            content_hash,
        )

    def drop(self, ino: int) -> None:
        """Forget it: the content is sent from the start."""
        self._database.execute("DELETE FROM session WHERE ino = ?", ino)
