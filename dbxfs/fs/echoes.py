"""Which operations on the mount tell watchers of a change that was made elsewhere.

Pure: from what the feed brought to what is to be carried out, and who it concerns. An operation
names inodes and places, not paths: those are asked for when its turn comes, and what is no longer
so by then is not carried out.

Of a folder that goes only itself is told, not what was in it; that a folder's own time is another
one is no news either, as programs see that its entries are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from dbxfs.store.inode import Attributes, Content, Effect, Moved, Place


@dataclass(frozen=True, slots=True)
class Appear:
    """IN_CREATE, and of a file with content IN_MODIFY and IN_CLOSE_WRITE."""

    ino: int
    target: Place


@dataclass(frozen=True, slots=True)
class Vanish:
    """IN_DELETE."""

    ino: int
    folder: bool
    source: Place


@dataclass(frozen=True, slots=True)
class Move:
    """IN_MOVED_FROM and IN_MOVED_TO of one cookie, IN_MOVE_SELF."""

    ino: int
    source: Place
    target: Place


@dataclass(frozen=True, slots=True)
class Rewrite:
    """IN_MODIFY and IN_CLOSE_WRITE."""

    ino: int


@dataclass(frozen=True, slots=True)
class Touch:
    """IN_ATTRIB."""

    ino: int


Operation = Appear | Vanish | Move | Rewrite | Touch


def plan(effects: Iterable[Effect]) -> list[Operation]:
    """The operations that tell of a batch of changes, in order."""
    effects = list(effects)
    moves = [effect for effect in effects if isinstance(effect, Moved)]
    gone = {move.ino for move in moves if move.target is None}
    operations: list[Operation] = []
    for move in moves:
        match move.source, move.target:
            case (parent, _), None if parent in gone:
                continue
            case (_, _) as source, None:
                operations.append(Vanish(move.ino, move.folder, source))
            case (_, _) as source, (_, _) as target if source[0] not in gone:
                operations.append(Move(move.ino, source, target))
            case _, (_, _) as target:
                operations.append(Appear(move.ino, target))
    told = {op.ino for op in operations if isinstance(op, Appear | Vanish)}
    written = dict.fromkeys(e.ino for e in effects if isinstance(e, Content) and e.ino not in told)
    operations += map(Rewrite, written)
    touched = dict.fromkeys(e.ino for e in effects if isinstance(e, Attributes))
    operations += [Touch(ino) for ino in touched if ino not in told and ino not in written]
    return operations


def concerns(
    operation: Operation, watched: Set[int], parent_of: Callable[[int], int | None]
) -> bool:
    """Whether somebody who watches these inodes would be told of it.

    `parent_of`: the folder that an inode is in.
    """
    match operation:
        case Appear(target=(folder, _)):
            return folder in watched
        case Vanish(source=(folder, _)):
            return folder in watched
        case Move(ino, (old, _), (new, _)):
            return not watched.isdisjoint((ino, old, new))
        case Rewrite(ino) | Touch(ino):
            return ino in watched or parent_of(ino) in watched
