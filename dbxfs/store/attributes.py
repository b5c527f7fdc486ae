"""The attributes of inodes beside those that Dropbox has: what differs, and what follows.

Like everything else they are kept twice, local and base. The base is the fields of our property
group as Dropbox last confirmed them; the local ones are columns of their own, since the kernel asks
for them all the time. Both are compared as `core.attributes.Attributes`, where a file's time only
counts as far as Dropbox's own metadata do not tell it, and a folder's only when a program set it.

Attributes never decide about content or places, so nothing here can make a conflict: what both
sides changed stays as it is here and is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from dbxfs.core import attributes as core
from dbxfs.core.attributes import Attributes
from dbxfs.core.content_hash import content_hash
from dbxfs.core.model import FileEntry, FolderEntry

from .inode import Inode

_SECOND = 1_000_000_000


def to_keep(inode: Inode, *, setuid: bool = False) -> Attributes:
    """What Dropbox should keep of the inode. `setuid`: the set-uid and set-gid bits too."""
    mtime_ns: int | None = inode.mtime_ns
    if inode.is_folder:
        mtime_ns = mtime_ns if inode.mtime_set else None
    elif inode.mtime_ns == inode.base_mtime_ns:
        mtime_ns = None
    wanted = Attributes(
        mode=inode.mode,
        mtime_ns=mtime_ns,
        uid=inode.uid,
        gid=inode.gid,
        link=inode.link,
        xattrs=core.unpack_xattrs(inode.xattrs),
    )
    return _that_count(wanted, inode.is_folder, setuid)


def to_commit(inode: Inode, client_modified_ns: int, *, setuid: bool = False) -> Attributes:
    """As `to_keep`, for content that is committed with this time (nanoseconds)."""
    refined = client_modified_ns if client_modified_ns % _SECOND else None
    return msgspec.structs.replace(to_keep(inode, setuid=setuid), mtime_ns=refined)


def kept(inode: Inode, *, setuid: bool = False) -> Attributes:
    """What Dropbox keeps of the inode, as far as is known."""
    found = core.decode(_fields(inode.base_attributes), inode.base_mtime_ns, inode.hash)
    return _that_count(found, inode.is_folder, setuid)


def differ(inode: Inode, *, setuid: bool = False) -> bool:
    """Whether Dropbox should keep something else than it does.

    The time of a folder alone is not worth a call, of which it takes one for each folder: it goes
    when something else of it does.
    """
    wanted, there = to_keep(inode, setuid=setuid), kept(inode, setuid=setuid)
    if inode.is_folder:
        wanted, there = (msgspec.structs.replace(one, mtime_ns=None) for one in (wanted, there))
    return wanted != there


def confirmed(inode: Inode) -> dict[str, str]:
    """The fields that Dropbox has, as far as is known."""
    return _fields(inode.base_attributes)


def stored(fields: Mapping[str, str]) -> str | None:
    """Confirmed fields as the database keeps them."""
    return json.dumps(fields, sort_keys=True) if fields else None


def following(
    inode: Inode, entry: FileEntry | FolderEntry, *, content: bool, setuid: bool = False
) -> dict[str, object]:
    """The columns that change when Dropbox reports `entry` for what `inode` was before.

    `content`: what programs see of a file is what the entry describes; else something is pending.
    Nothing changes where the entry does not tell of attributes.
    """
    fields = _reported(entry)
    written = entry.client_modified_ns if isinstance(entry, FileEntry) else None
    digest = entry.content_hash if isinstance(entry, FileEntry) else None
    replaced = content and digest != inode.hash
    if fields is None:
        wrong = replaced and inode.link is not None and content_hash(inode.link) != digest
        return {"link": None} if wrong else {}
    remote = _that_count(core.decode(fields, written, digest), inode.is_folder, setuid)
    if inode.id not in (None, entry.id):
        # Another folder has come to its place: what was kept with the old one is to be sent again.
        inode = msgspec.structs.replace(inode, base_attributes=None)
    local = to_keep(inode, setuid=setuid)
    merged = core.merge(kept(inode, setuid=setuid), local, remote)
    if replaced and merged.link is not None and content_hash(merged.link) != digest:
        # Other content has come: what it was a link to says nothing any more.
        merged = msgspec.structs.replace(merged, link=remote.link)
    columns: dict[str, object] = {"base_attributes": stored(fields)}
    columns |= _columns(local, merged)
    if isinstance(entry, FolderEntry) and merged.mtime_ns != local.mtime_ns:
        columns["mtime_set"] = None if merged.mtime_ns is None else 1
        if merged.mtime_ns is not None:
            columns["mtime_ns"] = merged.mtime_ns
    elif isinstance(entry, FileEntry) and content:
        refined = remote.mtime_ns if replaced else merged.mtime_ns
        columns["mtime_ns"] = written if refined is None else refined
    return columns


def of_new(entry: FileEntry | FolderEntry, *, setuid: bool = False) -> dict[str, object]:
    """The columns of an inode that is made for an entry."""
    fields = _reported(entry)
    if fields is None:
        return {}
    return {"base_attributes": stored(fields), **_from(entry, fields, setuid)}


def restored(inode: Inode, *, setuid: bool = False) -> dict[str, object]:
    """The columns of an inode that shows again what Dropbox keeps of `inode`."""
    found = kept(inode, setuid=setuid)
    columns = _columns(core.NOTHING, found)
    columns["mtime_ns"] = inode.base_mtime_ns if found.mtime_ns is None else found.mtime_ns
    return columns


def _that_count(found: Attributes, is_folder: bool, setuid: bool) -> Attributes:
    """Without what is neither sent nor taken."""
    if not setuid:
        found = core.without_setuid(found)
    if is_folder and found.mode == core.PLAIN_FOLDER_MODE:
        found = msgspec.structs.replace(found, mode=None)
    return found


def _from(
    entry: FileEntry | FolderEntry, fields: dict[str, str], setuid: bool
) -> dict[str, object]:
    is_folder = isinstance(entry, FolderEntry)
    if isinstance(entry, FileEntry):
        found = core.decode(fields, entry.client_modified_ns, entry.content_hash)
    else:
        found = core.decode(fields, None, None)
    columns = _columns(core.NOTHING, _that_count(found, is_folder, setuid))
    if found.mtime_ns is not None:
        columns["mtime_ns"] = found.mtime_ns
        if is_folder:
            columns["mtime_set"] = 1
    return columns


def _columns(local: Attributes, wanted: Attributes) -> dict[str, object]:
    """The columns in which two states differ, but for times."""
    columns: dict[str, object] = {
        name: getattr(wanted, name)
        for name in ("mode", "uid", "gid", "link")
        if getattr(wanted, name) != getattr(local, name)
    }
    if wanted.xattrs != local.xattrs:
        columns["xattrs"] = core.pack_xattrs(wanted.xattrs)
    return columns


def _reported(entry: FileEntry | FolderEntry) -> dict[str, str] | None:
    symlink = entry.symlink if isinstance(entry, FileEntry) else None
    if entry.properties is None and symlink is None:
        return None
    fields = dict(entry.properties or {})
    return fields if symlink is None else fields | {core.SYMLINK_INFO: symlink}


def _fields(stored: str | None) -> dict[str, str]:
    if stored is None:
        return {}
    try:
        return msgspec.json.decode(stored, type=dict[str, str])
    except msgspec.MsgspecError:
        return {}
