"""files/search_v2 and search/continue_v2.

The real service indexes with a delay, so these tests ask until the answer is right.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import pytest
from dropbox import files

from tests.conformance.place import Place, Refusal, table
from tests.conformance.service import Service, bad_call

INDEXED_WITHIN = 60.0
"""Seconds within which the real service is expected to find what is new."""


def _found(place: Place, query: str, **options: Any) -> list[str]:
    """The names of all matches below the scratch folder, over all pages, sorted."""
    result = place.dbx.files_search_v2(query, files.SearchOptions(path=place(), **options))
    matches = list(result.matches)
    while result.has_more:
        result = place.dbx.files_search_continue_v2(result.cursor)
        matches += result.matches
    return sorted({match.metadata.get_metadata().name for match in matches})


def _finds(place: Place, expected: list[str], query: str, **options: Any) -> None:
    deadline = time.monotonic() + (INDEXED_WITHIN if place.service.server is None else 0)
    while (found := _found(place, query, **options)) != expected:
        assert time.monotonic() < deadline, f"found {found}, expected {expected}"
        time.sleep(1)  # the index of the real service can only be asked again


@pytest.fixture
def word() -> str:
    """A word that no other test uses."""
    return f"w{secrets.token_hex(6)}"


@pytest.fixture
def library(place: Place, word: str) -> Place:
    """Entries whose names hold the word, and some without it."""
    place.furnish()
    for name in (f"{word}.txt", f"a {word.upper()}.PNG", f"deep/{word} b.txt", f"{word}.xyz"):
        place.write(name, name.encode())
    place.mkdir(f"{word} folder")
    return place


def test_names_are_found_below_the_folder_in_any_case(library: Place, word: str) -> None:
    everything = sorted(
        [f"{word}.txt", f"a {word.upper()}.PNG", f"{word} b.txt", f"{word}.xyz", f"{word} folder"]
    )
    _finds(library, everything, word, filename_only=True)
    _finds(library, everything, word.upper(), filename_only=True)


def test_matches_are_found_page_by_page(library: Place, word: str) -> None:
    _finds(library, _found(library, word), word, max_results=2)
    options = files.SearchOptions(path=library(), max_results=2)
    page = library.dbx.files_search_v2(word, options)
    assert len(page.matches) <= 2


def test_what_matches_nothing_finds_nothing(library: Place) -> None:
    assert _found(library, f"no{secrets.token_hex(8)}", filename_only=True) == []


def test_extensions_narrow_the_search(library: Place, word: str) -> None:
    _finds(library, [f"{word} b.txt", f"{word}.txt"], word, file_extensions=["txt"])


def test_categories_narrow_the_search(library: Place, word: str) -> None:
    _finds(library, [f"a {word.upper()}.PNG"], word, file_categories=[files.FileCategory.image])
    _finds(library, [f"{word} folder"], word, file_categories=[files.FileCategory.folder])


@pytest.mark.embedded
def test_what_was_deleted_is_not_found(library: Place, word: str) -> None:
    for entry in library.entries():
        library.dbx.files_delete_v2(entry.path_lower)
    assert _found(library, word) == []


def test_a_match_is_described_in_full(library: Place, word: str) -> None:
    _finds(library, [f"{word}.xyz"], word, file_extensions=["xyz"])
    options = files.SearchOptions(path=library(), file_extensions=["xyz"])
    (match,) = library.dbx.files_search_v2(word, options).matches
    assert match.metadata.get_metadata() == library.dbx.files_get_metadata(library(f"{word}.xyz"))


@table(
    (
        "nowhere",
        Refusal(
            "path/not_found",
            lambda place: place.dbx.files_search_v2(
                "x", files.SearchOptions(path=place("nothing"))
            ),
        ),
    ),
    (
        "malformed",
        Refusal(
            "path/malformed_path",
            lambda place: place.dbx.files_search_v2("x", files.SearchOptions(path=place("a\\b"))),
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


@pytest.mark.parametrize(
    "arg",
    [
        {"query": "x" * 1001},
        {"query": "x", "options": {"max_results": 0}},
        {"query": "x", "options": {"max_results": 1001}},
        {},
    ],
    ids=["long-query", "no-results", "many-results", "no-query"],
)
def test_an_argument_out_of_range_is_a_malformed_call(
    service: Service, arg: dict[str, object]
) -> None:
    bad_call(service.rpc("files/search_v2", arg))
