"""From the difference between base and local to the next call: a pure decision.

The journal holds no operations, only the inodes whose local state is not what Dropbox knows. This
module looks at one of them, at the place it wants and at who holds that place, and names the one
call that brings it nearer, or the other inode whose turn comes first. It is asked again after
each call, so work of several steps (a swap, a change of case) needs no memory and survives a kill
between any two of them.

What has a name that Dropbox does not take stays here (*local-only*): if Dropbox has it from before,
its content is brought here first, then it is deleted there.

Places are given in the *base's* terms (where Dropbox has the folder now), so that a pending move
of a folder above does not have to be waited for. What is moved or deleted is named by its id:
something else may be at its path by now.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import FileId, RemotePath, Rev, join
from .names import marked


@dataclass(frozen=True, slots=True)
class Occupant:
    """Another inode that Dropbox has at the wanted place."""

    ino: int
    leaving: bool
    """It is unlinked, or kept here only."""
    rev: Rev | None
    """None: a folder."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One pending inode, as the store knows it."""

    ino: int
    is_folder: bool
    name: str | None
    """The local name; None: unlinked."""
    parent: int | None = None
    folder: RemotePath | None = None
    """Where Dropbox has the local folder that it is in; None: not yet."""
    base: RemotePath | None = None
    """Where Dropbox has it; None: nowhere."""
    id: FileId | None = None
    """None: nowhere, or Dropbox has only named it as part of a path yet."""
    rev: Rev | None = None
    moved: bool = False
    same_key: bool = False
    """Moved, but only in the spelling of its name."""
    content: bool = False
    """There is staged content."""
    from_rev: Rev | None = None
    local_only: bool = False
    """It, or a folder that it is in, was given a name that Dropbox does not take."""
    missing: bool = False
    """A part of its content is only on Dropbox."""
    attributes: bool = False
    """Its attributes are not those that Dropbox keeps with it, and it can keep them."""
    occupant: Occupant | None = None
    removed_with: int | None = None
    """Unlinked: the folder that Dropbox has it in, where that is unlinked too."""
    must_leave: int | None = None
    """A folder that is to go: something that Dropbox has in it and programs keep. One that was
    moved: what of the way to its new place Dropbox still has in it."""
    successor: int | None = None
    """A file that is to go: a new file that has its name; its commit replaces this one."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class After:
    """Another inode's turn comes first."""

    ino: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Dropbox would refuse it; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Bring:
    """Bring all of its content here."""


@dataclass(frozen=True, slots=True)
class CreateFolder:
    """Make the folder."""

    path: RemotePath


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete it, if it is still the version that was deleted here."""

    source: RemotePath
    """Its id; its path where that is not known."""
    rev: Rev | None


@dataclass(frozen=True, slots=True)
class Move:
    """Move it."""

    source: RemotePath
    """Its id; its path where that is not known."""
    target: RemotePath


@dataclass(frozen=True, slots=True)
class Upload:
    """Send its content; `replaces`: the revision that it was made from, None: a new file."""

    path: RemotePath
    replaces: Rev | None


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Send its attributes. Those of new content go with it and need no call."""

    target: RemotePath
    """Its id; its path where that is not known."""


Call = Bring | CreateFolder | Delete | Move | SetAttributes | Upload
Step = Call | Done | After | Hold


def next_step(facts: Facts, *, in_cycle: bool = False) -> Step:
    """What to do next for one inode.

    `in_cycle`: following `After` came back here (a swap of names); the inode goes out of the way
    under a passing name.
    """
    if facts.name is None:
        return _remove(facts, in_cycle)
    if facts.local_only and facts.missing:
        return Bring()
    if facts.local_only:
        return _remove(facts, in_cycle)
    if facts.folder is None and in_cycle and facts.moved and facts.base is not None:
        # The folder it goes to waits for the name that it still has.
        return Move(_source(facts, facts.base), passing_place(facts.base, facts.ino))
    if facts.folder is None:
        return Hold("in a removed folder") if facts.parent is None else After(facts.parent)
    target = join(facts.folder, facts.name)
    if facts.base is None:
        return _create(facts, target)
    if facts.moved:
        return _move(facts, facts.base, target, in_cycle)
    if facts.content:
        return Upload(target, facts.from_rev)
    if facts.attributes:
        return SetAttributes(_source(facts, facts.base))
    return Done()


def _remove(facts: Facts, in_cycle: bool) -> Step:
    """It is to go from Dropbox."""
    if facts.base is None:
        return Done()
    if facts.removed_with is not None:
        return After(facts.removed_with)
    if facts.must_leave is not None and in_cycle:
        # What has to leave it waits for its name.
        return Move(_source(facts, facts.base), passing_place(facts.base, facts.ino))
    if facts.must_leave is not None:
        return After(facts.must_leave)
    if facts.successor is not None:
        return After(facts.successor)
    return Delete(_source(facts, facts.base), facts.rev)


def _create(facts: Facts, target: RemotePath) -> Step:
    if facts.is_folder:
        return CreateFolder(target) if facts.occupant is None else After(facts.occupant.ino)
    if facts.occupant is None:
        return Upload(target, None)
    if facts.occupant.leaving and facts.occupant.rev is not None:
        # A rename over an existing file: one commit, which keeps the file's history.
        return Upload(target, facts.occupant.rev)
    return After(facts.occupant.ino)


def _move(facts: Facts, base: RemotePath, target: RemotePath, in_cycle: bool) -> Step:
    if facts.same_key or in_cycle:
        return Move(_source(facts, base), passing_place(base, facts.ino))
    if facts.must_leave is not None:
        return After(facts.must_leave)
    if facts.occupant is not None:
        return After(facts.occupant.ino)
    return Move(_source(facts, base), target)


def _source(facts: Facts, base: RemotePath) -> RemotePath:
    return base if facts.id is None else RemotePath(facts.id)


def passing_place(path: RemotePath, ino: int) -> RemotePath:
    """Where something waits while its name is being freed: beside it, with its extension."""
    folder, _, name = path.rpartition("/")
    return join(RemotePath(folder), marked(name, f"(being renamed {ino})"))
