"""An inode as the rest of the program sees it: one row of the tree, read-only.

Rows are decoded into immutable values, so that nobody can change the tree but by asking it.
"""

from __future__ import annotations

import msgspec

from dbxfs.core.model import FileId, Rev

ROOT_INO = 1

FILE, FOLDER, SOCKET = 0, 1, 2


class Inode(msgspec.Struct, frozen=True):
    """One row of table `inode`; the columns are explained in `schema`."""

    ino: int
    parent: int | None
    name: str
    key: str
    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int | None
    mode: int | None
    uid: int | None
    gid: int | None
    link: bytes | None
    xattrs: bytes | None
    mtime_set: int | None
    attributes_refused: int | None
    read_only: int
    downloadable: int
    export_as: str | None
    listed: int
    id: FileId | None
    base_parent: int | None
    base_name: str | None
    base_key: str | None
    rev: Rev | None
    hash: str | None
    base_size: int | None
    base_mtime_ns: int | None
    base_attributes: str | None
    seen: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.kind == FOLDER

    @property
    def writable(self) -> bool:
        """Whether its content may be changed: Dropbox must allow it, and a document has none."""
        return bool(self.downloadable and not self.read_only)

    @property
    def on_dropbox(self) -> bool:
        """Whether Dropbox has it, as far as is known; of a folder maybe only its place is."""
        return self.base_parent is not None

    @property
    def moved(self) -> bool:
        """Whether its local place is not the one that Dropbox knows."""
        return (self.parent, self.name) != (self.base_parent, self.base_name)


COLUMNS = ", ".join(Inode.__struct_fields__)
"""The columns in the order of `Inode`'s fields, for SELECT."""


class Entry(msgspec.Struct, frozen=True):
    """The kernel's entry `name` in `parent` is no longer what it was; `ino` was there, if known."""

    parent: int
    name: str
    ino: int = 0


class Content(msgspec.Struct, frozen=True):
    """The inode's bytes are others now: drop its pages and attributes."""

    ino: int


class Attributes(msgspec.Struct, frozen=True):
    """The inode's attributes are others now; its bytes are not."""

    ino: int


Place = tuple[int, str]
"""A folder's inode number, and a name in it."""


class Moved(msgspec.Struct, frozen=True):
    """An inode came (from nowhere), went (to nowhere) or moved, for those who watch folders.

    What the kernel has to drop is told by effects of their own.
    """

    ino: int
    folder: bool
    source: Place | None
    target: Place | None


Effect = Entry | Content | Attributes | Moved
"""What a change that came from Dropbox makes stale in the kernel."""
