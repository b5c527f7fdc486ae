"""What every family of request handlers works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dbxfs.core.model import Space
from dbxfs.store.journal import Journal
from dbxfs.store.pins import Pins
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree
from dbxfs.sync.exports import Exports
from dbxfs.sync.feed import Listing
from dbxfs.sync.fetcher import Fetcher
from dbxfs.sync.holdings import Holdings
from dbxfs.sync.programs import Programs
from dbxfs.sync.siblings import Siblings

from .behind import WritesBehind
from .kernel import Kernel
from .replaying import Replaying


@dataclass(frozen=True, slots=True)
class Shown:
    """How files of other people's making appear here."""

    uid: int
    gid: int
    fmask: int = 0o022
    dmask: int = 0o022
    export_extension: bool = False
    """Whether online documents are shown with the extension of what they are exported to."""
    many: bool = False
    """Root has mounted it for all users: files have the owners that they were given."""


@dataclass(frozen=True, slots=True)
class Context:
    """The services behind the handlers."""

    tree: Tree
    staging: Staging
    behind: WritesBehind
    fetcher: Fetcher
    listing: Listing
    siblings: Siblings
    kernel: Kernel
    shown: Shown
    space: Callable[[], Space | None]
    """What Dropbox said of its quota last."""
    add_space: Callable[[int], Awaitable[bool]]
    """A file is to become larger by some bytes: whether Dropbox has room for them."""
    journal: Journal
    uploading: Callable[[int], bool]
    """The inode whose content is being sent."""
    programs: Programs
    """Told of every request."""
    opened: Callable[[], None]
    """Told of every file that is opened."""
    grows_large: Callable[[int], None]
    """Told of a file that a program makes so large that sending it begins before it is whole."""
    pins: Pins
    holdings: Holdings
    exports: Exports
    replaying: Replaying
    """What is told to watchers at the moment."""
    on_dropbox: Callable[[int], Awaitable[None]] | None = None
    """With `sync=remote`: returns when Dropbox has the inode, raises what it refused."""
