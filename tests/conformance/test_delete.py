"""files/delete_v2, delete_batch and its check."""

from __future__ import annotations

from typing import Any

import pytest
from dropbox import files

from tests.conformance.jobs import finished
from tests.conformance.place import Place, Refusal, embedded_row, table
from tests.conformance.service import Service, bad_call, refusal, tags


def test_a_file_goes_and_is_described_once_more(place: Place) -> None:
    entry = place.furnish().hello
    assert place.dbx.files_delete_v2(place("HELLO.txt")).metadata == entry
    assert place.names() == ["folder"]


def test_a_folder_goes_with_all_below_it(place: Place) -> None:
    folder = place.furnish().dbx.files_get_metadata(place("folder"))
    assert place.dbx.files_delete_v2(place("folder")).metadata == folder
    assert place.names(recursive=True) == ["hello.txt"]


def test_an_entry_may_be_named_by_its_id(place: Place) -> None:
    place.furnish().dbx.files_delete_v2(place.inner.id)
    assert place.names("folder") == ["deep"]


def test_a_file_goes_when_its_revision_is_the_one_named(place: Place) -> None:
    place.dbx.files_delete_v2(place("hello.txt"), parent_rev=place.hello.rev)
    assert place.names() == []


def test_a_file_changed_since_stays(place: Place) -> None:
    old = place.hello
    place.write("hello.txt", b"newer")
    error = refusal(lambda: place.dbx.files_delete_v2(old.path_lower, parent_rev=old.rev))
    assert error.startswith("path_write/conflict")
    assert place.read("hello.txt") == b"newer"


def test_a_name_is_free_again_at_once(place: Place) -> None:
    place.dbx.files_delete_v2(place.hello.path_lower)
    place.mkdir("hello.txt")
    place.dbx.files_delete_v2(place("hello.txt"))
    assert place.write("hello.txt", b"again").id != place.hello.id


def _delete(name: str) -> Any:
    return lambda place: place.dbx.files_delete_v2(place(name))


@table(
    ("nothing", Refusal("path_lookup/not_found", _delete("nothing"))),
    ("below-a-file", Refusal("path_lookup/not_found", _delete("hello.txt/x"))),
    (
        "unknown-id",
        Refusal(
            "path_lookup/not_found",
            lambda place: place.dbx.files_delete_v2("id:AAAAAAAAAAAAAAAAAAAAAA"),
        ),
    ),
    ("malformed", Refusal("path_lookup/malformed_path", _delete("a\\b"))),
    embedded_row(
        "read-only",
        Refusal(
            "path_write/no_write_permission",
            lambda place: place.dbx.files_delete_v2(place.shared("ro") + "/file"),
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


def _batch(place: Place, *args: files.DeleteArg) -> list[files.DeleteBatchResultEntry]:
    launch = place.dbx.files_delete_batch(list(args))
    return list(finished(launch, place.dbx.files_delete_batch_check).entries)


def test_a_batch_deletes_in_order_and_says_which_failed(place: Place) -> None:
    place.furnish()
    entries = _batch(
        place,
        files.DeleteArg(place("hello.txt")),
        files.DeleteArg(place("nothing")),
        files.DeleteArg(place("folder/inner.txt"), parent_rev=place.inner.rev),
        files.DeleteArg(place("hello.txt")),
        files.DeleteArg(place("folder")),
    )
    said = [
        entry.get_success().metadata.name if entry.is_success() else tags(entry.get_failure())
        for entry in entries
    ]
    missing = "path_lookup/not_found"
    assert said == ["hello.txt", missing, "inner.txt", missing, "folder"]
    assert place.names() == []


@pytest.mark.embedded
def test_each_entry_of_a_batch_is_held_to_the_rules(place: Place) -> None:
    old = place.hello
    place.write("hello.txt", b"newer")
    entries = _batch(
        place,
        files.DeleteArg(place("a\\b")),
        files.DeleteArg(old.path_lower, parent_rev=old.rev),
        files.DeleteArg(place.shared("ro") + "/file"),
    )
    assert [tags(entry.get_failure()) for entry in entries] == [
        "path_lookup/malformed_path",
        "path_write/conflict/file",
        "path_write/no_write_permission",
    ]


def test_a_thousand_files_go_in_one_batch(place: Place) -> None:
    names = [place(f"{i:03d}") for i in range(1000)]
    launch = place.dbx.files_create_folder_batch(names)
    finished(launch, place.dbx.files_create_folder_batch_check)
    assert all(entry.is_success() for entry in _batch(place, *map(files.DeleteArg, names)))
    assert place.names() == []


def test_an_unknown_job_is_refused(place: Place) -> None:
    assert (
        refusal(lambda: place.dbx.files_delete_batch_check("no-such-job")) == "invalid_async_job_id"
    )


@pytest.mark.embedded
def test_a_finished_job_can_be_asked_for_again(place: Place) -> None:
    launch = place.dbx.files_delete_batch([files.DeleteArg(place.hello.path_lower)])
    if launch.is_complete():
        pytest.skip("this service answered the batch at once")
    first = finished(launch, place.dbx.files_delete_batch_check)
    assert finished(launch, place.dbx.files_delete_batch_check) == first


def test_more_than_a_thousand_entries_are_a_malformed_call(service: Service) -> None:
    entries = [{"path": f"/x/{i}"} for i in range(1001)]
    bad_call(service.rpc("files/delete_batch", {"entries": entries}))
