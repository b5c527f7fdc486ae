"""list_folder/continue as a feed: what a program that keeps a local copy relies on."""

from __future__ import annotations

import contextlib
import random

import pytest
from dropbox import file_properties, files
from dropbox.exceptions import ApiError

from tests.conformance.mirror import Mirror, describe
from tests.conformance.place import Place, changes, listed
from tests.conformance.service import refusal, tags


def _followed(place: Place, **options: object) -> tuple[Mirror, str]:
    mirror = Mirror(place())
    entries, cursor = listed(place.dbx, place(), recursive=True, **options)
    mirror.apply(entries)
    return mirror, cursor


def _truth(place: Place) -> dict[str, tuple[str, str, str]]:
    return {entry.path_lower: describe(entry) for entry in place.entries(recursive=True)}


def test_nothing_changed_is_an_empty_page(place: Place) -> None:
    _, cursor = _followed(place.furnish())
    page = place.dbx.files_list_folder_continue(cursor)
    assert (page.entries, page.has_more) == ([], False)


def test_a_new_file_is_reported_once(place: Place) -> None:
    _, cursor = _followed(place.furnish())
    new = place.write("folder/new", b"new")
    entries, cursor = changes(place.dbx, cursor)
    assert [e for e in entries if isinstance(e, files.FileMetadata)] == [new]
    assert changes(place.dbx, cursor)[0] == []


def test_a_changed_file_is_reported_with_its_new_revision(place: Place) -> None:
    _, cursor = _followed(place.furnish())
    new = place.write("hello.txt", b"changed")
    assert changes(place.dbx, cursor)[0] == [new]
    assert new.id == place.hello.id


def test_a_cursor_may_be_used_again(place: Place) -> None:
    _, cursor = _followed(place.furnish())
    new = place.write("new")
    assert changes(place.dbx, cursor)[0] == changes(place.dbx, cursor)[0] == [new]


def test_a_deleted_folder_covers_what_was_below_it(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    place.dbx.files_delete_v2(place("folder"))
    entries, _ = changes(place.dbx, cursor)
    assert [(type(e), e.path_lower) for e in entries] == [
        (files.DeletedMetadata, place("folder").lower())
    ]
    mirror.apply(entries)
    assert mirror.content() == _truth(place)


def test_a_move_is_a_deletion_and_additions_with_the_same_ids(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    ids = {name: entry_id for name, entry_id, _ in mirror.content().values()}
    place.dbx.files_move_v2(place("folder"), place("moved"))
    entries, _ = changes(place.dbx, cursor)
    gone = [e.path_lower for e in entries if isinstance(e, files.DeletedMetadata)]
    came = {e.name: e.id for e in entries if not isinstance(e, files.DeletedMetadata)}
    assert gone == [place("folder").lower()]
    assert came == {
        "moved": ids["folder"],
        "inner.txt": ids["inner.txt"],
        "deep": ids["deep"],
        "leaf": ids["leaf"],
    }
    mirror.apply(entries)
    assert mirror.content() == _truth(place)


def test_a_file_in_place_of_a_folder_replaces_it(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    place.dbx.files_delete_v2(place("folder"))
    place.write("folder", b"now a file")
    mirror.apply(changes(place.dbx, cursor)[0])
    assert mirror.content() == _truth(place)
    assert place("folder/inner.txt").lower() not in mirror.entries


def test_a_folder_in_place_of_a_file_replaces_it(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    place.dbx.files_delete_v2(place("hello.txt"))
    place.write("hello.txt/inside", b"")
    mirror.apply(changes(place.dbx, cursor)[0])
    assert mirror.content() == _truth(place)


def test_a_name_made_again_in_other_case_is_reported_with_it(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    place.dbx.files_delete_v2(place("hello.txt"))
    place.write("HELLO.txt", b"")
    mirror.apply(changes(place.dbx, cursor)[0])
    assert mirror.content() == _truth(place)
    assert mirror.entries[place("hello.txt").lower()].name == "HELLO.txt"


def test_what_came_and_went_between_leaves_no_entry(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    place.write("brief", b"")
    place.dbx.files_delete_v2(place("brief"))
    mirror.apply(changes(place.dbx, cursor)[0])
    assert mirror.content() == _truth(place)


def test_a_listing_without_recursion_tells_of_children_only(place: Place) -> None:
    place.furnish()
    _, cursor = listed(place.dbx, place())
    place.write("folder/deep/new", b"")
    new = place.write("new", b"")
    place.dbx.files_delete_v2(place("hello.txt"))
    entries, _ = changes(place.dbx, cursor)
    assert {(type(e), e.path_lower) for e in entries} == {
        (files.FileMetadata, new.path_lower),
        (files.DeletedMetadata, place("hello.txt").lower()),
    }


def test_the_latest_cursor_tells_only_what_comes_after(place: Place) -> None:
    place.furnish()
    cursor = place.dbx.files_list_folder_get_latest_cursor(place(), recursive=True).cursor
    assert changes(place.dbx, cursor)[0] == []
    new = place.write("folder/new", b"")
    assert changes(place.dbx, cursor)[0] == [new]


def test_changes_beside_the_folder_are_not_told(place: Place) -> None:
    place.furnish()
    _, cursor = listed(place.dbx, place("folder"), recursive=True)
    place.write("beside", b"")
    assert changes(place.dbx, cursor)[0] == []


def test_changes_made_between_the_pages_are_told(place: Place) -> None:
    names = [f"{i:02d}" for i in range(10)]
    for name in names:
        place.write(name, b"old")
    mirror = Mirror(place())
    page = place.dbx.files_list_folder(place(), recursive=True, limit=2)
    mirror.apply(page.entries)
    place.write("00", b"changed")
    place.write("09", b"changed")
    place.dbx.files_delete_v2(place("01"))
    place.dbx.files_delete_v2(place("08"))
    place.dbx.files_move_v2(place("02"), place("later/02"))
    place.dbx.files_move_v2(place("07"), place("07b"))
    while page.has_more:
        page = place.dbx.files_list_folder_continue(page.cursor)
        mirror.apply(page.entries)
    mirror.apply(changes(place.dbx, page.cursor)[0])
    assert mirror.content() == _truth(place)


def test_changes_come_in_pages_of_about_the_limit(place: Place) -> None:
    mirror, cursor = _followed(place, limit=3)
    for i in range(10):
        place.write(f"{i}", b"")
    pages = 0
    while True:
        page = place.dbx.files_list_folder_continue(cursor)
        assert len(page.entries) <= 3 + 5
        mirror.apply(page.entries)
        cursor = page.cursor
        pages += 1
        if not page.has_more:
            break
    assert pages > 1
    assert mirror.content() == _truth(place)


def test_the_folder_itself_gone_is_told(place: Place) -> None:
    """Either as an entry, or because the path of the cursor is no more; both are documented."""
    place.furnish()
    _, cursor = listed(place.dbx, place("folder"), recursive=True)
    place.dbx.files_delete_v2(place("folder"))
    try:
        entries, _ = changes(place.dbx, cursor)
    except ApiError as error:
        told = [tags(error.error)]
    else:
        told = [e.path_lower for e in entries if isinstance(e, files.DeletedMetadata)]
    assert told in [["path/not_found"], [place("folder").lower()]]


def test_property_groups_come_with_the_feed_when_asked(place: Place) -> None:
    field = file_properties.PropertyFieldTemplate("mode", "", file_properties.PropertyType.string)
    dbx = place.dbx
    template = dbx.file_properties_templates_add_for_user("feed", "", [field]).template_id
    try:
        wanted = file_properties.TemplateFilterBase.filter_some([template])
        entries, cursor = listed(
            dbx, place.furnish()(), recursive=True, include_property_groups=wanted
        )
        assert all(not entry.property_groups for entry in entries)
        group = file_properties.PropertyGroup(
            template, [file_properties.PropertyField("mode", "0755")]
        )
        for name in ("hello.txt", "folder"):
            dbx.file_properties_properties_add(place(name), [group])
        told = {entry.name: entry for entry in changes(dbx, cursor)[0]}
        assert told["hello.txt"].property_groups == [group]
        assert told["folder"].property_groups == [group]
        listing = {e.name: e for e in place.entries(include_property_groups=wanted)}
        assert listing["hello.txt"].property_groups == [group]
        assert not place.dbx.files_get_metadata(place("hello.txt")).property_groups
    finally:
        dbx.file_properties_templates_remove_for_user(template)


def test_a_mirror_that_follows_many_random_changes_is_right(place: Place) -> None:
    """A tiny alphabet of names, so that they collide; pages small, so that they are cut."""
    rolls = random.Random(20110815)
    mirror, cursor = _followed(place, limit=3)
    for _ in range(40):
        for _ in range(rolls.randrange(1, 5)):
            _random_change(place, rolls)
        entries, cursor = changes(place.dbx, cursor)
        mirror.apply(entries)
        assert mirror.content() == _truth(place)


def _random_change(place: Place, rolls: random.Random) -> None:
    def somewhere() -> str:
        return place("/".join(rolls.choices("aAb", k=rolls.randrange(1, 4))))

    calls = {
        "write": lambda: place.dbx.files_upload(
            rolls.randbytes(2), somewhere(), mode=files.WriteMode.overwrite
        ),
        "mkdir": lambda: place.dbx.files_create_folder_v2(somewhere()),
        "delete": lambda: place.dbx.files_delete_v2(somewhere()),
        "move": lambda: place.dbx.files_move_v2(somewhere(), somewhere()),
        "copy": lambda: place.dbx.files_copy_v2(somewhere(), somewhere()),
    }
    with contextlib.suppress(ApiError):
        calls[rolls.choice(list(calls))]()


def test_a_reset_makes_every_cursor_start_again(private: Place) -> None:
    private.furnish()
    _, cursor = _followed(private)
    private.server.control("reset_cursors", {})
    assert refusal(lambda: private.dbx.files_list_folder_continue(cursor)) == "reset"
    assert refusal(lambda: private.dbx.files_list_folder_longpoll(cursor)) == "reset"
    mirror, cursor = _followed(private)
    assert mirror.content() == _truth(private)
    assert changes(private.dbx, cursor)[0] == []


@pytest.mark.embedded
def test_edits_made_elsewhere_are_told_like_any_other(place: Place) -> None:
    mirror, cursor = _followed(place.furnish())
    result = place.server.edit(
        [
            {"op": "write", "path": place("new/file"), "text": "new"},
            {"op": "write", "path": place("hello.txt"), "text": "overwritten"},
            {"op": "mkdir", "path": place("made")},
            {"op": "move", "from": place("folder"), "to": place("made/folder")},
            {"op": "delete", "path": place("made/folder/inner.txt")},
        ]
    )
    assert len(result) == 5
    mirror.apply(changes(place.dbx, cursor)[0])
    assert mirror.content() == _truth(place)
    assert place.read("new/file") == b"new"
    assert place.read("made/folder/deep/leaf") == b"leaf"
