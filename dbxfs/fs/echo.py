"""Telling watchers (inotify) of changes that were made elsewhere.

The kernel tells who watches a file or folder of what is done through it, and of nothing else; a
FUSE daemon cannot say "this has changed" but by invalidating, of which no watcher hears. So the
change is made once more, on our own mount, by a process that we start for it: create, truncate to
the size that it has, rename, unlink. Its requests are known by their process id, are answered as
if they had done what is already so, and never reach the tree (`replayed`).

It happens after the plain invalidation and beside it: whatever fails here, or takes too long,
costs an event and nothing else. One thread waits for the process, nobody waits for the thread.
Nothing is done unless somebody watches what has changed; who does is looked for only when
something has, and so seldom that it takes a small part of one processor.

Rejected: a thread in place of the process (see `replay`); and to keep a descriptor of the mount
point open, since nobody could unmount it then.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable, Set
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from dbxfs.store.inode import Effect

from .echoes import Appear, Move, Operation, Vanish, concerns, plan
from .kernel import STOP_WITHIN, Kernel
from .player import LOOK_EVERY, Player
from .replay import Message
from .replaying import Replaying
from .watches import watched_inodes

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds that one operation may take; who holds the folder's lock must not hold up the rest."""
ATTEMPTS = 3
"""Times that one is tried: a program may just have looked at what is to change."""
SCAN_SHARE = 20
"""Looking for watchers takes at most this part of the time,"""
SCAN_PAUSE = 0.1
"""and it is not done again within so many seconds."""
MOST_WAITING = 50
"""Batches of some hundred changes that wait at the most; a watcher's own queue holds 16384
events."""

_AGAIN = (errno.EEXIST, errno.ENOENT, errno.ESTALE)
"""The kernel still has, or has again, what is to change in its cache."""


class Facts(Protocol):
    """What is asked of the tree, in the event loop's thread."""

    def parent(self, ino: int) -> int | None:
        """The folder that an inode is in."""

    def message(self, operation: Operation) -> Message | None:
        """What the process is to do; None: it is no longer so."""


class Echo:
    """Carries out on the mount what was changed elsewhere, for those who watch."""

    def __init__(
        self,
        kernel: Kernel,
        facts: Facts,
        replaying: Replaying,
        mountpoint: Path,
        *,
        always: bool = False,
    ) -> None:
        """`always`: also when nobody can be seen to watch."""
        self._kernel = kernel
        self._facts = facts
        self._replaying = replaying
        self._always = always
        self._player = Player(mountpoint, replaying.done_by)
        self._queue: queue.SimpleQueue[list[Operation] | None] = queue.SimpleQueue()
        self._stopped = False
        self._device = 0
        self._watched: Set[int] = frozenset()
        self._next_scan = 0.0
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)

    def start(self, device: int) -> None:
        """Begin. The file system is mounted; `device` is its number, as of stat(2)."""
        self._device = device
        self._token = trio.lowlevel.current_trio_token()
        self._thread.start()

    def stop(self) -> None:
        """Give up what is under way; the file system is about to be unmounted."""
        self._stopped = True
        self._queue.put(None)
        self._player.end()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN)

    def unmounted(self) -> None:
        """The file system is gone."""
        self._player.reap()

    def tell(self, effects: list[Effect]) -> None:
        """Changes that came from Dropbox: drop what the kernel holds, tell who watches.

        Does not block.
        """
        self._kernel.stale(effects)
        operations = plan(effects)
        if operations and self._queue.qsize() < MOST_WAITING and self._token is not None:
            self._kernel.then(partial(self._queue.put, operations))

    # ---- The thread ----

    def _run(self) -> None:
        while (operations := self._queue.get()) is not None and not self._stopped:
            try:
                self._perform_all(operations)
            except trio.RunFinishedError:
                return
            except Exception:
                log.exception("watchers were not told of a change")

    def _perform_all(self, operations: list[Operation]) -> None:
        if not self._always:
            self._scan()
            if not self._watched:
                return
            operations = self._ask(partial(self._concerning, operations)) or []
        for operation in operations:
            if self._stopped or not self._player.usable:
                return
            self._perform(operation)

    def _scan(self) -> None:
        """Look for watchers, later if it was done a moment ago: nobody is to be overlooked."""
        while (pause := self._next_scan - time.monotonic()) > 0 and not self._stopped:
            time.sleep(min(pause, LOOK_EVERY))
        began = time.monotonic()
        self._watched = watched_inodes(self._device)
        now = time.monotonic()
        self._next_scan = now + max(SCAN_PAUSE, SCAN_SHARE * (now - began))

    def _concerning(self, operations: list[Operation]) -> list[Operation]:
        return [
            operation
            for operation in operations
            if concerns(operation, self._watched, self._facts.parent)
        ]

    def _perform(self, operation: Operation) -> None:
        """Carry one out; what a program has just put into the kernel's cache is dropped again."""
        for _ in range(ATTEMPTS):
            message = self._ask(partial(self._facts.message, operation))
            if message is None:
                return
            performance = self._replaying.begin(operation)
            code = self._player.perform(message, self._device, PATIENCE)
            if code is not None:
                self._replaying.end()
            if code == 0 and performance.answered:
                break
            log.debug("watchers not told of %s: %s", operation, code)
            if code not in (0, *_AGAIN) or self._stopped:
                break
            self._drop(operation)
        if isinstance(operation, Move) and not self._stopped:
            # For a moment the kernel was made to see it at its old place.
            self._kernel.drop(*operation.source)

    def _drop(self, operation: Operation) -> None:
        match operation:
            case Appear(target=place) | Vanish(source=place):
                self._kernel.drop(*place)
            case Move(source=source, target=target):
                self._kernel.drop(*source)
                self._kernel.drop(*target)

    def _ask(self, question: Callable[[], T]) -> T | None:
        """The answer of the event loop's thread; None when the mount ends.

        Raises trio.RunFinishedError.
        """
        assert self._token is not None  # noqa: S101
        answers: queue.SimpleQueue[T | None] = queue.SimpleQueue()

        def answer() -> None:
            try:
                answers.put(question())
            except Exception:
                log.exception("watchers cannot be told of a change")
                answers.put(None)

        self._token.run_sync_soon(answer)
        while not self._stopped:
            try:
                return answers.get(timeout=LOOK_EVERY)
            except queue.Empty:
                continue
        return None
