"""One file on its way to Dropbox."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbxfs.api.batches import Finish
from dbxfs.api.client import Add, SessionId, Update, WriteMode
from dbxfs.core import plan
from dbxfs.core.batching import SMALL
from dbxfs.core.content_hash import content_hash, hash_blocks
from dbxfs.core.model import FileId, PropertyGroup
from dbxfs.store.staged import StagedFile

from .steps import ChangedMeanwhileError


@dataclass(slots=True)
class Draft:
    """One file on its way; its facts are those of the moment in which it was looked at."""

    staged: StagedFile
    generation: int
    size: int
    mtime_ns: int
    data: bytes = b""
    """All of a small file."""
    digests: list[bytes] = field(default_factory=list)
    """Those of a large file's blocks."""
    digest: str = ""
    whole: bool = False
    """Whether the content was all of one moment: nobody wrote while it was read."""
    source: FileId | None = None
    """Who on Dropbox has this content."""
    session: SessionId | None = None
    call: plan.Upload | None = None
    """What is to be committed, as decided under the turn."""
    parent: int | None = None
    name: str = ""
    """Where it was when that was decided."""
    properties: PropertyGroup | None = None
    """The attributes that go with the commit; a copy takes none."""

    @property
    def ino(self) -> int:
        """The inode."""
        return self.staged.ino

    @property
    def is_current(self) -> bool:
        """Whether nothing was written since."""
        staged = self.staged
        writing = staged.writers or staged.awaited
        return staged.generation == self.generation and not writing and not staged.retired

    @property
    def is_sent(self) -> bool:
        """Whether a session has its bytes."""
        return self.session is not None

    @property
    def is_at_hand(self) -> bool:
        """Whether it can go in one call with its commit."""
        return len(self.data) == self.size

    def read(self) -> None:
        """Hash the content; a small file's is kept. Blocks."""
        if self.size <= SMALL:
            self.data = self.staged.read(0, self.size)
            if len(self.data) != self.size:
                raise ChangedMeanwhileError("it became shorter while it was read")
            self.digest = content_hash(self.data)
        else:
            self.digests = self.staged.block_digests(self.size)
            self.digest = hash_blocks(self.digests)
        self.whole = not self.staged.writers and self.staged.generation == self.generation

    @property
    def mode(self) -> WriteMode:
        """How it is to be committed."""
        assert self.call is not None  # noqa: S101
        return Add() if self.call.replaces is None else Update(self.call.replaces)

    @property
    def finish(self) -> Finish:
        """The commit of its session."""
        assert self.call is not None  # noqa: S101
        assert self.session is not None  # noqa: S101
        return Finish(
            session=self.session,
            size=self.size,
            path=self.call.path,
            mode=self.mode,
            client_modified_ns=self.mtime_ns,
            properties=self.properties,
        )
