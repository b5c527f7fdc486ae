"""sharing: create_shared_link_with_settings, list_shared_links, revoke_shared_link."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dropbox import sharing

from tests.conformance.place import Place, Refusal, table
from tests.conformance.service import refusal, refused, tags


@pytest.fixture
def library(place: Place) -> Iterator[Place]:
    """A furnished place whose links are revoked after the test."""
    yield place.furnish()
    for entry in place.entries(recursive=True):
        for link in _links(place, entry.path_lower):
            place.dbx.sharing_revoke_shared_link(link.url)


def _links(place: Place, path: str) -> list[sharing.SharedLinkMetadata]:
    return list(place.dbx.sharing_list_shared_links(path, direct_only=True).links)


def test_a_link_to_a_file_is_made_listed_and_revoked(library: Place) -> None:
    link = library.dbx.sharing_create_shared_link_with_settings(library("hello.txt"))
    assert isinstance(link, sharing.FileLinkMetadata)
    assert link.url.startswith("http")
    assert (link.id, link.name, link.rev) == (library.hello.id, "hello.txt", library.hello.rev)
    assert link.path_lower == library.hello.path_lower
    assert link.size == 5
    assert link.link_permissions.can_revoke
    assert [found.url for found in _links(library, library("hello.txt"))] == [link.url]
    library.dbx.sharing_revoke_shared_link(link.url)
    assert _links(library, library("hello.txt")) == []
    error = refusal(lambda: library.dbx.sharing_revoke_shared_link(link.url))
    assert error == "shared_link_not_found"


def test_a_link_to_a_folder_is_made(library: Place) -> None:
    link = library.dbx.sharing_create_shared_link_with_settings(library("folder"))
    assert isinstance(link, sharing.FolderLinkMetadata)
    assert link.path_lower == library("folder").lower()


def test_a_link_to_a_parent_also_leads_to_the_file(library: Place) -> None:
    link = library.dbx.sharing_create_shared_link_with_settings(library("folder"))
    path = library("folder/inner.txt")
    assert _links(library, path) == []
    leading = library.dbx.sharing_list_shared_links(path).links
    assert [found.url for found in leading] == [link.url]


def test_without_a_path_all_links_are_listed(library: Place) -> None:
    made = {
        library.dbx.sharing_create_shared_link_with_settings(library(name)).url
        for name in ("hello.txt", "folder")
    }
    result = library.dbx.sharing_list_shared_links()
    urls = {link.url for link in result.links}
    while result.has_more:
        result = library.dbx.sharing_list_shared_links(cursor=result.cursor)
        urls |= {link.url for link in result.links}
    assert made <= urls


def test_a_second_link_is_refused_and_the_first_one_told(library: Place) -> None:
    create = library.dbx.sharing_create_shared_link_with_settings
    link = create(library("hello.txt"))
    error = refused(lambda: create(library("HELLO.txt")))
    assert tags(error).startswith("shared_link_already_exists")
    told = error.get_shared_link_already_exists()
    assert told is None or told.get_metadata().url == link.url


@pytest.mark.embedded
def test_an_existing_link_is_told_in_full(library: Place) -> None:
    create = library.dbx.sharing_create_shared_link_with_settings
    link = create(library("hello.txt"))
    error = refused(lambda: create(library("hello.txt")))
    assert error.get_shared_link_already_exists().get_metadata() == link


def test_a_link_follows_a_move(library: Place) -> None:
    link = library.dbx.sharing_create_shared_link_with_settings(library("hello.txt"))
    library.dbx.files_move_v2(library("hello.txt"), library("folder/moved"))
    (found,) = _links(library, library("folder/moved"))
    assert (found.url, found.name) == (link.url, "moved")


@table(
    (
        "create-nothing",
        Refusal(
            "path/not_found",
            lambda place: place.dbx.sharing_create_shared_link_with_settings(place("nothing")),
        ),
    ),
    (
        "create-malformed",
        Refusal(
            "path/malformed_path",
            lambda place: place.dbx.sharing_create_shared_link_with_settings(place("a\\b")),
        ),
    ),
    (
        "create-with-a-password-that-is-not-given",
        Refusal(
            "settings_error",
            lambda place: place.dbx.sharing_create_shared_link_with_settings(
                place("hello.txt"), sharing.SharedLinkSettings(require_password=True)
            ),
        ),
    ),
    (
        "list-nothing",
        Refusal(
            "path/not_found",
            lambda place: place.dbx.sharing_list_shared_links(place("nothing")),
        ),
    ),
    (
        "list-malformed",
        Refusal(
            "path/malformed_path",
            lambda place: place.dbx.sharing_list_shared_links(place("a\\b")),
        ),
    ),
    (
        "list-by-no-cursor",
        Refusal("reset", lambda place: place.dbx.sharing_list_shared_links(cursor="no-cursor")),
    ),
    (
        "revoke-unknown",
        Refusal(
            "shared_link_not_found",
            lambda place: place.dbx.sharing_revoke_shared_link(
                "https://www.dropbox.com/scl/fi/aaaaaaaaaaaaaaaaaaaaa/x?rlkey=aaaaaaaaaaaaaaaaa"
            ),
        ),
    ),
    (
        "revoke-no-link",
        Refusal(
            "shared_link_malformed",
            lambda place: place.dbx.sharing_revoke_shared_link("no link at all"),
            or_else="shared_link_not_found",
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())
