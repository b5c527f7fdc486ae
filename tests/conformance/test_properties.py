"""file_properties: templates of a user, and the properties that files and folders have by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from dropbox import Dropbox
from dropbox.file_properties import (
    PropertyField,
    PropertyFieldTemplate,
    PropertyGroup,
    PropertyGroupUpdate,
    PropertyType,
    TemplateFilterBase,
)

from tests.conformance.committing import WAYS, commit_as
from tests.conformance.place import Place
from tests.conformance.service import refusal

UNKNOWN = "ptid:AAAAAAAAAAAAAAAAAAAAAA"


def _field(name: str, description: str = "") -> PropertyFieldTemplate:
    return PropertyFieldTemplate(name, description, PropertyType.string)


def _group(template: str, **values: str) -> PropertyGroup:
    return PropertyGroup(template, [PropertyField(*item) for item in sorted(values.items())])


@dataclass
class Templates:
    """Makes templates, and removes them after the test."""

    dbx: Dropbox
    made: list[str]

    def __call__(self, *names: str, title: str = "conformance") -> str:
        fields = [_field(name, f"the {name}") for name in names]
        result = self.dbx.file_properties_templates_add_for_user(title, "a test", fields)
        self.made.append(result.template_id)
        return str(result.template_id)


@pytest.fixture
def templates(dbx: Dropbox) -> Iterator[Templates]:
    """Templates for one test."""
    templates = Templates(dbx, [])
    yield templates
    for template in templates.made:
        if template in dbx.file_properties_templates_list_for_user().template_ids:
            dbx.file_properties_templates_remove_for_user(template)


@pytest.fixture
def template(templates: Templates) -> str:
    """A template with the fields `mode` and `mtime`."""
    return templates("mode", "mtime")


def _properties(place: Place, path: str, template: str) -> dict[str, str] | None:
    """The values that an entry has by a template, None when it has no such group."""
    wanted = TemplateFilterBase.filter_some([template])
    entry = place.dbx.files_get_metadata(path, include_property_groups=wanted)
    for group in entry.property_groups or []:
        assert group.template_id == template
        return {field.name: field.value for field in group.fields}
    return None


def test_a_template_can_be_read_and_listed(dbx: Dropbox, template: str) -> None:
    got = dbx.file_properties_templates_get_for_user(template)
    assert (got.name, got.description) == ("conformance", "a test")
    assert [(field.name, field.description) for field in got.fields] == [
        ("mode", "the mode"),
        ("mtime", "the mtime"),
    ]
    assert all(field.type.is_string() for field in got.fields)
    assert template in dbx.file_properties_templates_list_for_user().template_ids


def test_a_template_can_be_given_more_fields_and_another_name(dbx: Dropbox, template: str) -> None:
    result = dbx.file_properties_templates_update_for_user(
        template, name="renamed", description="other", add_fields=[_field("xattr")]
    )
    assert result.template_id == template
    got = dbx.file_properties_templates_get_for_user(template)
    assert (got.name, got.description) == ("renamed", "other")
    assert [field.name for field in got.fields] == ["mode", "mtime", "xattr"]


def test_a_removed_template_takes_its_properties_along(place: Place, template: str) -> None:
    place.dbx.file_properties_properties_add(place.hello.id, [_group(template, mode="1")])
    place.dbx.file_properties_templates_remove_for_user(template)
    dbx = place.dbx
    get = dbx.file_properties_templates_get_for_user
    assert refusal(lambda: get(template)) == "template_not_found"
    assert template not in dbx.file_properties_templates_list_for_user().template_ids
    assert not dbx.files_get_metadata(place("hello.txt")).property_groups


@pytest.mark.parametrize("name", ["hello.txt", "folder"])
def test_properties_are_added_updated_overwritten_and_removed(
    place: Place, template: str, name: str
) -> None:
    dbx, path = place.furnish().dbx, place(name)
    assert _properties(place, path, template) is None
    dbx.file_properties_properties_add(path, [_group(template, mode="0755", mtime="7")])
    assert _properties(place, path, template) == {"mode": "0755", "mtime": "7"}
    dbx.file_properties_properties_update(
        path, [PropertyGroupUpdate(template, [PropertyField("mode", "0644")], None)]
    )
    assert _properties(place, path, template) == {"mode": "0644", "mtime": "7"}
    dbx.file_properties_properties_update(
        path, [PropertyGroupUpdate(template, None, ["mode", "never there"])]
    )
    assert _properties(place, path, template) == {"mtime": "7"}
    dbx.file_properties_properties_overwrite(path, [_group(template, mode="0600")])
    assert _properties(place, path, template) == {"mode": "0600"}
    dbx.file_properties_properties_remove(path, [template])
    assert _properties(place, path, template) is None


def test_overwriting_makes_the_group_where_there_was_none(place: Place, template: str) -> None:
    place.dbx.file_properties_properties_overwrite(place.hello.id, [_group(template, mode="1")])
    assert _properties(place, place("hello.txt"), template) == {"mode": "1"}


def test_properties_do_not_change_what_the_file_is(place: Place, template: str) -> None:
    old = place.hello
    place.dbx.file_properties_properties_add(old.id, [_group(template, mode="1")])
    new = place.dbx.files_get_metadata(old.id)
    assert (new.content_hash, new.size) == (old.content_hash, old.size)
    assert new.client_modified == old.client_modified


def test_properties_go_along_with_a_move_and_a_new_content(place: Place, template: str) -> None:
    place.dbx.file_properties_properties_add(place.hello.id, [_group(template, mode="1")])
    place.dbx.files_move_v2(place("hello.txt"), place("moved"))
    assert _properties(place, place("moved"), template) == {"mode": "1"}
    place.write("moved", b"new content")
    assert _properties(place, place("moved"), template) == {"mode": "1"}


@pytest.mark.parametrize("way", WAYS)
def test_properties_may_come_with_the_commit(place: Place, template: str, way: str) -> None:
    commit_as(way, place, b"", "file", property_groups=[_group(template, mode="1")])
    assert _properties(place, place("file"), template) == {"mode": "1"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("error", "groups"),
    [
        ("template_not_found", lambda _: [_group(UNKNOWN, mode="1")]),
        ("property_field_too_large", lambda template: [_group(template, mode="x" * 1025)]),
        ("does_not_fit_template", lambda template: [_group(template, other="1")]),
        ("duplicate_property_groups", lambda template: [_group(template, mode="1")] * 2),
    ],
    ids=["unknown-template", "too-large", "unknown-field", "group-twice"],
)
def test_a_file_with_bad_properties_is_there_without_them(
    place: Place, template: str, way: str, error: str, groups: Callable[[str], list[Any]]
) -> None:
    """As documented: the file "has uploaded without property groups", and the error is told."""
    options = {"property_groups": groups(template)}
    got = refusal(lambda: commit_as(way, place, b"data", "file", **options))
    assert got == f"properties_error/{error}"
    assert place.read("file") == b"data"
    assert _properties(place, place("file"), template) is None


def test_only_the_templates_asked_for_are_told(place: Place, templates: Templates) -> None:
    one, two = templates("a"), templates("b")
    place.dbx.file_properties_properties_add(place.hello.id, [_group(one, a="1")])
    assert _properties(place, place("hello.txt"), one) == {"a": "1"}
    assert _properties(place, place("hello.txt"), two) is None


def test_values_may_be_any_unicode(place: Place, template: str) -> None:
    value = "ÄÖ 日本 🎈\n\t\\\"'"
    place.dbx.file_properties_properties_add(place.hello.id, [_group(template, mode=value)])
    assert _properties(place, place("hello.txt"), template) == {"mode": value}


@pytest.mark.parametrize("value", ["x" * 1024, "ä" * 512])
def test_values_may_have_1024_bytes(place: Place, template: str, value: str) -> None:
    place.dbx.file_properties_properties_add(place.hello.id, [_group(template, mode=value)])
    assert _properties(place, place("hello.txt"), template) == {"mode": value}


Write = Callable[[Dropbox, str, list[Any]], object]

WRITES: dict[str, Write] = {
    "add": lambda dbx, path, groups: dbx.file_properties_properties_add(path, groups),
    "overwrite": lambda dbx, path, groups: dbx.file_properties_properties_overwrite(path, groups),
    "update": lambda dbx, path, groups: dbx.file_properties_properties_update(
        path, [PropertyGroupUpdate(group.template_id, group.fields) for group in groups]
    ),
}


@pytest.mark.parametrize("route", WRITES)
@pytest.mark.parametrize(
    ("error", "name", "groups"),
    [
        ("path/not_found", "nothing", lambda template: [_group(template, mode="1")]),
        ("path/malformed_path", "a\\b", lambda template: [_group(template, mode="1")]),
        ("template_not_found", "hello.txt", lambda _: [_group(UNKNOWN, mode="1")]),
        (
            "property_field_too_large",
            "hello.txt",
            lambda template: [_group(template, mode="x" * 1025)],
        ),
        (
            "property_field_too_large",
            "hello.txt",
            lambda template: [_group(template, mode="ä" * 513)],
        ),
        ("does_not_fit_template", "hello.txt", lambda template: [_group(template, other="1")]),
        (
            "duplicate_property_groups",
            "hello.txt",
            lambda template: [_group(template, mode="1"), _group(template, mtime="1")],
        ),
    ],
    ids=[
        "nothing",
        "malformed",
        "unknown-template",
        "too-large",
        "too-large-in-bytes",
        "unknown-field",
        "group-twice",
    ],
)
def test_refusals(
    place: Place,
    template: str,
    route: str,
    error: str,
    name: str,
    groups: Callable[[str], list[Any]],
) -> None:
    if route == "update":
        place.dbx.file_properties_properties_add(place.hello.id, [_group(template, mtime="0")])
    assert place.hello
    call = WRITES[route]
    assert refusal(lambda: call(place.dbx, place(name), groups(template))) == error


def test_a_group_is_added_only_once(place: Place, template: str) -> None:
    add = place.dbx.file_properties_properties_add
    add(place.hello.id, [_group(template, mode="1")])
    error = refusal(lambda: add(place.hello.id, [_group(template, mtime="1")]))
    assert error == "property_group_already_exists"
    assert _properties(place, place("hello.txt"), template) == {"mode": "1"}


def test_only_a_group_that_is_there_is_updated(place: Place, template: str) -> None:
    update = [PropertyGroupUpdate(template, [PropertyField("mode", "1")])]
    error = refusal(
        lambda: place.dbx.file_properties_properties_update(place.hello.path_lower, update)
    )
    assert error == "property_group_lookup/property_group_not_found"


@pytest.mark.parametrize(
    ("error", "name", "known"),
    [
        ("path/not_found", "nothing", True),
        ("path/malformed_path", "a\\b", True),
        ("template_not_found", "hello.txt", False),
        ("property_group_lookup/property_group_not_found", "hello.txt", True),
    ],
)
def test_refusals_of_remove(
    place: Place, template: str, error: str, name: str, known: bool
) -> None:
    assert place.hello
    asked = [template if known else UNKNOWN]
    remove = place.dbx.file_properties_properties_remove
    assert refusal(lambda: remove(place(name), asked)) == error


TEMPLATE_ERRORS: dict[str, tuple[str, str, str, list[PropertyFieldTemplate]]] = {
    "name": ("template_attribute_too_large", "x" * 257, "", []),
    "description": ("template_attribute_too_large", "x", "x" * 1025, []),
    "field-name": ("template_attribute_too_large", "x", "", [_field("x" * 257)]),
    "field-description": ("template_attribute_too_large", "x", "", [_field("x", "x" * 1025)]),
    "same-name-twice": ("conflicting_property_names", "x", "", [_field("a"), _field("a")]),
    "too-many-fields": (
        "too_many_properties",
        "x",
        "",
        [_field(f"{i}") for i in range(33)],
    ),
}


@pytest.mark.parametrize("case", TEMPLATE_ERRORS)
def test_refusals_of_templates(templates: Templates, case: str) -> None:
    error, name, description, fields = TEMPLATE_ERRORS[case]
    add = templates.dbx.file_properties_templates_add_for_user
    assert refusal(lambda: add(name, description, fields)) == error
    template = templates("known")
    update = templates.dbx.file_properties_templates_update_for_user
    assert refusal(lambda: update(template, name, description, fields)) == error
    got = templates.dbx.file_properties_templates_get_for_user(template)
    assert (got.name, [field.name for field in got.fields]) == ("conformance", ["known"])


def test_a_field_that_the_template_has_is_not_added_again(templates: Templates) -> None:
    template = templates("known")
    update = templates.dbx.file_properties_templates_update_for_user
    error = refusal(lambda: update(template, add_fields=[_field("known")]))
    assert error == "conflicting_property_names"


@pytest.mark.parametrize("route", ["get", "update", "remove"])
def test_an_unknown_template_is_not_found(dbx: Dropbox, route: str) -> None:
    call = getattr(dbx, f"file_properties_templates_{route}_for_user")
    assert refusal(lambda: call(UNKNOWN)) == "template_not_found"
