"""files/list_folder, list_folder/continue and get_latest_cursor: the snapshot."""

from __future__ import annotations

import secrets
from collections import Counter

import pytest
from dropbox import Dropbox, file_properties, files
from dropbox.exceptions import ApiError, BadInputError

from tests.conformance.place import Place, Refusal, embedded_row, listed, table
from tests.conformance.service import Service, bad_call, refusal, tags


def _filter(template_id: str) -> file_properties.TemplateFilterBase:
    return file_properties.TemplateFilterBase.filter_some([template_id])


def test_a_folder_lists_its_children_only(place: Place) -> None:
    place.furnish()
    entries = {entry.name: entry for entry in place.entries()}
    assert entries.keys() == {"hello.txt", "folder"}
    assert entries["hello.txt"] == place.hello
    assert isinstance(entries["folder"], files.FolderMetadata)


def test_recursive_lists_everything_below(place: Place) -> None:
    assert place.furnish().names(recursive=True) == [
        "folder",
        "folder/deep",
        "folder/deep/leaf",
        "folder/inner.txt",
        "hello.txt",
    ]


def test_an_empty_folder_lists_nothing_and_has_a_cursor(place: Place) -> None:
    page = place.dbx.files_list_folder(place())
    assert (page.entries, page.has_more) == ([], False)
    assert page.cursor


def test_the_root_can_be_listed(dbx: Dropbox, scratch: str) -> None:
    entries, _ = listed(dbx, "")
    assert scratch in [entry.path_lower for entry in entries]


def test_the_root_is_not_a_slash(service: Service) -> None:
    bad_call(service.rpc("files/list_folder", {"path": "/"}))


def test_a_folder_may_be_named_by_id_and_namespace(place: Place) -> None:
    folder = place.furnish().dbx.files_get_metadata(place("folder"))
    home = place.dbx.users_get_current_account().root_info.home_namespace_id
    for path in (folder.id, f"ns:{home}{place('folder')}", place("FOLDER")):
        entries, _ = listed(place.dbx, path)
        assert sorted(entry.name for entry in entries) == ["deep", "inner.txt"]


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 7, 2000])
def test_pages_hold_about_the_limit_and_lose_nothing(
    place: Place, recursive: bool, limit: int
) -> None:
    names = sorted(f"{i:02d}" for i in range(15))
    for name in names:
        place.mkdir(name)
    page = place.dbx.files_list_folder(place(), recursive=recursive, limit=limit)
    seen: Counter[str] = Counter()
    pages = 0
    while True:
        pages += 1
        assert len(page.entries) <= limit + 5, "the limit is approximate, but not that much"
        seen.update(e.name for e in page.entries if e.path_lower != place().lower())
        if not page.has_more:
            break
        page = place.dbx.files_list_folder_continue(page.cursor)
    assert sorted(seen) == names
    assert set(seen.values()) == {1}
    assert pages > 1 or limit > 7


def test_deleted_entries_are_listed_when_asked(place: Place) -> None:
    place.furnish()
    place.dbx.files_delete_v2(place("hello.txt"))
    assert place.names() == ["folder"]
    entries = {entry.name: entry for entry in place.entries(include_deleted=True)}
    assert isinstance(entries["hello.txt"], files.DeletedMetadata)
    assert isinstance(entries["folder"], files.FolderMetadata)


def test_what_was_deleted_and_made_again_is_listed_once(place: Place) -> None:
    place.dbx.files_delete_v2(place.hello.path_lower)
    place.write("hello.txt", b"again")
    (entry,) = place.entries(include_deleted=True)
    assert isinstance(entry, files.FileMetadata)


@pytest.mark.parametrize("limit", [0, 2001, -1, "many"])
def test_a_limit_out_of_range_is_a_malformed_call(service: Service, limit: object) -> None:
    bad_call(service.rpc("files/list_folder", {"path": "", "limit": limit}))


UNKNOWN = "ptid:AAAAAAAAAAAAAAAAAAAAAA"

ROWS: tuple[tuple[str, str, str, dict[str, object]], ...] = (
    ("nothing", "path/not_found", "nothing", {}),
    ("below-a-file", "path/not_found", "hello.txt/x", {}),
    ("file", "path/not_folder", "hello.txt", {}),
    ("malformed", "path/malformed_path", "a\\b", {}),
    (
        "template",
        "template_error/template_not_found",
        "folder",
        {"include_property_groups": _filter(UNKNOWN)},
    ),
)


@pytest.mark.parametrize("route", ["list_folder", "get_latest_cursor"])
@pytest.mark.parametrize(
    ("error", "name", "options"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_refusals(
    place: Place, route: str, error: str, name: str, options: dict[str, object]
) -> None:
    place.furnish()
    call = {
        "list_folder": place.dbx.files_list_folder,
        "get_latest_cursor": place.dbx.files_list_folder_get_latest_cursor,
    }[route]
    assert refusal(lambda: call(place(name), **options)) == error


def test_an_unknown_id_is_not_found(place: Place) -> None:
    unknown = "id:AAAAAAAAAAAAAAAAAAAAAA"
    assert refusal(lambda: place.dbx.files_list_folder(unknown)) == "path/not_found"


@table(
    embedded_row(
        "no-access",
        Refusal(
            "path",
            lambda place: place.dbx.files_list_folder(place.shared("s", "no_access")),
        ),
    ),
)
def test_refusals_in_shared_folders(row: Refusal, place: Place) -> None:
    row.check(place)


@pytest.mark.parametrize("route", ["continue", "longpoll"])
def test_what_is_no_cursor_is_refused(place: Place, route: str) -> None:
    """A cursor of no shape at all; a malformed call or one to be reset, both are documented."""
    call = {
        "continue": place.dbx.files_list_folder_continue,
        "longpoll": place.dbx.files_list_folder_longpoll,
    }[route]
    with pytest.raises((BadInputError, ApiError)) as caught:
        call(f"no-cursor-{secrets.token_hex(4)}")
    if isinstance(caught.value, ApiError):
        assert tags(caught.value.error) == "reset"


def test_sharing_is_described(place: Place) -> None:
    place.furnish()
    assert place.hello.sharing_info is None
    assert place.dbx.files_get_metadata(place("folder")).sharing_info is None


@pytest.mark.embedded
def test_a_read_only_shared_folder_says_so_in_listings(place: Place) -> None:
    place.shared("ro/outer")
    place.server.edit([{"op": "mkdir", "path": place("ro/outer/sub")}])
    (mount,) = place.entries("ro")
    shared_id = mount.sharing_info.shared_folder_id
    assert mount.sharing_info.read_only
    inside = {entry.name: entry for entry in place.entries("ro/outer")}
    assert inside.keys() == {"file", "sub"}
    for entry in inside.values():
        assert entry.sharing_info.read_only
        assert entry.sharing_info.parent_shared_folder_id == shared_id
    assert inside["sub"].sharing_info.shared_folder_id is None


@pytest.mark.embedded
def test_a_shared_folder_one_may_write_to_is_not_read_only(place: Place) -> None:
    path = place.shared("s", "editor")
    mount = place.dbx.files_get_metadata(path)
    assert not mount.sharing_info.read_only
    assert not mount.sharing_info.traverse_only
    assert place.dbx.files_upload(b"", f"{path}/new").sharing_info.read_only is False


@pytest.mark.embedded
@pytest.mark.parametrize("access", ["traverse_only", "no_access"])
def test_a_folder_that_cannot_be_read_says_why(place: Place, access: str) -> None:
    mount = place.dbx.files_get_metadata(place.shared("s", access))
    assert getattr(mount.sharing_info, access) is True
