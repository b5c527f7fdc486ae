"""The last test: every error that the SDK's documentation states has been provoked in this run.

The error types are taken from the SDK itself, for every route that this suite is about, down to
the last tag; what the service answered meanwhile was written down by `service.PROVOKED`. What a
client cannot bring about is listed here with the reason. A newer SDK with more errors, or a test
that no longer provokes what it did, fails here.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from dropbox import file_properties, files, sharing, users
from stone.backends.python_rsrc import stone_base

from tests.conformance.service import PROVOKED, route_name

ROUTES = [
    users.features_get_values,
    files.list_folder,
    files.list_folder_continue,
    files.list_folder_get_latest_cursor,
    files.list_folder_longpoll,
    files.get_metadata,
    files.create_folder_v2,
    files.create_folder_batch_check,
    files.delete_v2,
    files.delete_batch_check,
    files.move_v2,
    files.copy_v2,
    files.move_batch_check_v2,
    files.copy_batch_check_v2,
    files.download,
    files.download_zip,
    files.export,
    files.get_temporary_link,
    files.upload,
    files.upload_session_start,
    files.upload_session_append_v2,
    files.upload_session_append_batch,
    files.upload_session_finish,
    files.list_revisions,
    files.restore,
    files.search_v2,
    file_properties.templates_add_for_user,
    file_properties.templates_get_for_user,
    file_properties.templates_list_for_user,
    file_properties.templates_update_for_user,
    file_properties.templates_remove_for_user,
    file_properties.properties_add,
    file_properties.properties_overwrite,
    file_properties.properties_update,
    file_properties.properties_remove,
    sharing.create_shared_link_with_settings,
    sharing.list_shared_links,
    sharing.revoke_shared_link,
]

ENTRIES: dict[str, Any] = {
    "create_folder_batch": files.CreateFolderEntryError,
    "delete_batch": files.DeleteError,
    "move_batch_v2": files.RelocationBatchErrorEntry,
    "copy_batch_v2": files.RelocationBatchErrorEntry,
    "upload_session/append_batch": files.UploadSessionAppendBatchEntryError,
    "upload_session/finish_batch_v2": files.UploadSessionFinishError,
}
"""What the entries of a batch can fail with, each by its own; told at once or by the check."""

NO_WAY = "no client can bring this about"
TEAMS = "is for an administrator's team, with team folders or templates"
ELSEWHERE = "this kind of lookup or write has no such case: the tag belongs to the shared type"

NOT_PROVOKED = {
    "* *other": "stands for tags to come",
    "* *internal_error": NO_WAY,
    "* *locked": "file locks are not part of the embedded server",
    "* *restricted_content": "is for content under legal restrictions",
    "* *unsupported_content_type": "is for content of another product",
    "* *encryption_not_supported": TEAMS,
    "* *team_folder*": TEAMS,
    "* *member_folder_insufficient_*": TEAMS,
    "* *access_restricted": TEAMS,
    "* *operation_suppressed": TEAMS,
    "* *unsupported_folder": TEAMS,
    "* *too_many_templates": TEAMS,
    "* *upload_traffic_limit_reached": "is for a monthly limit",
    "* *cant_transfer_ownership": TEAMS,
    "* *cant_move_into_*": "is for the Vault and the Family Room",
    "* *cant_move_shared_folder": "no other destination than a shared folder is named as bad",
    "* *too_many_write_operations": "comes as the reason of a 429 (test_commits)",
    "* too_many_shared_folder_targets": "deprecated",
    "restore in_progress": NO_WAY,
    "restore path_lookup/*": "the revision is looked up, not the path: invalid_revision",
    "restore path_write/conflict/file": "the revision replaces the file that is there",
    "search_v2 invalid_argument": "no argument is documented to be invalid so",
    "export retry_error": "an export is never late here",
    "download_zip too_large": "would take a folder of 20 GB",
    "delete*_batch* too_many_files": "no number is documented",
    "delete_v2 too_many_files": "no number is documented",
    "get_temporary_link not_allowed": NO_WAY,
    "* email_not_verified": NO_WAY,
    "create_shared_link_with_settings access_denied": NO_WAY,
    "create_shared_link_with_settings banned_member": NO_WAY,
    "create_shared_link_with_settings too_many_shared_folders": "no number is documented",
    "create_shared_link_with_settings settings_error/not_authorized": "is for basic accounts",
    "list_shared_links permission_denied": NO_WAY,
    "revoke_shared_link shared_link_access_denied": NO_WAY,
    "revoke_shared_link unsupported_*": "is for links of older kinds",
    "templates/add_for_user template_not_found": ELSEWHERE,
    "templates/list_for_user template_not_found": ELSEWHERE,
    "list_folder/continue path/malformed_path": ELSEWHERE,
    "get_metadata path/not_f[io]l*": ELSEWHERE,
    "search_v2 path/not_f[io]l*": ELSEWHERE,
    "properties/* path/not_f[io]l*": ELSEWHERE,
    "*shared_link* path/not_f[io]l*": ELSEWHERE,
    "list_folder* path/not_file": ELSEWHERE,
    "list_folder/continue path/not_folder": ELSEWHERE,
    "download_zip path/not_file": ELSEWHERE,
    "download path/not_folder": ELSEWHERE,
    "export path/not_folder": ELSEWHERE,
    "get_temporary_link path/not_folder": ELSEWHERE,
    "list_revisions path/not_folder": ELSEWHERE,
    "delete_* path_lookup/not_f[io]l*": ELSEWHERE,
    "* *from_lookup/not_f[io]l*": ELSEWHERE,
    "* *properties_error/path/*": ELSEWHERE,
    "create_folder* path/insufficient_space": "a folder takes no space",
    "* *from_write/[!n]*": ELSEWHERE,
    "copy_* *from_write/*": ELSEWHERE,
    "* to/insufficient_space": "is insufficient_quota",
    "* relocation_error/to/insufficient_space": "is insufficient_quota",
    "move_* *insufficient_quota": "a move takes no space",
    "move_* *cant_copy_shared_folder": ELSEWHERE,
    "copy_* *cant_nest_shared_folder": ELSEWHERE,
    "copy_* *cant_move_folder_into_itself": "is duplicated_or_nested_paths",
    "move_v2 duplicated_or_nested_paths": "a move onto itself is a conflict, a batch has them",
    "delete_* path_write/[!n]*": ELSEWHERE,
    "upload_session/finish lookup_failed/not_closed": "is the batch's",
    "upload_session/finish* lookup_failed/concurrent_*": "is the append's",
    "upload_session/finish* lookup_failed/payload_too_large": "is told without lookup_failed",
    "upload_session/finish* lookup_failed/too_large": "is the append's",
    "upload_session/finish_batch_v2 payload_too_large": "a batch has no bytes",
    "upload_session/finish_batch_v2 content_hash_mismatch": "a batch has no bytes",
    "upload_session/finish_batch_v2 concurrent_session_data_not_allowed": "a batch has no bytes",
}
"""Route and tags, as patterns, and why no test provokes them."""


def _leaves(kind: Any) -> Iterator[str]:
    """All tags of an error union, outermost first."""
    for cls in kind.__mro__:
        for tag, validator in getattr(cls, "_tagmap", {}).items():
            below = getattr(validator, "definition", None)
            if below is files.UploadWriteFailed:
                below = files.WriteError
            if isinstance(below, type) and issubclass(below, stone_base.Union):
                yield from (f"{tag}/{leaf}" for leaf in _leaves(below))
            else:
                yield str(tag)


def _documented() -> Iterator[str]:
    """Route and tags of every documented error."""
    for route in ROUTES:
        kind = getattr(route.error_type, "definition", None)
        if kind is not None:
            yield from (f"{route_name(route)} {leaf}" for leaf in _leaves(kind))
    for name, kind in ENTRIES.items():
        yield from (f"{name} {leaf}" for leaf in _leaves(kind))


def _without_check(route: str) -> str:
    """The batch that a check route belongs to, "move_batch_v2" for "move_batch/check_v2"."""
    return route.replace("/check", "")


@pytest.mark.last
@pytest.mark.embedded
def test_every_documented_error_was_provoked(request: pytest.FixtureRequest) -> None:
    modules = {Path(item.path) for item in request.session.items}
    options = request.config.option
    if (
        modules < set(Path(__file__).parent.glob("test_*.py"))
        or options.keyword
        or options.deselect
    ):
        pytest.skip("only the whole suite provokes them all")
    if any("::" in arg for arg in request.config.args):
        pytest.skip("only the whole suite provokes them all")
    provoked = {f"{route} {error}" for route, error in PROVOKED}
    provoked |= {f"{_without_check(route)} {error}" for route, error in PROVOKED}
    documented = set(_documented())
    stale = [p for p in NOT_PROVOKED if not any(fnmatchcase(e, p) for e in documented)]
    assert stale == []
    missing = [
        error
        for error in sorted(documented)
        if not any(f"{known}/".startswith(f"{error}/") for known in provoked)
        and not any(fnmatchcase(error, pattern) for pattern in NOT_PROVOKED)
    ]
    assert missing == []
