"""What POSIX keeps of a file beyond its bytes, and its form as Dropbox file properties.

Dropbox's own metadata have a name, the bytes and a time to the second. The rest (mode bits, the
nanoseconds, owner, the target of a symbolic link, extended attributes) goes into one *property
group*: up to 32 named texts of at most 1024 bytes that Dropbox keeps with a file or folder and
gives back in listings. What people may want to read is a field of its own; targets and extended
attributes are any bytes, so they are packed, compressed and cut into numbered fields.

Properties outlive the content that they were made for: a client that knows nothing of them can put
another file under the same id. So what speaks of the content names it. A time holds for the
`client_modified` that it refines or overrides (`mtime_of`), a target only while the bytes are the
target itself; after that the file is a plain one again.

What comes from Dropbox is data from outside: a field that makes no sense counts as not there, and
set-uid and set-gid bits are neither sent nor taken unless the mount asks for them.

Rejected: a hidden file with the attributes of a folder's entries. Every `chmod` would be a commit
and every two of them, on two machines, a conflict.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from .content_hash import content_hash

T = TypeVar("T")

TEMPLATE_NAME = "dbxfs attributes 1"
"""Raise the number when fields change their meaning: two versions must not share a template."""

TEMPLATE_DESCRIPTION = "POSIX attributes of files and folders, kept by dbxfs."

LONGEST_VALUE = 1024
"""Bytes that Dropbox takes in one field."""

PIECES = 16
"""Fields for what is packed."""

LARGEST = PIECES * LONGEST_VALUE * 3 // 4 - 64
"""Bytes of target and extended attributes, their names included, that fit however little they can
be compressed. Programs may set so much: with a limit that compression decides, a value could not be
replaced by a shorter one."""

_PIECE = [f"data{number:02}" for number in range(PIECES)]

FIELDS = {
    "mode": "Permission bits, octal.",
    "mtime_ns": "Time of the last modification: nanoseconds since the epoch.",
    "mtime_of": "The client_modified, seconds since the epoch, that mtime_ns stands for.",
    "uid": "Owner's number.",
    "gid": "Group's number.",
    "type": "symlink: the content is the target of a symbolic link.",
    **dict.fromkeys(_PIECE, "Target and extended attributes, packed."),
}
"""The template's fields and their descriptions."""

SETUID = 0o6000
MODE_BITS = 0o7777
PLAIN_FOLDER_MODE = 0o755
"""A folder of this mode needs no property, whose setting would cost a call."""

_NO_ID = 0xFFFFFFFF
_LONGEST_UNPACKED = 1 << 20
_SECOND = 1_000_000_000

_SYMLINK = "symlink"
SYMLINK_INFO = "symlink_info"
"""Not a property: the target of a link that Dropbox itself has, kept beside the properties."""


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one file or folder. None: nothing; Dropbox's metadata and the mount tell."""

    mode: int | None = None
    mtime_ns: int | None = None
    uid: int | None = None
    gid: int | None = None
    link: bytes | None = None
    """The target of a symbolic link."""
    xattrs: dict[bytes, bytes] = {}
    """By full name, "user." included."""


NOTHING = Attributes()


def encode(attributes: Attributes, client_modified_ns: int | None) -> dict[str, str]:
    """The fields for Dropbox. `client_modified_ns`: the file's, as Dropbox has it; None: a folder.

    ValueError when it is more than fits.
    """
    fields: dict[str, str] = {}
    if attributes.mode is not None:
        fields["mode"] = f"{attributes.mode:04o}"
    if attributes.mtime_ns is not None:
        fields["mtime_ns"] = str(attributes.mtime_ns)
        if client_modified_ns is not None:
            fields["mtime_of"] = str(client_modified_ns // _SECOND)
    if attributes.uid is not None:
        fields["uid"] = str(attributes.uid)
    if attributes.gid is not None:
        fields["gid"] = str(attributes.gid)
    if attributes.link is not None:
        fields["type"] = _SYMLINK
    packed = _pack(attributes.link, attributes.xattrs)
    pieces = [packed[at : at + LONGEST_VALUE] for at in range(0, len(packed), LONGEST_VALUE)]
    if len(pieces) > PIECES:
        raise ValueError("more attributes than Dropbox keeps")
    return fields | dict(zip(_PIECE, pieces, strict=False))


def decode(
    fields: Mapping[str, str], client_modified_ns: int | None, digest: str | None
) -> Attributes:
    """What the fields say of the content that has this time and content hash (None: a folder)."""
    mtime_ns = _number(fields.get("mtime_ns"), -(1 << 63), (1 << 63) - 1)
    if client_modified_ns is not None and mtime_ns is not None:
        of = _number(fields.get("mtime_of"), -(1 << 63), (1 << 63) - 1)
        if of != client_modified_ns // _SECOND:
            mtime_ns = None
    link, xattrs = _unpack("".join(fields.get(name, "") for name in _PIECE))
    is_link = fields.get("type") == _SYMLINK and digest is not None and link
    if not is_link or link is None or content_hash(link) != digest:
        link = None
    own = fields.get(SYMLINK_INFO)
    if own and "\0" not in own:
        link = own.encode("utf-8", "replace")
    return Attributes(
        mode=_number(fields.get("mode"), 0, MODE_BITS, base=8),
        mtime_ns=mtime_ns,
        uid=_number(fields.get("uid"), 0, _NO_ID - 1),
        gid=_number(fields.get("gid"), 0, _NO_ID - 1),
        link=link,
        xattrs=xattrs,
    )


def fits(attributes: Attributes) -> bool:
    """Whether Dropbox can keep so much of target and extended attributes, whatever they say."""
    return len(_plain(attributes.link, attributes.xattrs)) <= LARGEST


def without_setuid(attributes: Attributes) -> Attributes:
    """The same without the set-uid and set-gid bits."""
    if attributes.mode is None or not attributes.mode & SETUID:
        return attributes
    return msgspec.structs.replace(attributes, mode=attributes.mode & ~SETUID)


def merge(base: Attributes, local: Attributes, remote: Attributes) -> Attributes:
    """What programs see when Dropbox says `remote`: what is not changed here follows it.

    What was changed on both sides stays as it is here, and is sent. Extended attributes are merged
    one by one.
    """
    names = base.xattrs.keys() | local.xattrs.keys() | remote.xattrs.keys()
    xattrs = {
        name: _choose(base.xattrs.get(name), local.xattrs.get(name), remote.xattrs.get(name))
        for name in sorted(names)
    }
    return Attributes(
        mode=_choose(base.mode, local.mode, remote.mode),
        mtime_ns=_choose(base.mtime_ns, local.mtime_ns, remote.mtime_ns),
        uid=_choose(base.uid, local.uid, remote.uid),
        gid=_choose(base.gid, local.gid, remote.gid),
        link=_choose(base.link, local.link, remote.link),
        xattrs={name: value for name, value in xattrs.items() if value is not None},
    )


def delta(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """From one set of fields to another: those to set, and the names of those to remove.

    Fields that only make sense together go together, so that what another machine has set
    meanwhile is either left alone or replaced whole.
    """
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    for together in ({"mtime_ns", "mtime_of"}, {"type", *_PIECE}):
        if changed & together:
            changed |= together
    wanted = {name: value for name, value in new.items() if name in changed}
    return wanted, sorted(changed & (old.keys() - new.keys()))


def pack_xattrs(xattrs: Mapping[bytes, bytes]) -> bytes | None:
    """Extended attributes as the database keeps them; None: there are none."""
    return msgspec.msgpack.encode(sorted(xattrs.items())) if xattrs else None


def unpack_xattrs(packed: bytes | None) -> dict[bytes, bytes]:
    """Undoes `pack_xattrs`; of what it did not make, nothing."""
    if packed is None:
        return {}
    try:
        return dict(msgspec.msgpack.decode(packed, type=list[tuple[bytes, bytes]]))
    except msgspec.MsgspecError:
        return {}


# ---- Inside ----


def _choose(base: T, local: T, remote: T) -> T:
    return remote if local == base else local


def _number(text: str | None, lowest: int, highest: int, base: int = 10) -> int | None:
    if text is None or len(text) > 20 or not text.isascii():
        return None
    try:
        number = int(text, base)
    except ValueError:
        return None
    return number if lowest <= number <= highest else None


def _pack(link: bytes | None, xattrs: Mapping[bytes, bytes]) -> str:
    if link is None and not xattrs:
        return ""
    return base64.b64encode(zlib.compress(_plain(link, xattrs), 9)).decode()


def _plain(link: bytes | None, xattrs: Mapping[bytes, bytes]) -> bytes:
    return msgspec.msgpack.encode((link, sorted(xattrs.items())))


def _unpack(text: str) -> tuple[bytes | None, dict[bytes, bytes]]:
    if not text:
        return None, {}
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(base64.b64decode(text, validate=True), _LONGEST_UNPACKED)
        link, xattrs = msgspec.msgpack.decode(
            plain, type=tuple[bytes | None, list[tuple[bytes, bytes]]]
        )
    except (ValueError, zlib.error, binascii.Error, msgspec.MsgspecError):
        return None, {}
    kept = {
        name: value for name, value in xattrs if name.startswith(b"user.") and b"\0" not in name
    }
    return (link if link and b"\0" not in link else None), kept
