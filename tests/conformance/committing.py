"""The same commit by each of the three routes that make one."""

from __future__ import annotations

from typing import Any

from dropbox import files
from dropbox.exceptions import ApiError

from tests.conformance.place import Place

WAYS = ["upload", "session", "batch"]


def commit_as(
    way: str, place: Place, data: bytes, name: str = "name.txt", **options: Any
) -> files.FileMetadata:
    """Saves `data` as `name`, with the options of a commit. Raises ApiError.

    `way` is "upload", "session" (start, finish) or "batch" (start closed, finish_batch_v2 of one);
    an entry that failed in the batch is raised like the error of `finish`.
    """
    dbx, path = place.dbx, place(name)
    if way == "upload":
        return dbx.files_upload(data, path, **options)
    session = dbx.files_upload_session_start(data, close=way == "batch").session_id
    cursor = files.UploadSessionCursor(session, len(data))
    commit = files.CommitInfo(path, **options)
    if way == "session":
        return dbx.files_upload_session_finish(b"", cursor, commit)
    arg = files.UploadSessionFinishArg(cursor, commit)
    (entry,) = dbx.files_upload_session_finish_batch_v2([arg]).entries
    if entry.is_failure():
        raise ApiError("", entry.get_failure(), None, None)
    return entry.get_success()
