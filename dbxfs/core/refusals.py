"""Why Dropbox would not take something: what people can do about it, and its errno.

The journal keeps a refusal's *code*, the tag of the error union that decides; what follows from it
is looked up here, so that a better word reaches old refusals too. A tag that is not listed has no
remedy but the log, and is tried again like the others.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

LARGEST_FILE = 2 * 1024**4
"""Bytes; Dropbox takes no larger one."""

NO_SPACE = "insufficient_space"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason of Dropbox's, for people and for programs."""

    reason: str
    remedy: str
    errno: int


_AGAIN = "it is tried again every few minutes"

REFUSALS: dict[str, Refusal] = {
    NO_SPACE: Refusal(
        "Dropbox is full", "free space on Dropbox or get more; it is sent then", errno.ENOSPC
    ),
    "no_write_permission": Refusal(
        "Dropbox lets you only read there",
        "ask the folder's owner for the right to edit, or move it to another folder",
        errno.EACCES,
    ),
    "disallowed_name": Refusal(
        "Dropbox does not keep files of this name", "give it another name", errno.EINVAL
    ),
    "malformed_path": Refusal(
        "Dropbox does not take this name", "give it another name", errno.EINVAL
    ),
    "too_large": Refusal(
        "it is larger than Dropbox takes", "make it smaller or split it", errno.EFBIG
    ),
    "payload_too_large": Refusal(
        "it is larger than Dropbox takes", "make it smaller or split it", errno.EFBIG
    ),
    "file_locked": Refusal(
        "somebody has locked the file on Dropbox", f"have it unlocked; {_AGAIN}", errno.EBUSY
    ),
    "team_folder": Refusal(
        "a team folder is managed by the team's administrators",
        "undo it here, or ask an administrator",
        errno.EACCES,
    ),
    "cant_move_folder_into_itself": Refusal(
        "a folder cannot be moved into itself", "move it back", errno.EINVAL
    ),
    "cant_nest_shared_folder": Refusal(
        "a shared folder cannot be put into another one", "move it out again", errno.EACCES
    ),
    "cant_move_shared_folder": Refusal(
        "this shared folder cannot be moved", "move it back", errno.EACCES
    ),
    "cant_transfer_ownership": Refusal(
        "the move would give it to somebody else", "move it back", errno.EACCES
    ),
    "too_many_files": Refusal(
        "Dropbox does not move or delete so much at once", "do it in smaller parts", errno.EBUSY
    ),
    "insufficient_quota": Refusal(
        "moving it there would need more space than Dropbox has",
        "free space on Dropbox or get more; it is moved then",
        errno.ENOSPC,
    ),
    "email_unverified": Refusal(
        "the account's e-mail address is not verified", "verify it on dropbox.com", errno.EACCES
    ),
    "restricted_content": Refusal(
        "Dropbox has restricted the file for legal reasons", "ask Dropbox's support", errno.EACCES
    ),
}


def code_of(tags: Iterable[str]) -> str | None:
    """The tag that is known here, if one of them is."""
    return next((tag for tag in tags if tag in REFUSALS), None)


def find(code: str | None) -> Refusal | None:
    """What is known of a code."""
    return None if code is None else REFUSALS.get(code)
