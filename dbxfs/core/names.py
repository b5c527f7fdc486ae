"""What names mean to Dropbox and to the kernel.

Three questions are answered here. Which names are the same to Dropbox (`fold`); which names it
refuses (`problem`); and how the bytes that the kernel passes become text and back (`decode_name`,
`encode_name`).

Dropbox compares without case and without regard to how accents are composed. The server lowers
character by character, so a sigma at a word's end is lowered like any other ("ΣΣΣ" is "σσσ"),
while Python's `str.lower` looks at the word. Case folding (`str.casefold`) was rejected: it joins
"ß" with "ss", which are two names on Dropbox.

A name is refused by `problem` for one of two reasons: the path is malformed, which the server
itself says, or the name belongs to a class of files that Dropbox does not keep ("Why aren't
certain files syncing?", Dropbox help): folder settings of desktops, Dropbox's own marks, and
programs' temporary files. Characters that only Windows dislikes (":", "*", a dot at the end) are
fine for Dropbox, so they are fine here.
"""

from __future__ import annotations

import contextlib
import unicodedata

MAX_LENGTH = 255
"""Characters in one name."""

DISALLOWED = frozenset(
    {
        ".",
        "..",
        "desktop.ini",
        "thumbs.db",
        ".ds_store",
        "icon\r",
        ".dropbox",
        ".dropbox.attr",
        ".dropbox.cache",
    }
)
"""Names that Dropbox does not keep, in any case, folded."""

_RAW = "\0"
"""Before the digits of a name that is no text."""

_FORBIDDEN = {"/": "a slash", "\\": "a backslash", "\0": "a NUL", "\x7f": "a DEL character"}


def marked(name: str, mark: str) -> str:
    """The name with a mark before its extension, cut so that Dropbox still takes it."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > MAX_LENGTH // 2:
        stem, dot, extension = name, "", ""
    room = MAX_LENGTH - len(mark) - len(dot) - len(extension) - 1
    return f"{stem[:room]} {mark}{dot}{extension}"


def fold(name: str) -> str:
    """The key by which Dropbox compares: two names are one place when their keys are equal.

    Idempotent. Takes a whole path too, as "/" folds to itself. Any string is accepted, also one
    with lone surrogates.
    """
    if name.isascii():
        return name.lower()
    # "Σ" is the one character that str.lower treats by its neighbours.
    lowered = unicodedata.normalize("NFC", name).replace("Σ", "σ").lower()
    return unicodedata.normalize("NFC", lowered)


def problem(name: str) -> str | None:
    """Why Dropbox would not keep a file or folder of this name, for people; None: it would."""
    return _malformed(name) or _disallowed(name)


def _malformed(name: str) -> str | None:
    if not name:
        return "the name is empty"
    if len(name) > MAX_LENGTH:
        return f"the name has {len(name)} characters, Dropbox takes {MAX_LENGTH}"
    if name.startswith(_RAW):
        return "the name is not valid UTF-8"
    for character, what in _FORBIDDEN.items():
        if character in name:
            return f"the name contains {what}"
    if name.endswith(" "):
        return "the name ends with a space"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    return None


def _disallowed(name: str) -> str | None:
    key = fold(name)
    if key in DISALLOWED:
        return "Dropbox does not keep files of this name"
    if is_temporary(key):
        return "Dropbox does not keep temporary files of this form"
    return None


def is_temporary(name: str) -> bool:
    """True for the temporary and lock files that Dropbox leaves out: "~$…", ".~…", "~….tmp"."""
    key = fold(name)
    return key.startswith(("~$", ".~")) or (key.startswith("~") and key.endswith(".tmp"))


def decode_name(raw: bytes) -> str:
    """A name as the kernel passes it, as text that a database takes.

    Bytes that are no UTF-8 become a NUL, which no name of the kernel's has, and their hexadecimal
    digits. Python's own way, lone surrogates, has no form in UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _RAW + raw.hex()


def encode_name(name: str) -> bytes:
    """The bytes for the kernel; undoes `decode_name` for every byte string.

    Lone surrogates (they can only come from a broken peer) become "?".
    """
    if name.startswith(_RAW):
        with contextlib.suppress(ValueError):
            return bytes.fromhex(name[len(_RAW) :])
    return name.encode("utf-8", "replace")


def shown_name(name: str) -> str:
    """The name for messages."""
    return encode_name(name).decode("utf-8", "backslashreplace")
