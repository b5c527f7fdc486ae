"""What becomes of a change made elsewhere where something local is pending: pure decisions.

The inputs are what the feed says, what the base was and what is pending on the inode; the output
names what the tree has to do. The rules, in one sentence each:

* What is not pending follows Dropbox.
* Pending content keeps the revision that it was made from: Dropbox itself makes the conflicted
  copy when it is committed. A remote deletion does not take it; it is committed as a new file.
* A pending rename keeps its local place, whatever happens to the old one: what was renamed here
  and deleted elsewhere is sent as new, from the revision that it had.
* A pending deletion is given up when the content changed meanwhile: that version nobody saw.
* Two different things at one name: two folders become one; else the local one steps aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .names import marked


@dataclass(frozen=True, slots=True)
class Pending:
    """What Dropbox does not know yet of an inode."""

    content: bool = False
    place: bool = False
    deletion: bool = False


@dataclass(frozen=True, slots=True)
class Follow:
    """What of a remote entry becomes local too; the base takes all of it in any case."""

    content: bool
    place: bool
    revive: bool = False
    """The pending deletion is given up: the inode comes back at its remote place."""


def on_entry(pending: Pending, *, content_changed: bool) -> Follow:
    """A known inode was reported by the feed, changed, moved or as it was."""
    if pending.deletion:
        return Follow(content=content_changed, place=content_changed, revive=content_changed)
    return Follow(content=not pending.content, place=not pending.place)


class Fate(Enum):
    """What becomes of an inode that was deleted elsewhere."""

    REMOVE = auto()
    KEEP_AS_NEW = auto()
    """Dropbox no longer has it, programs still do: it will be sent as new."""


def on_deleted(pending: Pending, *, holds_survivors: bool) -> Fate:
    """A known inode was deleted elsewhere.

    `pending.place`: it, or a folder that it is in, was moved here. `holds_survivors`: a folder in
    which something has to stay.
    """
    if pending.deletion:
        return Fate.REMOVE
    if pending.content or pending.place or holds_survivors:
        return Fate.KEEP_AS_NEW
    return Fate.REMOVE


class Collision(Enum):
    """What becomes of a local inode whose name a remote entry claims."""

    MERGE = auto()
    """They are one: the local inode takes the remote identity."""
    STEP_ASIDE = auto()
    """The local inode gets another name and is sent under that."""


def on_collision(
    *, local_folder: bool, remote_folder: bool, local_has_base: bool, same_content: bool = False
) -> Collision:
    """A remote entry appears under a name that a pending local inode holds.

    `same_content`: two files, and what was sent for the local one is what came: its own commit,
    whose reply was lost.
    """
    both_folders = local_folder and remote_folder
    if (both_folders or same_content) and not local_has_base:
        return Collision.MERGE
    return Collision.STEP_ASIDE


def conflicted_name(name: str, attempt: int) -> str:
    """The name for what steps aside, as Dropbox writes it: "a (conflicted copy).txt"."""
    return marked(name, "(conflicted copy)" if attempt == 0 else f"(conflicted copy {attempt})")
