"""What the kernel and those who watch folders must be told of changes that come from Dropbox.

It is gathered while a change is applied, and taken when that is stored: what is told before could
be asked for again before it is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from . import inode as effects
from .inode import Effect
from .moves import Moves
from .tree import Tree


class News:
    """Gathers what a change makes stale, and gives the folders that it touches their times."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._moves = Moves(tree)
        self._effects: list[Effect] = []
        self._first = False
        self._touched: set[int] = set()
        self._timed: set[int] = set()
        """Folders whose time a program has set elsewhere, as this page tells."""

    def new_page(self) -> None:
        """Another page begins: whose times were set was told for the last one."""
        self._timed = set()

    @contextlib.contextmanager
    def gathered(self, *, first: bool) -> Iterator[None]:
        """What is changed within is taken down. `first`: it was always there.

        Then no folder's time changes, and who watches folders is not told.
        """
        self._effects, self._touched, self._first = [], set(), first
        with contextlib.nullcontext() if first else self._moves.noted():
            yield
            now = self._tree.clock()
            for ino in self._touched - self._timed:
                self._tree.update(ino, mtime_ns=now, ctime_ns=now, mtime_set=None)
                self._effects.append(effects.Attributes(ino))

    def entry(self, parent: int, name: str, ino: int = 0) -> None:
        """A name in a folder stands for something else; `ino` was there, if that is known."""
        self._effects.append(effects.Entry(parent, name, ino))
        if not self._first:
            self._touched.add(parent)

    def other_kind(self, parent: int, name: str) -> None:
        """The kernel wants a new inode for a name; its folder has not changed."""
        self._effects.append(effects.Entry(parent, name))

    def attributes(self, ino: int) -> None:
        """The inode's attributes are others."""
        self._effects.append(effects.Attributes(ino))

    def time_set(self, ino: int) -> None:
        """A program has set the time elsewhere: it stays, whatever this page does in the folder."""
        self._timed.add(ino)

    def add(self, stale: list[Effect]) -> None:
        """What somebody else has found to be stale."""
        self._effects += stale

    def take(self) -> list[Effect]:
        """All that was gathered since it was taken last."""
        taken, self._effects = self._effects, []
        stale = [self._as_move_where_it_lives_on(effect) for effect in taken]
        return [*stale, *self._moves.take()]

    def _as_move_where_it_lives_on(self, effect: Effect) -> Effect:
        """The kernel buries what it is told is deleted, also for who has it open.

        So it must not be told of what has moved, nor of what may still turn out to have moved.
        """
        if not isinstance(effect, effects.Entry) or not effect.ino:
            return effect
        inode = self._tree.find(effect.ino)
        lives_on = inode is not None and (inode.parent is not None or inode.seen < 0)
        return effects.Entry(effect.parent, effect.name) if lives_on else effect
