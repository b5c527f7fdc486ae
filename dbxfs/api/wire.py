"""Between Dropbox's JSON and the shared model.

Replies are decoded by msgspec straight into flat structs with every field that matters here;
fields that are not listed are skipped without being built, which is what makes a page of 2000
entries cheap. One struct serves all kinds of metadata instead of a tagged union, because the
unions are open: an entry with an unknown tag is left out, not an error.

What goes out is plain ASCII: everything else, and DEL, is escaped as \\uXXXX. The header of the
content routes demands it, and in bodies it makes a name with a lone surrogate something that the
server can refuse rather than something that cannot be sent. Coming in, a lone surrogate becomes
"?", since neither the database nor the kernel could take it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from dbxfs.api.modes import Add, Overwrite, Update, WriteMode
from dbxfs.core.model import (
    Account,
    Cursor,
    DeletedEntry,
    Entry,
    FileEntry,
    FileId,
    FolderEntry,
    Page,
    PropertyGroup,
    PropertyTemplate,
    RemotePath,
    Rev,
    Space,
)

T = TypeVar("T")

Outcome = FileEntry | FolderEntry | dict[str, Any] | str
"""What became of one entry of a batch: its metadata, or the error's union."""

_SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_FIRST_SECOND = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


class Malformed(ValueError):  # noqa: N818
    """A reply that does not say what it should; the text tells what is wrong."""


# Shapes on the wire -----------------------------------------------------------------------------


class _Sharing(msgspec.Struct, gc=False):
    read_only: bool = False
    traverse_only: bool = False
    no_access: bool = False


class _ExportInfo(msgspec.Struct, gc=False):
    export_as: str | None = None


class _Field(msgspec.Struct, gc=False):
    name: str
    value: str = ""


class _Group(msgspec.Struct, gc=False):
    template_id: str
    fields: list[_Field] = []


class _Symlink(msgspec.Struct, gc=False):
    target: str


class _Metadata(msgspec.Struct, gc=False):
    name: str
    tag: str = msgspec.field(name=".tag", default="")
    id: str = ""
    path_lower: str | None = None
    rev: str = ""
    size: int = -1
    content_hash: str | None = None
    client_modified: datetime | None = None
    server_modified: datetime | None = None
    is_downloadable: bool = True
    export_info: _ExportInfo | None = None
    sharing_info: _Sharing | None = None
    symlink_info: _Symlink | None = None
    property_groups: list[_Group] | None = None


class _Wrapped(msgspec.Struct):
    metadata: _Metadata


class _Exported(msgspec.Struct):
    size: int
    export_hash: str | None = None


class _Export(msgspec.Struct):
    export_metadata: _Exported
    file_metadata: _Metadata


class _Page(msgspec.Struct):
    entries: list[_Metadata]
    cursor: str
    has_more: bool


class _Cursor(msgspec.Struct):
    cursor: str


class _Longpoll(msgspec.Struct):
    changes: bool
    backoff: float = 0.0


class _Name(msgspec.Struct):
    display_name: str


class _RootInfo(msgspec.Struct):
    root_namespace_id: str
    home_namespace_id: str


class _Account(msgspec.Struct):
    account_id: str
    email: str
    name: _Name
    root_info: _RootInfo


class _Allocation(msgspec.Struct):
    allocated: int
    used: int | None = None
    user_within_team_space_allocated: int = 0


class _Space(msgspec.Struct):
    used: int
    allocation: _Allocation


class _TemplateIds(msgspec.Struct):
    template_ids: list[str]


class _TemplateId(msgspec.Struct):
    template_id: str


class _Template(msgspec.Struct):
    name: str
    fields: list[_Field]


class _Session(msgspec.Struct):
    session_id: str


class _Sessions(msgspec.Struct):
    session_ids: list[str]


class _Batch(msgspec.Struct):
    tag: str = msgspec.field(name=".tag", default="complete")
    entries: list[msgspec.Raw] = []
    async_job_id: str = ""


class _Outcome(msgspec.Struct):
    tag: str = msgspec.field(name=".tag", default="")
    failure: Any = None
    metadata: _Metadata | None = None
    success: _Metadata | None = None


class Token(msgspec.Struct):
    """The reply of oauth2/token; `expires_in` in seconds. Its repr shows no secret."""

    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None
    account_id: str | None = None
    scope: str | None = None

    def __repr__(self) -> str:
        return f"Token(account_id={self.account_id!r}, expires_in={self.expires_in!r})"


class Longpoll(msgspec.Struct, frozen=True, kw_only=True):
    """What a longpoll brought: whether there are changes, and seconds to wait before the next."""

    changes: bool
    backoff: float


# Coming in --------------------------------------------------------------------------------------


def read(body: bytes, shape: type[T]) -> T:
    """`body` as `shape`. Raises Malformed."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        mended = _mended(body)
        if mended is None:
            raise Malformed(f"{error}") from error
    try:
        return msgspec.json.decode(mended, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"{error}") from error


def plain(body: bytes) -> Any:
    """`body` as lists, dicts and scalars. Raises Malformed."""
    document: Any = read(body, Any)
    return document


def _mended(body: bytes) -> bytes | None:
    """The same document without lone surrogates; None if that was not what is wrong with it."""
    if b"\\u" not in body:
        return None
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None


def file_entry(body: bytes) -> FileEntry:
    """A reply that is one file's metadata (upload, finish, download's header)."""
    return _file(read(body, _Metadata))


def export(body: bytes) -> tuple[FileEntry, int, str | None]:
    """The header of an export: the document, and the size and content hash of what comes."""
    raw = read(body, _Export)
    if raw.export_metadata.size < 0:
        raise Malformed("an export of a negative size")
    return _file(raw.file_metadata), raw.export_metadata.size, raw.export_metadata.export_hash


def entry(body: bytes) -> FileEntry | FolderEntry:
    """A reply that is the metadata of a file or folder that exists (get_metadata)."""
    return _existing(read(body, _Metadata))


def wrapped_entry(body: bytes) -> FileEntry | FolderEntry:
    """A reply with the entry under "metadata" (delete_v2, move_v2, copy_v2)."""
    return _existing(read(body, _Wrapped).metadata)


def wrapped_folder(body: bytes) -> FolderEntry:
    """A reply with a folder under "metadata" (create_folder_v2)."""
    raw = read(body, _Wrapped).metadata
    return _folder(raw, _place(raw))


def page(body: bytes, templates: Sequence[str] = ()) -> Page:
    """A reply of list_folder or list_folder/continue, in which these templates were asked for.

    An entry's properties are the fields of all their groups together; of a field that several
    have, the first template's. Without templates they are None.

    Left out are kinds not known yet and entries without a place in the tree (a shared folder that
    is not mounted has no `path_lower`).
    """
    raw = read(body, _Page)
    return Page(
        entries=list(_entries(raw.entries, templates)),
        cursor=Cursor(raw.cursor),
        has_more=raw.has_more,
    )


def cursor(body: bytes) -> Cursor:
    """A reply of list_folder/get_latest_cursor."""
    return Cursor(read(body, _Cursor).cursor)


def longpoll(body: bytes) -> Longpoll:
    """A reply of list_folder/longpoll."""
    raw = read(body, _Longpoll)
    return Longpoll(changes=raw.changes, backoff=max(0.0, raw.backoff))


def account(body: bytes) -> Account:
    """A reply of users/get_current_account."""
    raw = read(body, _Account)
    return Account(
        account_id=raw.account_id,
        email=raw.email,
        display_name=raw.name.display_name,
        root_namespace=raw.root_info.root_namespace_id,
        home_namespace=raw.root_info.home_namespace_id,
    )


def space(body: bytes) -> Space:
    """A reply of users/get_space_usage.

    A team's space is shared, so what counts is what the team has used; a member with a limit of
    their own is held by whichever leaves less.
    """
    raw = read(body, _Space)
    share = raw.allocation
    if share.used is None:
        return Space(used=raw.used, allocated=share.allocated)
    limit = share.user_within_team_space_allocated
    if limit and limit - raw.used < share.allocated - share.used:
        return Space(used=raw.used, allocated=limit)
    return Space(used=share.used, allocated=share.allocated)


def session(body: bytes) -> str:
    """A reply of upload_session/start."""
    return read(body, _Session).session_id


def sessions(body: bytes) -> list[str]:
    """A reply of upload_session/start_batch."""
    return read(body, _Sessions).session_ids


def batch(body: bytes) -> list[Outcome] | str | None:
    """A reply of a batch or of its check: the outcomes; the job to ask for; None: still at work.

    The entry's metadata stands under "metadata" or "success", or has the tag among its own fields.
    """
    raw = read(body, _Batch)
    if raw.tag == "async_job_id":
        return raw.async_job_id
    if raw.tag == "in_progress":
        return None
    if raw.tag != "complete":
        raise Malformed(f"a batch that is {raw.tag!r}")
    return [_outcome(bytes(entry)) for entry in raw.entries]


def _outcome(body: bytes) -> Outcome:
    raw = read(body, _Outcome)
    if raw.tag == "failure":
        return raw.failure if isinstance(raw.failure, dict | str) else {".tag": "other"}
    if raw.tag != "success":
        raise Malformed(f"an entry of a batch that is {raw.tag!r}")
    found = raw.metadata or raw.success
    if found is None:
        return _file(read(body, _Metadata))
    if not found.tag:
        return _file(found) if found.rev else _folder(found, _place(found))
    return _existing(found)


def failures(body: bytes) -> list[dict[str, Any] | str | None]:
    """A reply of upload_session/append_batch: why each part was refused; None: it was taken."""
    outcomes = [read(bytes(entry), _Outcome) for entry in read(body, _Batch).entries]
    return [
        None if outcome.tag == "success" else outcome.failure or {".tag": "other"}
        for outcome in outcomes
    ]


def nothing(body: bytes) -> None:
    """A reply that says nothing: empty, null, or an object whose fields do not matter."""
    if body.strip():
        plain(body)


def template_ids(body: bytes) -> list[str]:
    """A reply of templates/list_for_user."""
    return read(body, _TemplateIds).template_ids


def template_id(body: bytes) -> str:
    """A reply of templates/add_for_user."""
    return read(body, _TemplateId).template_id


def template(body: bytes) -> PropertyTemplate:
    """A reply of templates/get_for_user."""
    raw = read(body, _Template)
    return PropertyTemplate(name=raw.name, fields=frozenset(field.name for field in raw.fields))


def _entries(raws: Iterable[_Metadata], templates: Sequence[str]) -> Iterable[Entry]:
    for raw in raws:
        if raw.path_lower is not None:
            made = _entry(raw, RemotePath(raw.path_lower))
            if templates and made is not None and not isinstance(made, DeletedEntry):
                made = msgspec.structs.replace(made, properties=_properties(raw, templates))
            if made is not None:
                yield made


def _entry(raw: _Metadata, path: RemotePath) -> Entry | None:
    if raw.tag == "file":
        return _file(raw)
    if raw.tag == "folder":
        return _folder(raw, path)
    if raw.tag == "deleted":
        return DeletedEntry(name=raw.name, path=path)
    return None


def _properties(raw: _Metadata, templates: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    groups = raw.property_groups or []
    for wanted in reversed(templates):
        for group in groups:
            if group.template_id == wanted:
                found |= {field.name: field.value for field in group.fields}
    return found


def _existing(raw: _Metadata) -> FileEntry | FolderEntry:
    made = _entry(raw, _place(raw))
    if made is None or isinstance(made, DeletedEntry):
        raise Malformed(f"metadata of the unknown kind {raw.tag!r}")
    return made


def _place(raw: _Metadata) -> RemotePath:
    """Where it is; by its id where Dropbox gives no place (not mounted in this tree)."""
    return RemotePath(raw.id if raw.path_lower is None else raw.path_lower)


def _file(raw: _Metadata) -> FileEntry:
    if not raw.id or not raw.rev or raw.size < 0:
        raise Malformed("a file without id, rev or size")
    if raw.client_modified is None or raw.server_modified is None:
        raise Malformed("a file without its times")
    sharing = raw.sharing_info
    return FileEntry(
        id=FileId(raw.id),
        name=raw.name,
        path=_place(raw),
        rev=Rev(raw.rev),
        size=raw.size,
        content_hash=raw.content_hash,
        client_modified_ns=_nanoseconds(raw.client_modified),
        server_modified_ns=_nanoseconds(raw.server_modified),
        downloadable=raw.is_downloadable,
        export_as=None if raw.export_info is None else raw.export_info.export_as,
        read_only=sharing is not None and sharing.read_only,
        symlink=None if raw.symlink_info is None else raw.symlink_info.target,
    )


def _folder(raw: _Metadata, path: RemotePath) -> FolderEntry:
    if not raw.id:
        raise Malformed("a folder without id")
    sharing = raw.sharing_info
    closed = sharing is not None and (
        sharing.read_only or sharing.traverse_only or sharing.no_access
    )
    return FolderEntry(id=FileId(raw.id), name=raw.name, path=path, read_only=closed)


def _nanoseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * _SECOND


# Going out --------------------------------------------------------------------------------------


def ascii_json(value: object) -> str:
    """JSON in printable ASCII only, fit for the Dropbox-API-Arg header."""
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def timestamp(ns: int) -> str:
    """Nanoseconds since the epoch as Dropbox writes times, cut to the second.

    What a four-digit year cannot say becomes the nearest that it can.
    """
    second = min(max(ns // _SECOND, _FIRST_SECOND), _LAST_SECOND)
    moment = _EPOCH + timedelta(seconds=second)
    return moment.replace(tzinfo=None).isoformat() + "Z"


def property_group(group: PropertyGroup) -> object:
    """A group as the API's PropertyGroup."""
    fields = [{"name": name, "value": value} for name, value in group.fields.items()]
    return {"template_id": group.template, "fields": fields}


def write_mode(mode: WriteMode) -> object:
    """A mode as the WriteMode union."""
    match mode:
        case Add():
            return {".tag": "add"}
        case Overwrite():
            return {".tag": "overwrite"}
        case Update(rev):
            return {".tag": "update", "update": rev}
