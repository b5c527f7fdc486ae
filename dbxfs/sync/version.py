"""A content as it is read: what one revision of a file holds, for ever the same."""

from __future__ import annotations

from dataclasses import dataclass

from dbxfs.core.model import Rev
from dbxfs.store.blocks import BLOCK


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable content."""

    rev: Rev
    hash: str | None
    size: int

    @property
    def key(self) -> str:
        """The name of its blocks in the cache: by content where Dropbox tells it."""
        return self.hash or f"rev-{self.rev}"

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return -(-self.size // BLOCK)
