"""The server's own rules for names: folding, what is malformed, what is disallowed, new names.

Case does not matter to Dropbox, but it is kept: the key of an entry is its path in NFC and lower
case, its display path is what the writer gave. The rules come from the "Path formats" page and
from the help page on file names; they are kept apart from the client's (`dbxfs.core.names`) on
purpose, so that one wrong idea cannot hide in both.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import count

LONGEST_NAME = 255
"""Characters in one component of a path."""

DISALLOWED = frozenset(
    {
        "desktop.ini",
        "thumbs.db",
        ".ds_store",
        "icon\r",
        ".dropbox",
        ".dropbox.attr",
        ".dropbox.cache",
    }
)
"""Names (in lower case) that Dropbox does not save."""


def fold(path: str) -> str:
    """The key of `path`: NFC, lower case. Idempotent."""
    if path.isascii():
        return path.lower()
    lowered = unicodedata.normalize("NFC", path).lower()
    return unicodedata.normalize("NFC", lowered)


def parent_of(path: str) -> str:
    """The folder that holds `path`; "" for what lies in the root."""
    return path[: path.rfind("/")]


def name_of(path: str) -> str:
    """The last component."""
    return path[path.rfind("/") + 1 :]


def is_below(key: str, ancestor: str) -> bool:
    """Whether `key` lies strictly below `ancestor` (both folded)."""
    return key.startswith(ancestor + "/")


def is_malformed(path: str) -> bool:
    """Whether an absolute path (beginning with "/") breaks the rules for paths."""
    return any(_is_malformed_name(name) for name in path[1:].split("/"))


def _is_malformed_name(name: str) -> bool:
    if name in ("", ".", "..") or len(name) > LONGEST_NAME or name.endswith(" "):
        return True
    if "\\" in name or "\x7f" in name or "\0" in name:
        return True
    return not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name)


def is_disallowed(path: str) -> bool:
    """Whether any component is a name that Dropbox does not save."""
    return any(name in DISALLOWED for name in fold(path).split("/"))


def numbered(name: str, *, is_folder: bool) -> Iterator[str]:
    """The names that autorename tries for a new entry: "a (1).txt", "a (2).txt" and so on."""
    stem, extension = (name, "") if is_folder else _split(name)
    for number in count(1):
        yield _joined(stem, f" ({number})", extension)


def conflicted(name: str) -> Iterator[str]:
    """The names that autorename tries for an outdated update: "a (conflicted copy).txt" first."""
    stem, extension = _split(name)
    yield _joined(stem, " (conflicted copy)", extension)
    for number in count(2):
        yield _joined(stem, f" (conflicted copy {number})", extension)


def _split(name: str) -> tuple[str, str]:
    dot = name.rfind(".")
    return (name, "") if dot <= 0 else (name[:dot], name[dot:])


def _joined(stem: str, mark: str, extension: str) -> str:
    extension = extension[: LONGEST_NAME // 2]
    return stem[: LONGEST_NAME - len(mark) - len(extension)] + mark + extension
