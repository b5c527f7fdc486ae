"""What the kernel holds of us, and how it learns that some of it is stale.

The mount lives on long time-outs: the kernel answers from its caches until it is told. So every
change that does not come from the kernel itself must reach exactly the entries and inodes that it
holds, under every spelling: its dentry cache tells `HELLO` and `hello` apart, Dropbox does not.
Of what is there it holds the stored spelling alone; by others it has to ask each time. Names that
were answered "not there" are remembered by key; a change of the key drops them all. When too many
are remembered, further ones are answered without a time-out instead.

`invalidate_*` can block on a request that is under way in the same folder or file. A thread of
its own does nothing else; requests go on meanwhile, so it always gets on, also when the daemon is
killed (`apart`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pyfuse3

from dbxfs.core.names import encode_name, fold
from dbxfs.store.inode import ROOT_INO, Attributes, Content, Effect, Entry

from .apart import set_apart

log = logging.getLogger(__name__)

REMEMBERED_NAMES = 100_000

STOP_WITHIN = 1.0

DROP_WITHIN = 2.0
"""Seconds that are waited for one entry to be dropped."""

_HARMLESS = (errno.ENOENT, errno.ENOTDIR, errno.ENOSYS)
"""It holds nothing of the kind; the last one, because it has not yet said its first word."""


class Kernel:
    """The kernel's references to our inodes and names, and the way to take them back."""

    def __init__(self) -> None:
        self._lookups: dict[int, int] = {}
        self._opens: dict[int, int] = {}
        self._burials: dict[int, int] = {}
        self._missed: dict[int, dict[str, set[str]]] = {}
        self._remembered = 0
        self._stopped = False
        self._reads: dict[int, set[object]] = {}
        """Reads under way, by inode."""
        self._outlived: dict[int, set[object]] = {}
        """Inodes whose pages are stale, and the reads that have to end first."""
        self._said: deque[tuple[int, str]] = deque()
        """What the thread has to say, which must not write to the log itself."""
        self._queue: queue.SimpleQueue[Effect | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._invalidate_all, name="invalidate", daemon=True)

    def start(self) -> None:
        """Begin to pass invalidations on; the file system is mounted."""
        self._thread.start()

    def stop(self) -> None:
        """Pass on nothing more; the file system is unmounted or about to be.

        Waits a moment for the thread: the session must not go away under it.
        """
        self._stopped = True
        self._queue.put(None)
        self._thread.join(STOP_WITHIN)
        self._say()

    # ---- References ----

    def looked_up(self, ino: int) -> None:
        """The kernel was given the inode once more."""
        self._lookups[ino] = self._lookups.get(ino, 0) + 1

    def forgotten(self, ino: int, count: int) -> bool:
        """The kernel gives back `count` of them; whether none is left."""
        left = self._lookups.get(ino, 0) - count
        if left > 0:
            self._lookups[ino] = left
            return False
        self._lookups.pop(ino, None)
        self._burials.pop(ino, None)
        # With the folder the kernel has dropped every name in it.
        self._remembered -= sum(map(len, self._missed.pop(ino, {}).values()))
        return True

    def opened(self, ino: int) -> None:
        """A handle of the inode was given out."""
        self._opens[ino] = self._opens.get(ino, 0) + 1

    def released(self, ino: int) -> bool:
        """A handle came back; whether it was the last."""
        left = self._opens.get(ino, 0) - 1
        if left > 0:
            self._opens[ino] = left
            return False
        self._opens.pop(ino, None)
        return True

    def is_open(self, ino: int) -> bool:
        """Whether a program has it open."""
        return ino in self._opens

    def in_use(self, ino: int) -> bool:
        """Whether the kernel can still ask for the inode."""
        return ino in self._lookups or ino in self._opens

    def buried(self, ino: int) -> None:
        """The kernel takes the folder for removed, for good, should it still hold it."""
        if ino in self._lookups:
            self._burials[ino] = self._burials.get(ino, 0) + 1

    def generation(self, ino: int) -> int:
        """Another one each time that the folder comes back after it was removed.

        The kernel finds nothing in an inode of its own that was removed, and it keeps that for as
        long as somebody is in there; of another generation it makes a new one.
        """
        return self._burials.get(ino, 0)

    # ---- Names ----

    def missed(self, parent: int, name: str, under: str | None = None) -> bool:
        """A lookup is answered with "not there"; gives whether the kernel may keep that.

        `under`: another name, with which this one would be there.
        """
        keys = {fold(name)} if under is None else {fold(name), fold(under)}
        return all(self._remember(parent, name, key) for key in keys)

    def _remember(self, parent: int, name: str, key: str) -> bool:
        if self._remembered >= REMEMBERED_NAMES:
            return False
        names = self._missed.setdefault(parent, {}).setdefault(key, set())
        if name not in names:
            names.add(name)
            self._remembered += 1
        return True

    def changed_here(self, parent: int, name: str, stored: str | None = None) -> None:
        """The kernel itself changed `name`; what it holds under other spellings is stale.

        `stored`: the spelling that the entry had.
        """
        stored = stored or name
        others = self._take_missed(parent, name) | self._take_missed(parent, stored)
        for other in (others | {stored}) - {name}:
            self._queue.put(Entry(parent, other))

    def stale(self, effects: Iterable[Effect]) -> None:
        """Changes that came from Dropbox: drop what the kernel holds of them. Does not block."""
        self._say()
        for effect in effects:
            match effect:
                case Entry(parent=parent, name=name, ino=ino) if self._holds(parent):
                    if ino:
                        self.buried(ino)
                    self._queue.put(effect)
                    for other in self._take_missed(parent, name) - {name}:
                        self._queue.put(Entry(parent, other))
                case Content(ino=ino) if self._reads.get(ino):
                    # Dropping its pages would wait for those that are read, and all else for that.
                    self._outlived.setdefault(ino, set()).update(self._reads[ino])
                    self._queue.put(Attributes(ino))
                case Content(ino=ino) | Attributes(ino=ino) if self._holds(ino):
                    self._queue.put(effect)

    @contextlib.contextmanager
    def reading(self, ino: int) -> Iterator[None]:
        """A read that may have to wait for Dropbox: pages that became stale go after it."""
        read = object()
        reads = self._reads.setdefault(ino, set())
        reads.add(read)
        try:
            yield
        finally:
            reads.discard(read)
            if not reads:
                self._reads.pop(ino, None)
            outlived = self._outlived.get(ino, set())
            outlived.discard(read)
            if not outlived and self._outlived.pop(ino, None) is not None:
                self._queue.put(Content(ino))

    def drop(self, parent: int, name: str) -> bool:
        """Drop one entry after all that is stale by now; whether that was done in time.

        Blocks while a request is under way in the folder. Not for the event loop's thread.
        """
        dropped = threading.Event()
        self._queue.put(Entry(parent, name))
        self._queue.put(dropped.set)
        return dropped.wait(DROP_WITHIN)

    def then(self, do: Callable[[], None]) -> None:
        """Call it in the thread when all that is stale by now has been dropped.

        It must touch no descriptor (`apart`).
        """
        self._queue.put(do)

    def _holds(self, ino: int) -> bool:
        return ino == ROOT_INO or self.in_use(ino)

    def _take_missed(self, parent: int, name: str) -> set[str]:
        names = self._missed.get(parent, {}).pop(fold(name), set())
        self._remembered -= len(names)
        return names

    # ---- The thread ----

    def _say(self) -> None:
        while self._said:
            log.log(*self._said.popleft())

    def _invalidate_all(self) -> None:
        if not set_apart():
            self._said.append((logging.DEBUG, "no connection to the kernel beside the first"))
        while (effect := self._queue.get()) is not None and not self._stopped:
            try:
                if callable(effect):
                    effect()
                else:
                    self._invalidate(effect)
            except OSError as error:
                if error.errno not in _HARMLESS:
                    refusal = f"the kernel refused to drop {effect}: {error}"
                    self._said.append((logging.WARNING, refusal))
            except RuntimeError as error:
                # The session is gone: a plain umount came first.
                self._said.append((logging.DEBUG, f"not invalidated: {error}"))

    @staticmethod
    def _invalidate(effect: Effect) -> None:
        match effect:
            case Entry(parent=parent, name=name, ino=ino):
                encoded = encode_name(name)
                try:
                    pyfuse3.invalidate_entry(parent, encoded, ino)
                except OSError as error:
                    if not ino or error.errno in _HARMLESS:
                        raise
                    # In use, or not empty in the kernel's eyes: then just let it ask again.
                    pyfuse3.invalidate_entry(parent, encoded)
            case Content(ino=ino):
                pyfuse3.invalidate_inode(ino)
            case Attributes(ino=ino):
                pyfuse3.invalidate_inode(ino, attr_only=True)
