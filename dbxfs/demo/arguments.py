"""The arguments of the `files` and `users` calls, with their bounds and defaults.

Each struct is the one of the same name in the API reference. Fields that were replaced long ago
but are still taken (`include_media_info`, `allow_shared_folder`…) are kept, so that older clients
are not refused.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dbxfs.demo.wire import Choice, TemplateFilter, Timestamp, WriteMode

_TAIL = r"(/(.|[\r\n])*)"

Path = Annotated[str, Meta(pattern=rf"\A(?:{_TAIL}|(ns:[0-9]+{_TAIL}?))\Z")]
PathOrId = Annotated[str, Meta(pattern=rf"\A(?:{_TAIL}|(ns:[0-9]+{_TAIL}?)|(id:.*))\Z")]
ReadPath = Annotated[
    str, Meta(pattern=rf"\A(?:{_TAIL}|id:.*|(rev:[0-9a-f]{{9,}})|(ns:[0-9]+{_TAIL}?))\Z")
]
PathROrId = Annotated[str, Meta(pattern=rf"\A(?:{_TAIL}?|id:.*|(ns:[0-9]+{_TAIL}?))\Z")]
Rev = Annotated[str, Meta(pattern=r"\A[0-9a-f]{9,}\Z")]
ContentHash = Annotated[str, Meta(min_length=64, max_length=64)]
Id = Annotated[str, Meta(min_length=1)]
Offset = Annotated[int, Meta(ge=0)]


class Argument(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Any argument: unknown fields are refused."""


# users


class Echo(Argument):
    query: Annotated[str, Meta(max_length=500)] = ""


class UserFeature(Choice):
    tags = frozenset(
        {"paper_as_files", "file_locking", "team_shared_dropbox", "distinct_member_home"}
    )


class FeaturesGetValues(Argument):
    features: list[UserFeature]


AccountId = Annotated[str, Meta(min_length=40, max_length=40)]


class GetAccount(Argument):
    account_id: AccountId


class GetAccountBatch(Argument):
    account_ids: Annotated[list[AccountId], Meta(min_length=1)]


# reading


class GetMetadata(Argument):
    path: ReadPath
    include_media_info: bool = False
    include_deleted: bool = False
    include_has_explicit_shared_members: bool = False
    include_property_groups: TemplateFilter | None = None


class SharedLink(Argument):
    url: str
    password: str | None = None


class ListFolder(Argument):
    path: PathROrId
    recursive: bool = False
    include_media_info: bool = False
    include_deleted: bool = False
    include_has_explicit_shared_members: bool = False
    include_mounted_folders: bool = True
    limit: Annotated[int, Meta(ge=1, le=2000)] | None = None
    shared_link: SharedLink | None = None
    include_property_groups: TemplateFilter | None = None
    include_non_downloadable_files: bool = True
    include_restorable_info: bool = False


class Continue(Argument):
    cursor: Annotated[str, Meta(min_length=1)]


class Longpoll(Argument):
    cursor: Annotated[str, Meta(min_length=1)]
    timeout: Annotated[int, Meta(ge=30, le=480)] = 30


class Download(Argument):
    path: ReadPath
    rev: Rev | None = None


class OnlyReadPath(Argument):
    """download_zip, get_temporary_link."""

    path: ReadPath


class Export(Argument):
    path: ReadPath
    export_format: str | None = None


class RevisionsMode(Choice):
    tags = frozenset({"path", "id"})


class ListRevisions(Argument):
    path: Annotated[str, Meta(pattern=rf"\A(?:/(.|[\r\n])*|id:.*|(ns:[0-9]+{_TAIL}?))\Z")]
    mode: RevisionsMode = RevisionsMode("path")
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    before_rev: Rev | None = None
    include_restorable_info: bool = False


class SearchOrder(Choice):
    tags = frozenset({"relevance", "last_modified_time"})


class FileStatus(Choice):
    tags = frozenset({"active", "deleted"})


class FileCategory(Choice):
    tags = frozenset(
        {
            "image",
            "document",
            "pdf",
            "spreadsheet",
            "presentation",
            "audio",
            "video",
            "folder",
            "paper",
            "others",
        }
    )


class SearchOptions(Argument):
    path: PathROrId | None = None
    max_results: Annotated[int, Meta(ge=1, le=1000)] = 100
    order_by: SearchOrder | None = None
    file_status: FileStatus = FileStatus("active")
    filename_only: bool = False
    file_extensions: list[str] | None = None
    file_categories: list[FileCategory] | None = None
    account_id: AccountId | None = None


class MatchFieldOptions(Argument):
    include_highlights: bool = False


class Search(Argument):
    query: Annotated[str, Meta(max_length=1000)]
    options: SearchOptions | None = None
    match_field_options: MatchFieldOptions | None = None
    include_highlights: bool | None = None


# changing


class CreateFolder(Argument):
    path: Path
    autorename: bool = False


class CreateFolderBatch(Argument):
    paths: Annotated[list[Path], Meta(max_length=10000)]
    autorename: bool = False
    force_async: bool = False


class Delete(Argument):
    path: PathOrId
    parent_rev: Rev | None = None


class DeleteBatch(Argument):
    entries: Annotated[list[Delete], Meta(max_length=1000)]


class Poll(Argument):
    async_job_id: Annotated[str, Meta(min_length=1)]


class RelocationPath(Argument):
    from_path: PathOrId
    to_path: PathOrId


class Relocation(RelocationPath):
    allow_shared_folder: bool = False
    autorename: bool = False
    allow_ownership_transfer: bool = False


class CopyBatch(Argument):
    entries: Annotated[list[RelocationPath], Meta(min_length=1, max_length=1000)]
    autorename: bool = False


class MoveBatch(CopyBatch):
    allow_ownership_transfer: bool = False


class Restore(Argument):
    path: Path
    rev: Rev


class PropertyField(Argument):
    name: str
    value: str


TemplateId = Annotated[str, Meta(min_length=1, pattern=r"\A(/|ptid:).*\Z")]


class PropertyGroup(Argument):
    template_id: TemplateId
    fields: list[PropertyField]


class CommitInfo(Argument):
    path: PathOrId
    mode: WriteMode = WriteMode()
    autorename: bool = False
    client_modified: Timestamp | None = None
    mute: bool = False
    property_groups: list[PropertyGroup] | None = None
    strict_conflict: bool = False


class Upload(CommitInfo):
    content_hash: ContentHash | None = None


class SessionType(Choice):
    tags = frozenset({"sequential", "concurrent"})


class SessionStart(Argument):
    close: bool = False
    session_type: SessionType | None = None
    content_hash: ContentHash | None = None


class SessionStartBatch(Argument):
    num_sessions: Annotated[int, Meta(ge=1, le=1000)]
    session_type: SessionType | None = None


class SessionCursor(Argument):
    session_id: str
    offset: Offset


class SessionAppend(Argument):
    cursor: SessionCursor
    close: bool = False
    content_hash: ContentHash | None = None


class SessionAppendBatchEntry(Argument):
    cursor: SessionCursor
    length: Offset
    close: bool = False


class SessionAppendBatch(Argument):
    entries: Annotated[list[SessionAppendBatchEntry], Meta(max_length=500)]
    content_hash: ContentHash | None = None


class SessionFinish(Argument):
    cursor: SessionCursor
    commit: CommitInfo
    content_hash: ContentHash | None = None


class SessionFinishBatch(Argument):
    entries: Annotated[list[SessionFinish], Meta(max_length=1000)]
