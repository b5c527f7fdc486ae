"""The names under which online documents are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.documents import extension, shown, stem


@pytest.mark.parametrize(
    ("export_as", "end"),
    [
        ("markdown", "md"),
        ("plain_text", "txt"),
        ("html", "html"),
        ("XLSX", "xlsx"),
        (None, None),
        ("", None),
        ("../x", None),
        ("a/b", None),
    ],
)
def test_a_format_has_an_extension_or_none(export_as: str | None, end: str | None) -> None:
    assert extension(export_as) == end


@pytest.mark.parametrize(
    ("name", "export_as", "expected"),
    [
        ("plan.paper", "markdown", "plan.paper.md"),
        ("plan", "xlsx", "plan.xlsx"),
        ("plan.DOCX", "docx", "plan.DOCX"),
        ("plan.paper", None, "plan.paper"),
    ],
)
def test_a_document_is_shown_with_its_exports_extension(
    name: str, export_as: str | None, expected: str
) -> None:
    assert shown(name, export_as) == expected


@given(st.text(min_size=1), st.sampled_from(["markdown", "html", "xlsx", "plain_text"]))
def test_from_what_is_shown_follows_the_document(name: str, export_as: str) -> None:
    seen = shown(name, export_as)
    assert seen == name or stem(seen) == name


def test_names_without_an_extension_are_no_documents() -> None:
    assert [stem(name) for name in ("plan", ".md", "plan.", "a.b c")] == [None] * 4
