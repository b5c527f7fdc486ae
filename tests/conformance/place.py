"""The scratch folder of one test and the small tree in it, and the tables' row.

    ROOT/hello.txt          b"hello"
    ROOT/folder/inner.txt   b"inner"
    ROOT/folder/deep/leaf   b"leaf"

The tree is made on first use: a test that needs only an empty folder costs no request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from dropbox import Dropbox, files

from tests.conformance.service import Service, refusal
from tests.embedded import Embedded, embedded_dropbox

OVERWRITE = files.WriteMode.overwrite


class Place:
    """A folder of its own for one test, `root`, and what it needs to work there."""

    def __init__(self, service: Service, dbx: Dropbox, root: str) -> None:
        self.service = service
        self.dbx = dbx
        self.root = root

    def __call__(self, name: str = "") -> str:
        """The path of `name` ("a/b") inside the scratch folder."""
        return f"{self.root}/{name}" if name else self.root

    @property
    def server(self) -> Embedded:
        """The embedded server, for its control routes."""
        assert self.service.server is not None, "mark this test with `embedded`"
        return self.service.server

    # what is in it

    def write(self, name: str, data: bytes = b"", **options: Any) -> files.FileMetadata:
        """Makes or replaces a file."""
        options = {"mode": OVERWRITE} | options
        return self.dbx.files_upload(data, self(name), **options)

    def mkdir(self, name: str) -> files.FolderMetadata:
        """Makes a folder."""
        return self.dbx.files_create_folder_v2(self(name)).metadata

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return bytes(self.dbx.files_download(self(name))[1].content)

    @cached_property
    def hello(self) -> files.FileMetadata:
        """The file hello.txt."""
        return self.write("hello.txt", b"hello")

    @cached_property
    def inner(self) -> files.FileMetadata:
        """The file folder/inner.txt."""
        return self.write("folder/inner.txt", b"inner")

    @cached_property
    def leaf(self) -> files.FileMetadata:
        """The file folder/deep/leaf."""
        return self.write("folder/deep/leaf", b"leaf")

    def furnish(self) -> Place:
        """Makes the whole tree; returns the place."""
        assert self.hello
        assert self.inner
        assert self.leaf
        return self

    # what is found in it

    def entries(self, name: str = "", **options: Any) -> list[Any]:
        """All entries of a folder (everything below it with `recursive`), without itself."""
        return [
            entry
            for entry in listed(self.dbx, self(name), **options)[0]
            if entry.path_lower != self(name).lower()
        ]

    def names(self, name: str = "", **options: Any) -> list[str]:
        """The paths of the entries of a folder relative to it, sorted."""
        at = len(self(name)) + 1
        return sorted(entry.path_display[at:] for entry in self.entries(name, **options))

    # embedded only

    def shared(self, name: str, access: str = "read_only") -> str:
        """Makes `name`, with a file "file" in it, a shared folder; returns its path."""
        self.server.edit([{"op": "write", "path": self(f"{name}/file"), "text": "shared"}])
        self.server.control("shared_folder", {"path": self(name), "access": access})
        return self(name)

    def document(self, name: str) -> str:
        """Makes `name` a file that can be exported, not downloaded; returns its path."""
        self.server.control("document", {"path": self(name)})
        return self(name)


@contextmanager
def private_place(data: Path) -> Iterator[Place]:
    """A scratch folder on an embedded server of its own, which keeps its account in `data`."""
    with embedded_dropbox(data) as server:
        service = Service(server.token, server)
        place = Place(service, service.client(), "/scratch")
        place.dbx.files_create_folder_v2(place())
        yield place


def listed(dbx: Dropbox, path: str, **options: Any) -> tuple[list[Any], str]:
    """All pages of a listing: the entries in the order of their coming, and the last cursor."""
    return drained(dbx, dbx.files_list_folder(path, **options))


def changes(dbx: Dropbox, cursor: str) -> tuple[list[Any], str]:
    """All pages since `cursor`: the entries in the order of their coming, and the last cursor."""
    return drained(dbx, dbx.files_list_folder_continue(cursor))


def drained(dbx: Dropbox, page: files.ListFolderResult) -> tuple[list[Any], str]:
    """The entries of `page` and of all pages after it, and the last cursor."""
    entries = list(page.entries)
    while page.has_more:
        page = dbx.files_list_folder_continue(page.cursor)
        entries += page.entries
    return entries, page.cursor


@dataclass(frozen=True)
class Refusal:
    """A row of a table: a call on a furnished place, and the error that is documented for it."""

    error: str
    """Tags, outermost first; what is left out at the end may be anything ("path/conflict")."""

    call: Callable[[Place], object]

    or_else: str = ""
    """Another error that the documentation allows as well."""

    def check(self, place: Place) -> None:
        """Makes the call. Raises AssertionError when it is not refused as documented."""
        got = refusal(lambda: self.call(place))
        allowed = [self.error, self.or_else] if self.or_else else [self.error]
        assert any(f"{got}/".startswith(f"{error}/") for error in allowed), (
            f"expected {' or '.join(allowed)}, got {got}"
        )


Row = tuple[str, Refusal, bool]


def table(*rows: tuple[str, Refusal] | Row) -> pytest.MarkDecorator:
    """Parametrises a test by named rows; those of `embedded_row` need the control routes."""
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(row, id=name, marks=[pytest.mark.embedded] * any(embedded))
            for name, row, *embedded in rows
        ],
    )


def embedded_row(name: str, row: Refusal) -> Row:
    """A row that needs the embedded server's control routes."""
    return name, row, True
