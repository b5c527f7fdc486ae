"""files/move_batch_v2, copy_batch_v2 and their checks."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dropbox import files

from tests.conformance.jobs import finished
from tests.conformance.place import Place
from tests.conformance.service import Service, bad_call, refusal, tags

ROUTES = ["move", "copy"]


def _batch(place: Place, route: str, *pairs: tuple[str, str], **options: Any) -> list[Any]:
    entries = [files.RelocationPath(place(source), place(target)) for source, target in pairs]
    if route == "move":
        launch = place.dbx.files_move_batch_v2(entries, **options)
        return list(finished(launch, place.dbx.files_move_batch_check_v2).entries)
    launch = place.dbx.files_copy_batch_v2(entries, **options)
    return list(finished(launch, place.dbx.files_copy_batch_check_v2).entries)


def _said(entries: list[Any]) -> list[str]:
    return [
        entry.get_success().name if entry.is_success() else tags(entry.get_failure())
        for entry in entries
    ]


@pytest.mark.parametrize("route", ROUTES)
def test_a_batch_says_for_each_entry_what_came_of_it(place: Place, route: str) -> None:
    place.furnish()
    for name in ("one", "two"):
        place.write(name, name.encode())
    entries = _batch(
        place,
        route,
        ("one", "new/one"),
        ("nothing", "new/nothing"),
        ("hello.txt", "folder"),
        ("two", "thumbs.db"),
    )
    assert _said(entries) == [
        "one",
        "relocation_error/from_lookup/not_found",
        "relocation_error/to/conflict/folder",
        "relocation_error/to/disallowed_name",
    ]
    assert place.read("new/one") == b"one"
    assert ("one" in place.names()) == (route == "copy")


@pytest.mark.parametrize("route", ROUTES)
def test_a_batch_renames_when_asked(place: Place, route: str) -> None:
    place.furnish()
    (entry,) = _batch(place, route, ("hello.txt", "folder/inner.txt"), autorename=True)
    assert re.fullmatch(r"inner \(\d+\)\.txt", entry.get_success().name)
    assert place.read("folder/inner.txt") == b"inner"


def test_moved_entries_keep_their_ids(place: Place) -> None:
    place.furnish()
    entries = _batch(place, "move", ("hello.txt", "a"), ("folder/inner.txt", "b"))
    assert [entry.get_success().id for entry in entries] == [place.hello.id, place.inner.id]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "pairs",
    [
        [("hello.txt", "x"), ("folder/inner.txt", "x")],
        [("folder", "x"), ("folder/inner.txt", "y")],
        [("folder", "x"), ("hello.txt", "x/y")],
    ],
    ids=["same-target", "nested-sources", "nested-targets"],
)
def test_duplicated_and_nested_paths_are_refused(
    place: Place, route: str, pairs: list[tuple[str, str]]
) -> None:
    place.furnish()
    said = _said(_batch(place, route, *pairs))
    assert "relocation_error/duplicated_or_nested_paths" in said


def test_a_large_batch_is_done_in_the_end(place: Place) -> None:
    names = [f"{i:03d}" for i in range(300)]
    finished(
        place.dbx.files_create_folder_batch([place(f"from/{name}") for name in names]),
        place.dbx.files_create_folder_batch_check,
    )
    entries = _batch(place, "move", *[(f"from/{name}", f"to/{name}") for name in names])
    assert _said(entries) == names
    assert place.names("to") == names
    assert place.names("from") == []


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_job_is_refused(place: Place, route: str) -> None:
    check = {
        "move": place.dbx.files_move_batch_check_v2,
        "copy": place.dbx.files_copy_batch_check_v2,
    }[route]
    assert refusal(lambda: check("no-such-job")) == "invalid_async_job_id"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("count", [0, 1001])
def test_no_entry_or_over_a_thousand_are_a_malformed_call(
    service: Service, route: str, count: int
) -> None:
    entries = [{"from_path": f"/x/{i}", "to_path": f"/y/{i}"} for i in range(count)]
    bad_call(service.rpc(f"files/{route}_batch_v2", {"entries": entries}))
