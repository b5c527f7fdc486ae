"""The words that every layer shares: remote paths, revisions and what Dropbox says of an entry.

Remote paths and local paths must never be mixed, so a remote path is a type of its own; the same
goes for the identifiers, which are all strings on the wire. The entries are what the API layer
decodes and the store applies; they carry no behaviour beyond reading themselves.

`path_display` is right only in its last component (API reference, "Path formats"), therefore
an entry's place is its `key_path`, and only `name` is taken for showing.
"""

from __future__ import annotations

from typing import NewType

import msgspec

RemotePath = NewType("RemotePath", str)
"""A path as Dropbox writes it: "" for the root, else "/a/b"; or an "id:…" or "rev:…" reference."""

FileId = NewType("FileId", str)
"""The identity of a file or folder, "id:…"; survives moves."""

Rev = NewType("Rev", str)
"""The revision of a file's content and place; hexadecimal, changes with content and with moves."""

Cursor = NewType("Cursor", str)
"""A position in the change feed; opaque, survives restarts."""

ROOT = RemotePath("")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file as Dropbox describes it. Times are nanoseconds since the epoch, whole seconds."""

    id: FileId
    name: str
    path: RemotePath
    """`path_lower`: the place, in the server's own lower case."""
    rev: Rev
    size: int
    content_hash: str | None
    """64 hexadecimal digits; None where Dropbox gives none (some documents)."""
    client_modified_ns: int
    server_modified_ns: int
    downloadable: bool = True
    """False for online documents (Paper, Google Docs): their bytes exist only as an export."""
    export_as: str | None = None
    """The format of that ("markdown", "xlsx" …); None also where there is none."""
    read_only: bool = False
    properties: dict[str, str] | None = None
    """The fields of our own property group (core.attributes); None: it was not asked for."""
    symlink: str | None = None
    """The target, where Dropbox itself knows it as a symbolic link."""


class FolderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A folder as Dropbox describes it."""

    id: FileId
    name: str
    path: RemotePath
    read_only: bool = False
    properties: dict[str, str] | None = None


class DeletedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is no longer at `path`; everything below went with it."""

    name: str
    path: RemotePath


Entry = FileEntry | FolderEntry | DeletedEntry


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One reply of `list_folder` or `list_folder/continue`: entries in the order to apply them."""

    entries: list[Entry]
    cursor: Cursor
    has_more: bool


class PropertyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of one property template, as they are kept with a file or folder."""

    template: str
    """The template's id, "ptid:…"."""
    fields: dict[str, str]


class PropertyTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that a property group may have."""

    name: str
    fields: frozenset[str]


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """What `users/get_space_usage` allows, bytes."""

    used: int
    allocated: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whose Dropbox it is, and the namespaces that its root can mean."""

    account_id: str
    email: str
    display_name: str
    root_namespace: str
    home_namespace: str


def join(folder: RemotePath, name: str) -> RemotePath:
    """The path of `name` in `folder`."""
    return RemotePath(f"{folder}/{name}")
