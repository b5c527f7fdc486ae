"""files/create_folder_v2, create_folder_batch and its check."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dropbox import files

from tests.conformance.jobs import finished
from tests.conformance.place import Place, Refusal, embedded_row, table
from tests.conformance.service import Service, bad_call, refusal, tags


def test_a_folder_is_made_with_its_parents(place: Place) -> None:
    made = place.dbx.files_create_folder_v2(place("A/B/C")).metadata
    assert (made.name, made.path_lower) == ("C", place("a/b/c").lower())
    assert place.names(recursive=True) == ["A", "A/B", "A/B/C"]


def test_an_existing_folder_is_left_and_another_made_with_autorename(place: Place) -> None:
    first = place.mkdir("folder")
    second = place.dbx.files_create_folder_v2(place("folder"), autorename=True).metadata
    assert re.fullmatch(r"folder \(\d+\)", second.name)
    assert second.id != first.id


def _create(name: str) -> Any:
    return lambda place: place.dbx.files_create_folder_v2(place(name))


@table(
    ("folder-there", Refusal("path/conflict/folder", _create("folder"))),
    ("folder-there-in-other-case", Refusal("path/conflict/folder", _create("FOLDER"))),
    ("file-there", Refusal("path/conflict/file", _create("hello.txt"))),
    ("below-a-file", Refusal("path/conflict/file_ancestor", _create("hello.txt/x"))),
    ("far-below-a-file", Refusal("path/conflict/file_ancestor", _create("hello.txt/x/y"))),
    embedded_row(
        "read-only",
        Refusal(
            "path/no_write_permission",
            lambda place: place.dbx.files_create_folder_v2(place.shared("ro") + "/new"),
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


def _batch(place: Place, *names: str, **options: Any) -> list[files.CreateFolderBatchResultEntry]:
    launch = place.dbx.files_create_folder_batch([place(name) for name in names], **options)
    done = finished(launch, place.dbx.files_create_folder_batch_check)
    return list(done.entries)


@pytest.mark.embedded
def test_a_batch_makes_nothing_in_a_read_only_folder(place: Place) -> None:
    place.shared("ro")
    (entry,) = _batch(place, "ro/new")
    assert tags(entry.get_failure()) == "path/no_write_permission"


@pytest.mark.parametrize("force_async", [False, True])
def test_a_batch_makes_its_folders_and_says_which_failed(place: Place, force_async: bool) -> None:
    place.furnish()
    names = ["one", "hello.txt", "two/three", "folder", "hello.txt/x", "thumbs.db", "bad "]
    entries = _batch(place, *names, force_async=force_async)
    said = [
        entry.get_success().metadata.name if entry.is_success() else tags(entry.get_failure())
        for entry in entries
    ]
    assert said == [
        "one",
        "path/conflict/file",
        "three",
        "path/conflict/folder",
        "path/conflict/file_ancestor",
        "path/disallowed_name",
        "path/malformed_path",
    ]
    assert {"one", "two/three"} <= set(place.names(recursive=True))


def test_a_forced_job_is_asynchronous(place: Place) -> None:
    launch = place.dbx.files_create_folder_batch([place("one")], force_async=True)
    assert launch.is_async_job_id()
    done = finished(launch, place.dbx.files_create_folder_batch_check)
    assert [entry.is_success() for entry in done.entries] == [True]


def test_a_path_named_twice_counts_once(place: Place) -> None:
    entries = _batch(place, "one", "two", "one")
    assert [entry.is_success() for entry in entries] == [True] * len(entries)
    assert place.names() == ["one", "two"]


def test_a_batch_renames_when_asked(place: Place) -> None:
    place.mkdir("one")
    entries = _batch(place, "one", "two", autorename=True)
    names = [entry.get_success().metadata.name for entry in entries]
    assert re.fullmatch(r"one \(\d+\)", names[0])
    assert names[1] == "two"


def test_a_large_batch_is_done_in_the_end(place: Place) -> None:
    names = [f"{i:04d}" for i in range(1000)]
    assert all(entry.is_success() for entry in _batch(place, *names))
    assert place.names() == names


def test_an_unknown_job_is_refused(place: Place) -> None:
    check = place.dbx.files_create_folder_batch_check
    assert refusal(lambda: check("no-such-job")) == "invalid_async_job_id"


def test_more_than_ten_thousand_paths_are_a_malformed_call(service: Service) -> None:
    paths = [f"/x/{i}" for i in range(10_001)]
    bad_call(service.rpc("files/create_folder_batch", {"paths": paths}))
