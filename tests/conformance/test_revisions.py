"""files/list_revisions and restore."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from dropbox import files

from tests.conformance.place import Place, Refusal, embedded_row, table
from tests.conformance.service import Service, bad_call, refusal

BY_ID = files.ListRevisionsMode.id


def _history(place: Place, count: int = 4) -> list[files.FileMetadata]:
    """A file that was written so often, newest first."""
    return [place.write("file", f"version {i}".encode()) for i in range(count)][::-1]


def _revs(result: files.ListRevisionsResult) -> list[str]:
    return [entry.rev for entry in result.entries]


def test_revisions_come_newest_first(place: Place) -> None:
    written = _history(place)
    result = place.dbx.files_list_revisions(place("FILE"))
    assert _revs(result) == [entry.rev for entry in written]
    assert not result.is_deleted
    assert result.server_deleted is None
    assert not result.has_more
    assert [entry.content_hash for entry in result.entries] == [e.content_hash for e in written]


def test_revisions_come_in_pages(place: Place) -> None:
    written = [entry.rev for entry in _history(place, 5)]
    first = place.dbx.files_list_revisions(place("file"), limit=2)
    assert (_revs(first), first.has_more) == (written[:2], True)
    second = place.dbx.files_list_revisions(place("file"), limit=2, before_rev=written[1])
    assert (_revs(second), second.has_more) == (written[2:4], True)
    third = place.dbx.files_list_revisions(place("file"), limit=2, before_rev=written[3])
    assert (_revs(third), third.has_more) == (written[4:], False)


def test_a_deleted_file_still_has_its_revisions(place: Place) -> None:
    written = _history(place, 2)
    place.dbx.files_delete_v2(place("file"))
    result = place.dbx.files_list_revisions(place("file"))
    assert result.is_deleted
    assert isinstance(result.server_deleted, datetime.datetime)
    assert _revs(result) == [entry.rev for entry in written]


def test_a_moved_file_has_its_revisions_by_id(place: Place) -> None:
    old = _history(place, 2)
    new = place.dbx.files_move_v2(place("file"), place("moved")).metadata
    by_id = place.dbx.files_list_revisions(place("moved"), mode=BY_ID)
    assert _revs(by_id)[0] == new.rev
    assert {entry.rev for entry in old} <= set(_revs(by_id))
    assert {entry.id for entry in by_id.entries} == {new.id}
    by_path = place.dbx.files_list_revisions(place("moved"))
    assert not {entry.rev for entry in old} & set(_revs(by_path))
    gone = place.dbx.files_list_revisions(place("file"))
    assert gone.is_deleted
    assert {entry.rev for entry in old} <= set(_revs(gone))


def test_a_path_keeps_the_revisions_of_every_file_that_was_there(place: Place) -> None:
    old = _history(place, 2)
    place.dbx.files_delete_v2(place("file"))
    new = place.write("file", b"another file")
    assert new.id != old[0].id
    result = place.dbx.files_list_revisions(place("file"))
    assert _revs(result) == [new.rev, *[entry.rev for entry in old]]
    assert _revs(place.dbx.files_list_revisions(new.id, mode=BY_ID)) == [new.rev]


def test_an_old_revision_is_restored_as_a_new_one(place: Place) -> None:
    new, old = _history(place, 2)
    restored = place.dbx.files_restore(place("file"), old.rev)
    assert restored.content_hash == old.content_hash
    assert restored.id == new.id
    assert place.read("file") == b"version 0"


def test_a_deleted_file_is_restored(place: Place) -> None:
    entry = place.hello
    place.dbx.files_delete_v2(entry.path_lower)
    restored = place.dbx.files_restore(entry.path_lower, entry.rev)
    assert restored.content_hash == entry.content_hash
    assert place.read("hello.txt") == b"hello"


def _list(name: str, **options: Any) -> Any:
    return lambda place: place.dbx.files_list_revisions(place(name), **options)


def _restore(name: str) -> Any:
    return lambda place: place.dbx.files_restore(place(name), place.hello.rev)


@table(
    ("list-nothing", Refusal("path/not_found", _list("nothing"))),
    ("list-folder", Refusal("path/not_file", _list("folder"))),
    ("list-malformed", Refusal("path/malformed_path", _list("a\\b"))),
    (
        "list-before-an-unknown-revision",
        Refusal("invalid_before_rev", _list("hello.txt", before_rev="0123456789abcdef")),
    ),
    (
        "list-by-id-before-a-revision",
        Refusal(
            "before_rev_not_supported",
            lambda place: place.dbx.files_list_revisions(
                place("hello.txt"), mode=BY_ID, before_rev=place.hello.rev
            ),
        ),
    ),
    (
        "restore-an-unknown-revision",
        Refusal(
            "invalid_revision",
            lambda place: place.dbx.files_restore(place("hello.txt"), "0123456789abcdef"),
        ),
    ),
    ("restore-onto-a-folder", Refusal("path_write/conflict/folder", _restore("folder"))),
    (
        "restore-below-a-file",
        Refusal("path_write/conflict/file_ancestor", _restore("folder/inner.txt/x")),
    ),
    embedded_row(
        "restore-read-only",
        Refusal(
            "path_write/no_write_permission",
            lambda place: place.dbx.files_restore(place.shared("ro") + "/new", place.hello.rev),
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


def test_a_restored_file_needs_space(place: Place, allowance: Callable[[int], None]) -> None:
    old = place.write("file", b"x" * 100)
    place.write("file", b"")
    allowance(50)
    error = refusal(lambda: place.dbx.files_restore(place("file"), old.rev))
    assert error == "path_write/insufficient_space"


@pytest.mark.parametrize("limit", [0, 101])
def test_a_limit_out_of_range_is_a_malformed_call(service: Service, limit: int) -> None:
    bad_call(service.rpc("files/list_revisions", {"path": "/x", "limit": limit}))
