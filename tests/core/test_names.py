"""Names: which are one place to Dropbox, which it refuses, and the kernel's bytes."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.names import decode_name, encode_name, fold, problem

any_text = st.text(st.characters(exclude_categories=()), max_size=30)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("README.md", "readme.MD"),
        ("Ärger", "äRGER"),
        ("a\u0308rger", "\xc4RGER"),
        ("ΣΣΣ", "σσσ"),
        ("Привет", "ПРИВЕТ"),
        ("\u1e9b\u0323", "\u1e9b\u0323"),
    ],
)
def test_case_and_composition_make_no_other_name(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("straße", "strasse"), ("a", "ä"), ("\ufb01le", "file"), ("a ", "a")]
)
def test_names_that_dropbox_tells_apart_stay_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(any_text)
def test_fold_is_idempotent_and_blind_to_composition(name: str) -> None:
    key = fold(name)
    assert fold(key) == key
    assert fold(unicodedata.normalize("NFD", name)) == key


def test_fold_is_idempotent_for_every_character() -> None:
    for code in range(sys.maxunicode + 1):
        key = fold(chr(code))
        assert fold(key) == key


@given(any_text, any_text)
def test_a_path_folds_by_its_components(folder: str, name: str) -> None:
    assert fold(f"{folder}/{name}") == f"{fold(folder)}/{fold(name)}"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a.",
        "con",
        "a:b*c?.txt",
        " leading",
        "tab\there",
        "new\nline",
        "ä" * 255,
        "icon",
        ".dropboxignore",
        "desktop.ini.bak",
        "~notes",
        "notes.tmp",
        ".hidden~",
        "$~",
        "...",
        "\U0001f600",
    ],
)
def test_ordinary_names_are_taken(name: str) -> None:
    assert problem(name) is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "empty"),
        ("a" * 256, "256 characters"),
        ("a/b", "slash"),
        ("a\\b", "backslash"),
        ("a\0b", "NUL"),
        ("a\x7fb", "DEL"),
        ("a ", "space"),
        (" ", "space"),
        ("\udcff", "UTF-8"),
        ("x\ud83d", "UTF-8"),
        ("desktop.ini", "this name"),
        ("Thumbs.DB", "this name"),
        (".DS_Store", "this name"),
        ("Icon\r", "this name"),
        (".dropbox", "this name"),
        (".dropbox.attr", "this name"),
        (".Dropbox.Cache", "this name"),
        (".", "this name"),
        ("..", "this name"),
        ("~$report.docx", "temporary"),
        (".~lock.a.odt#", "temporary"),
        ("~WRL0001.tmp", "temporary"),
        ("~x.TMP", "temporary"),
    ],
)
def test_names_that_dropbox_refuses_are_named_with_the_reason(name: str, word: str) -> None:
    reason = problem(name)
    assert reason is not None
    assert word in reason


@given(any_text)
def test_problem_and_fold_take_any_string(name: str) -> None:
    reason = problem(name)
    assert reason is None or (reason.isascii() and reason)


@given(st.binary(max_size=40).filter(lambda raw: b"\0" not in raw))
def test_every_byte_string_survives_the_way_through_text(raw: bytes) -> None:
    assert encode_name(decode_name(raw)) == raw


@given(any_text)
def test_encoding_never_fails(name: str) -> None:
    assert isinstance(encode_name(name), bytes)


def test_a_surrogate_without_a_byte_behind_it_becomes_a_question_mark() -> None:
    assert encode_name("a\ud83db") == b"a?b"
