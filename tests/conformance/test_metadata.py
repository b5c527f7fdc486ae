"""files/get_metadata, and what every description of a file or folder holds."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from dropbox import Dropbox, files
from dropbox.content_hash import content_hash

from tests.conformance.place import Place, Refusal, table
from tests.conformance.service import Service, bad_call, refusal

BLOCK = 4 << 20


def test_a_file_is_described_as_it_was_written(place: Place) -> None:
    written = place.write(
        "Dir/Name.TXT", b"abc", client_modified=datetime.datetime(2001, 2, 3, 4, 5, 6)
    )
    entry = place.dbx.files_get_metadata(place("dir/name.txt"))
    assert entry == written
    assert entry.name == "Name.TXT"
    assert entry.path_lower == place("Dir/Name.TXT").lower()
    assert entry.path_display.endswith("/Name.TXT")
    assert entry.size == 3
    assert entry.client_modified == datetime.datetime(2001, 2, 3, 4, 5, 6)
    assert entry.server_modified > datetime.datetime(2020, 1, 1)
    assert entry.server_modified.microsecond == 0
    assert entry.is_downloadable
    assert entry.content_hash == content_hash(b"abc")
    assert entry.id.startswith("id:")


def test_a_folder_is_described_by_name_and_id(place: Place) -> None:
    made = place.mkdir("Some Folder")
    entry = place.dbx.files_get_metadata(place("some folder"))
    assert isinstance(entry, files.FolderMetadata)
    assert (entry.name, entry.id) == ("Some Folder", made.id)
    assert entry.path_lower == place("some folder").lower()


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK], ids=lambda size: f"{size}-bytes"
)
def test_content_hash_is_the_hash_of_the_blocks_hashes(place: Place, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    digests = [hashlib.sha256(data[i : i + BLOCK]).digest() for i in range(0, size, BLOCK)]
    entry = place.write("file", data)
    assert entry.content_hash == hashlib.sha256(b"".join(digests)).hexdigest()
    assert entry.size == size


def test_the_same_entry_answers_to_path_id_and_revision(place: Place) -> None:
    entry = place.hello
    for path in (place("HELLO.txt"), entry.id, f"rev:{entry.rev}"):
        assert place.dbx.files_get_metadata(path) == entry


def test_an_id_leads_to_a_path_below_a_folder(place: Place) -> None:
    inner = place.inner
    folder = place.dbx.files_get_metadata(place("folder"))
    assert place.dbx.files_get_metadata(f"{folder.id}/inner.txt") == inner


def test_a_namespace_path_starts_at_the_namespace(place: Place) -> None:
    home = place.furnish().dbx.users_get_current_account().root_info.home_namespace_id
    assert place.dbx.files_get_metadata(f"ns:{home}{place.root}/hello.txt") == place.hello


def test_an_old_revision_is_still_described(place: Place) -> None:
    old = place.write("file", b"one")
    place.write("file", b"other")
    assert place.dbx.files_get_metadata(f"rev:{old.rev}").size == 3


def test_a_deleted_entry_is_described_as_deleted_when_asked(place: Place) -> None:
    place.dbx.files_delete_v2(place.furnish()("hello.txt"))
    entry = place.dbx.files_get_metadata(place("hello.txt"), include_deleted=True)
    assert isinstance(entry, files.DeletedMetadata)
    assert entry.name == "hello.txt"
    assert entry.path_lower == place("hello.txt")


@pytest.mark.parametrize("name", ["ÄÖÜ é", "日本語", "emoji 🎈", "a'b\"c", "x" * 255, "ΟΔΟΣ"])
def test_names_come_back_as_they_were_given(place: Place, name: str) -> None:
    place.write(name, b"x")
    for spelling in (name, name.upper(), name.lower()):
        assert place.dbx.files_get_metadata(place(spelling)).name == name
    assert place.names() == [name]


def test_the_root_is_not_described(service: Service) -> None:
    bad_call(service.rpc("files/get_metadata", {"path": ""}))


def test_names_that_differ_only_in_case_are_one(place: Place) -> None:
    place.write("One", b"1")
    error = refusal(lambda: place.dbx.files_upload(b"2", place("oNE")))
    assert error == "path/conflict/file"
    assert place.names() == ["One"]


def _get(name: str) -> Refusal:
    return Refusal("path/not_found", lambda place: place.dbx.files_get_metadata(place(name)))


@table(
    ("nothing", _get("nothing")),
    ("nothing-below-nothing", _get("nothing/below")),
    ("below-a-file", _get("hello.txt/below")),
    (
        "unknown-id",
        Refusal(
            "path/not_found",
            lambda place: place.dbx.files_get_metadata("id:AAAAAAAAAAAAAAAAAAAAAA"),
        ),
    ),
    (
        "unknown-revision",
        Refusal(
            "path/not_found", lambda place: place.dbx.files_get_metadata("rev:0123456789abcdef")
        ),
    ),
    (
        "never-there-though-deleted-are-asked-for",
        Refusal(
            "path/not_found",
            lambda place: place.dbx.files_get_metadata(place("nothing"), include_deleted=True),
        ),
    ),
    (
        "backslash",
        Refusal("path/malformed_path", lambda place: place.dbx.files_get_metadata(place("a\\b"))),
    ),
    (
        "too-long",
        Refusal(
            "path/malformed_path", lambda place: place.dbx.files_get_metadata(place("x" * 256))
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


def test_a_deleted_id_is_not_found(place: Place) -> None:
    entry = place.hello
    place.dbx.files_delete_v2(entry.id)
    assert refusal(lambda: place.dbx.files_get_metadata(entry.id)) == "path/not_found"


def test_a_folder_replaced_by_a_file_has_another_id(place: Place) -> None:
    folder = place.mkdir("x")
    place.dbx.files_delete_v2(place("x"))
    assert place.write("x", b"").id != folder.id


def test_reading_is_allowed_where_nothing_could_be_saved(place: Place, dbx: Dropbox) -> None:
    assert refusal(lambda: dbx.files_get_metadata(place("desktop.ini"))) == "path/not_found"
