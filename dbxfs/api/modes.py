"""How a commit treats what is already at its path, and the name of an upload session.

`Update` is the one that cannot lose anybody's work: the commit goes through only onto the
revision that the content was made from, and otherwise lands beside it as a conflicted copy
(`autorename`) or is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from dbxfs.core.model import Rev

SessionId = NewType("SessionId", str)
"""An upload session under way; good for seven days."""


@dataclass(frozen=True, slots=True)
class Add:
    """Never over anything: other content at the path is a conflict."""


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Over whatever is there."""


@dataclass(frozen=True, slots=True)
class Update:
    """Only over this revision; anything else at the path is a conflict."""

    rev: Rev


WriteMode = Add | Overwrite | Update
