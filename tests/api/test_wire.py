"""JSON to the model and back: tolerant of what is new, strict about what is needed."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.api import wire
from dbxfs.api.modes import Add, Overwrite, Update
from dbxfs.core.model import DeletedEntry, FileEntry, FolderEntry, Rev
from tests.api.peer import DELETED, FILE, FOLDER


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def page_of(*entries: Any) -> bytes:
    return encoded({"entries": list(entries), "cursor": "c", "has_more": True})


def test_a_page_becomes_entries_in_order() -> None:
    page = wire.page(page_of(DELETED, FOLDER, FILE))
    assert page.cursor == "c"
    assert page.has_more is True
    deleted, folder, file = page.entries
    assert deleted == DeletedEntry(name="gone", path="/gone")
    assert folder == FolderEntry(id="id:folder", name="Homework", path="/homework")
    assert file == FileEntry(
        id="id:a4ayc_80_OEAAAAAAAAAXw",
        name="Prime.txt",
        path="/homework/prime.txt",
        rev="a1c10ce0dd78",
        size=10,
        content_hash="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        client_modified_ns=1431445838 * 10**9,
        server_modified_ns=1451703845 * 10**9,
        downloadable=True,
        read_only=True,
    )


def test_unknown_kinds_and_unmounted_entries_are_left_out_of_a_page() -> None:
    page = wire.page(page_of({".tag": "symlink", "name": "s"}, {**FILE, "path_lower": None}, FILE))
    assert [entry.name for entry in page.entries] == ["Prime.txt"]


def test_an_entry_without_a_place_is_known_by_its_id() -> None:
    unmounted = {key: value for key, value in FILE.items() if key != "path_lower"}
    assert wire.entry(encoded(unmounted)).path == FILE["id"]


def test_a_document_has_no_hash_and_is_not_downloadable() -> None:
    document = {**FILE, "is_downloadable": False, "export_info": {"export_as": "html"}}
    del document["content_hash"]
    entry = wire.entry(encoded(document))
    assert isinstance(entry, FileEntry)
    assert entry.content_hash is None
    assert (entry.downloadable, entry.export_as) == (False, "html")
    for info in ({}, {"export_as": None}, None):
        bare = wire.entry(encoded({**document, "export_info": info}))
        assert isinstance(bare, FileEntry)
        assert bare.export_as is None


@pytest.mark.parametrize("flag", ["read_only", "traverse_only", "no_access"])
def test_a_folder_that_cannot_be_written_is_read_only(flag: str) -> None:
    folder = {**FOLDER, "sharing_info": {"read_only": False, flag: True}}
    assert wire.entry(encoded(folder)) == FolderEntry(
        id="id:folder", name="Homework", path="/homework", read_only=True
    )


def test_metadata_of_a_declared_kind_needs_no_tag() -> None:
    file = {key: value for key, value in FILE.items() if key != ".tag"}
    folder = {key: value for key, value in FOLDER.items() if key != ".tag"}
    assert wire.file_entry(encoded(file)).rev == "a1c10ce0dd78"
    assert wire.wrapped_folder(encoded({"metadata": folder})).id == "id:folder"


@pytest.mark.parametrize("missing", ["id", "rev", "size", "client_modified", "server_modified"])
def test_a_file_without_what_is_needed_is_malformed(missing: str) -> None:
    file = {key: value for key, value in FILE.items() if key != missing}
    with pytest.raises(wire.Malformed):
        wire.file_entry(encoded(file))


@pytest.mark.parametrize("tag", ["deleted", "new", ""])
def test_what_must_exist_must_be_a_file_or_a_folder(tag: str) -> None:
    with pytest.raises(wire.Malformed):
        wire.entry(encoded({**FILE, ".tag": tag}))
    with pytest.raises(wire.Malformed):
        wire.wrapped_entry(encoded({"metadata": {**FILE, ".tag": tag}}))


@pytest.mark.parametrize(
    ("allocation", "used", "allocated"),
    [
        ({".tag": "individual", "allocated": 100}, 30, 100),
        ({".tag": "team", "used": 60, "allocated": 100}, 60, 100),
        (
            {
                ".tag": "team",
                "used": 60,
                "allocated": 100,
                "user_within_team_space_allocated": 50,
                "user_within_team_space_used_cached": 30,
            },
            30,
            50,
        ),
        (
            {
                ".tag": "team",
                "used": 90,
                "allocated": 100,
                "user_within_team_space_allocated": 50,
            },
            90,
            100,
        ),
    ],
)
def test_space_is_what_really_limits(allocation: dict[str, Any], used: int, allocated: int) -> None:
    space = wire.space(encoded({"used": 30, "allocation": allocation}))
    assert (space.used, space.allocated) == (used, allocated)


def test_a_negative_longpoll_backoff_is_none() -> None:
    assert wire.longpoll(encoded({"changes": False, "backoff": -1})).backoff == 0
    assert wire.longpoll(encoded({"changes": True})) == wire.Longpoll(changes=True, backoff=0.0)


def test_lone_surrogates_come_in_as_question_marks() -> None:
    page = wire.page(page_of({**FILE, "name": "a\ud83d.txt", "path_lower": "/a\ud83d.txt"}))
    (entry,) = page.entries
    assert (entry.name, entry.path) == ("a?.txt", "/a?.txt")
    pair = wire.page(page_of({**FILE, "name": "\U0001f600"}))
    assert pair.entries[0].name == "\U0001f600"


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_what_goes_out_is_printable_ascii_that_means_the_same(text: str) -> None:
    header = wire.ascii_json({"path": text})
    assert header.isascii()
    assert header.isprintable()
    # A high and a low surrogate beside each other are one character once they were JSON.
    assert json.loads(header) == json.loads(json.dumps({"path": text}))


def test_the_header_escapes_as_the_reference_says() -> None:
    assert wire.ascii_json({"path": "/ä\x7f\n\U0001f600"}) == (
        '{"path":"/\\u00e4\\u007f\\n\\ud83d\\ude00"}'
    )


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1431445838_999_999_999, "2015-05-12T15:50:38Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (10**30, "9999-12-31T23:59:59Z"),
        (-(10**30), "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_cut_to_the_second(ns: int, text: str) -> None:
    assert wire.timestamp(ns) == text


@given(st.integers(-(2**31), 2**34))
def test_a_time_survives_the_way_there_and_back(second: int) -> None:
    text = wire.timestamp(second * 10**9 + 123)
    entry = wire.file_entry(encoded({**FILE, "client_modified": text}))
    assert entry.client_modified_ns == second * 10**9


def test_write_modes() -> None:
    assert wire.write_mode(Add()) == {".tag": "add"}
    assert wire.write_mode(Overwrite()) == {".tag": "overwrite"}
    assert wire.write_mode(Update(Rev("a1"))) == {".tag": "update", "update": "a1"}


def test_a_full_page_is_decoded_without_holding_up_the_loop() -> None:
    body = page_of(*({**FILE, "name": f"{n}.txt", "path_lower": f"/{n}.txt"} for n in range(2000)))
    best = min(timed(body) for _ in range(5))
    assert best < 0.05


def timed(body: bytes) -> float:
    began = time.perf_counter()
    assert len(wire.page(body).entries) == 2000
    return time.perf_counter() - began


def test_a_token_is_not_shown() -> None:
    token = wire.read(
        encoded({"access_token": "secret", "refresh_token": "secret", "token_type": "bearer"}),
        wire.Token,
    )
    assert token.access_token == "secret"
    assert "secret" not in repr(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
DECODERS = [
    wire.page,
    wire.entry,
    wire.file_entry,
    wire.wrapped_entry,
    wire.wrapped_folder,
    wire.cursor,
    wire.longpoll,
    wire.account,
    wire.space,
    wire.session,
    wire.nothing,
    wire.plain,
]


@given(st.sampled_from(DECODERS), st.binary(max_size=60) | json_values.map(encoded))
def test_decoders_raise_nothing_but_malformed(decode: Any, body: bytes) -> None:
    with contextlib.suppress(wire.Malformed):
        decode(body)


@given(st.sampled_from(sorted(FILE)), json_values)
def test_one_wrong_field_makes_no_wrong_entry(key: str, value: Any) -> None:
    try:
        entry = wire.file_entry(encoded({**FILE, key: value}))
    except wire.Malformed:
        return
    assert msgspec.convert(msgspec.to_builtins(entry), FileEntry) == entry


def test_deep_nesting_is_malformed_not_a_crash() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b'["\\ud83d",' + b"[" * 100_000):
        with pytest.raises(wire.Malformed):
            wire.plain(body)
