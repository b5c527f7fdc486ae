"""files/move_v2 and copy_v2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from dropbox import files
from dropbox.exceptions import ApiError

from tests.conformance.jobs import finished
from tests.conformance.place import Place
from tests.conformance.service import refusal

ROUTES = ["move", "copy"]


def relocate(place: Place, route: str, source: str, target: str, **options: Any) -> Any:
    """Moves or copies inside the scratch folder; returns the metadata of what came of it."""
    call = {"move": place.dbx.files_move_v2, "copy": place.dbx.files_copy_v2}[route]
    return call(place(source), place(target), **options).metadata


def relocate_in_batch(place: Place, route: str, source: str, target: str) -> Any:
    """The same as the only entry of a batch; its failure is raised like that of the single call."""
    entries = [files.RelocationPath(place(source), place(target))]
    call, check = {
        "move": (place.dbx.files_move_batch_v2, place.dbx.files_move_batch_check_v2),
        "copy": (place.dbx.files_copy_batch_v2, place.dbx.files_copy_batch_check_v2),
    }[route]
    (entry,) = finished(call(entries), check).entries
    if entry.is_failure():
        raise ApiError("", entry.get_failure().get_relocation_error(), None, None)
    return entry.get_success()


WAYS = {"single": relocate, "batch": relocate_in_batch}


def test_a_moved_file_keeps_id_and_content_and_gets_a_new_revision(place: Place) -> None:
    old = place.hello
    new = relocate(place, "move", "hello.txt", "Moved/Hello There.txt")
    assert (new.name, new.path_lower) == (
        "Hello There.txt",
        place("moved/hello there.txt").lower(),
    )
    assert (new.id, new.content_hash, new.size) == (old.id, old.content_hash, old.size)
    assert new.client_modified == old.client_modified
    assert new.rev != old.rev
    assert place.names(recursive=True) == ["Moved", "Moved/Hello There.txt"]


def test_a_moved_folder_takes_everything_along_with_its_ids(place: Place) -> None:
    place.furnish()
    before = {entry.name: entry.id for entry in place.entries("folder", recursive=True)}
    folder = place.dbx.files_get_metadata(place("folder"))
    assert relocate(place, "move", "folder", "elsewhere/F").id == folder.id
    after = {entry.name: entry.id for entry in place.entries("elsewhere/F", recursive=True)}
    assert after == before
    assert refusal(lambda: place.dbx.files_get_metadata(place("folder"))) == "path/not_found"
    assert place.read("elsewhere/F/deep/leaf") == b"leaf"


def test_a_copy_has_ids_of_its_own_and_the_same_content(place: Place) -> None:
    place.furnish()
    new = relocate(place, "copy", "folder", "Copy")
    assert isinstance(new, files.FolderMetadata)
    old = {entry.name: entry for entry in place.entries("folder", recursive=True)}
    copies = {entry.name: entry for entry in place.entries("Copy", recursive=True)}
    assert copies.keys() == old.keys() == {"inner.txt", "deep", "leaf"}
    for name, copy in copies.items():
        assert copy.id != old[name].id
    assert copies["leaf"].content_hash == old["leaf"].content_hash
    place.write("Copy/inner.txt", b"changed")
    assert place.read("folder/inner.txt") == b"inner"


def test_a_file_may_be_moved_by_its_id(place: Place) -> None:
    place.dbx.files_move_v2(place.hello.id, place("there"))
    assert place.names() == ["there"]


@pytest.mark.parametrize("route", ROUTES)
def test_autorename_finds_a_free_name(place: Place, route: str) -> None:
    place.furnish()
    place.write("other.txt", b"other")
    new = relocate(place, route, "hello.txt", "other.txt", autorename=True)
    assert re.fullmatch(r"other \(\d+\)\.txt", new.name)
    assert place.read("other.txt") == b"other"
    assert place.read(new.name) == b"hello"


def test_a_change_of_case_alone_is_not_supported(place: Place) -> None:
    assert place.hello
    error = refusal(lambda: relocate(place, "move", "hello.txt", "HELLO.txt"))
    assert error in {"to/conflict/file", "duplicated_or_nested_paths"}
    assert place.names() == ["hello.txt"]


def test_a_change_of_case_goes_by_way_of_another_name(place: Place) -> None:
    assert place.hello
    relocate(place, "move", "hello.txt", "between")
    assert relocate(place, "move", "between", "HELLO.txt").id == place.hello.id
    assert place.names() == ["HELLO.txt"]


@dataclass(frozen=True)
class Row:
    """A relocation on a furnished place and the error that is documented for it."""

    name: str
    error: str
    source: str
    target: str
    routes: tuple[str, ...] = ("move", "copy")
    or_else: str = ""
    """Another error that the documentation allows as well."""
    shared: tuple[tuple[str, str], ...] = ()
    """Shared folders to be made before, with the access to them; each holds a file "file"."""


READ_ONLY = (("s", "read_only"),)
TWO_SHARED = (("s", "editor"), ("t", "editor"))

ROWS = [
    Row("nothing", "from_lookup/not_found", "nothing", "x"),
    Row("below-a-file", "from_lookup/not_found", "hello.txt/x", "x"),
    Row("malformed", "from_lookup/malformed_path", "a\\b", "x"),
    Row("onto-a-file", "to/conflict/file", "folder/inner.txt", "hello.txt"),
    Row("folder-onto-a-file", "to/conflict/file", "folder", "HELLO.TXT"),
    Row("onto-a-folder", "to/conflict/folder", "hello.txt", "folder"),
    Row("onto-a-folder-in-other-case", "to/conflict/folder", "hello.txt", "folder/DEEP"),
    Row("to-below-a-file", "to/conflict/file_ancestor", "folder", "hello.txt/x"),
    Row("to-malformed", "to/malformed_path", "hello.txt", "x" * 256),
    Row("to-disallowed", "to/disallowed_name", "hello.txt", "thumbs.db"),
    Row("into-itself", "cant_move_folder_into_itself", "folder", "folder/deep/x", ("move",)),
    Row("into-itself-in-case", "cant_move_folder_into_itself", "folder", "FOLDER/x", ("move",)),
    Row(
        "copy-into-itself",
        "cant_move_folder_into_itself",
        "folder",
        "folder/x",
        ("copy",),
        or_else="duplicated_or_nested_paths",
    ),
    Row(
        "onto-itself",
        "duplicated_or_nested_paths",
        "hello.txt",
        "hello.txt",
        or_else="to/conflict/file",
    ),
    Row(
        "folder-onto-itself",
        "duplicated_or_nested_paths",
        "folder",
        "folder",
        ("move",),
        or_else="to/conflict/folder",
    ),
    Row(
        "out-of-a-read-only-folder",
        "from_write/no_write_permission",
        "s/file",
        "x",
        ("move",),
        shared=READ_ONLY,
    ),
    Row("into-a-read-only-folder", "to/no_write_permission", "hello.txt", "s/x", shared=READ_ONLY),
    Row(
        "copy-of-a-shared-folder",
        "cant_copy_shared_folder",
        "s",
        "x",
        ("copy",),
        shared=(("s", "editor"),),
    ),
    Row(
        "shared-folder-into-another",
        "cant_nest_shared_folder",
        "s",
        "t/x",
        ("move",),
        shared=TWO_SHARED,
    ),
]


def _rows() -> Iterator[Any]:
    for row in ROWS:
        marks = [pytest.mark.embedded] if row.shared else []
        for route in row.routes:
            yield pytest.param(row, route, id=f"{route}-{row.name}", marks=marks)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("row", "route"), list(_rows()))
def test_refusals(place: Place, row: Row, route: str, way: str) -> None:
    place.furnish()
    for name, access in row.shared:
        place.shared(name, access)
    before = place.names(recursive=True)
    error = refusal(lambda: WAYS[way](place, route, row.source, row.target))
    assert error in {row.error, row.or_else} - {""}
    assert place.names(recursive=True) == before


@pytest.mark.embedded
def test_a_folder_that_holds_a_shared_folder_does_not_go_into_another(place: Place) -> None:
    place.shared("outer/s", "editor")
    target = place.shared("t", "editor")
    error = refusal(lambda: place.dbx.files_move_v2(place("outer"), f"{target}/x"))
    assert error == "cant_nest_shared_folder"


@pytest.mark.embedded
def test_out_of_a_read_only_folder_a_copy_may_be_made(place: Place) -> None:
    source = place.shared("ro")
    assert place.dbx.files_copy_v2(f"{source}/file", place("copy")).metadata.name == "copy"


@pytest.mark.embedded
def test_a_shared_folder_itself_may_be_moved(place: Place) -> None:
    source = place.shared("s", "editor")
    moved = place.dbx.files_move_v2(source, place("moved")).metadata
    assert moved.sharing_info.shared_folder_id
    assert place.read("moved/file") == b"shared"


@pytest.mark.embedded
@pytest.mark.parametrize("route", ROUTES)
def test_ten_thousand_entries_are_the_most(place: Place, route: str) -> None:
    place.server.populate(place("most"), 1, 9_998, 1)
    place.server.populate(place("over"), 1, 10_000, 1)
    assert relocate(place, route, "most", "there").name == "there"
    for way in WAYS.values():
        error = refusal(lambda way=way: way(place, route, "over", "beyond"))  # type: ignore[misc]
        assert error == "too_many_files"
    assert "over" in place.names()


def test_a_copy_beyond_the_quota_is_refused(place: Place, allowance: Callable[[int], None]) -> None:
    place.write("half", b"x" * 600)
    allowance(400)
    for way in WAYS.values():
        error = refusal(lambda way=way: way(place, "copy", "half", "copy"))  # type: ignore[misc]
        assert error in {"insufficient_quota", "to/insufficient_space"}
    assert relocate(place, "move", "half", "moved").size == 600
