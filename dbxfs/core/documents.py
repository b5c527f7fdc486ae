"""How online documents (Paper, Google Docs) appear as files.

A document has no bytes of its own. What is read is an export, in a format that Dropbox names
(`export_info` in the API reference: "markdown", "html", "xlsx" …). Programs tell formats by the end
of a name, so a mount can show `plan.paper` as `plan.paper.md`.
"""

from __future__ import annotations

import re

_NAMED = {"markdown": "md", "plain_text": "txt"}
"""Formats whose name is not how their files end."""

_PLAIN = re.compile(r"[a-z0-9]{1,10}")


def extension(export_as: str | None) -> str | None:
    """How files of an export format end; None: there is no such format, or nobody can tell."""
    form = (export_as or "").lower()
    found = _NAMED.get(form, form)
    return found if _PLAIN.fullmatch(found) else None


def shown(name: str, export_as: str | None) -> str:
    """A document's name with its export's extension; as it is where it ends so anyway."""
    end = extension(export_as)
    if end is None or name.lower().endswith(f".{end}"):
        return name
    return f"{name}.{end}"


def stem(name: str) -> str | None:
    """The name of the document that may be shown under `name`; None: there can be none."""
    before, _, end = name.rpartition(".")
    return before if before and extension(end) == end.lower() else None
