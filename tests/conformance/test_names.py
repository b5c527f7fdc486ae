"""Names that Dropbox refuses to save, on every route that makes an entry.

The rules: no component over 255 characters, none that ends in a space, no backslash, no DEL, no
lone surrogate (`malformed_path`); and the names of other systems' own files (`disallowed_name`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dropbox import files

from tests.conformance.place import Place
from tests.conformance.service import refusal

MALFORMED = {
    "too-long": "x" * 256,
    "trailing-space": "name ",
    "backslash": "a\\b",
    "delete-character": "a\x7fb",
    "lone-surrogate": "a\ud800b",
    "empty-component": "a//b",
}

DISALLOWED = {
    "desktop.ini": "desktop.ini",
    "thumbs.db": "thumbs.db",
    "ds_store": ".ds_store",
    "icon-return": "icon\r",
    "dropbox": ".dropbox",
    "dropbox.attr": ".dropbox.attr",
    "in-capitals": "Desktop.INI",
    "as-macos-writes-it": ".DS_Store",
    "as-a-parent": ".dropbox/file",
}

MAKE: dict[str, tuple[str, Callable[[Place, str], object]]] = {
    "upload": ("path", lambda place, to: place.dbx.files_upload(b"", to)),
    "create_folder": ("path", lambda place, to: place.dbx.files_create_folder_v2(to)),
    "move": ("to", lambda place, to: place.dbx.files_move_v2(place.hello.path_lower, to)),
    "copy": ("to", lambda place, to: place.dbx.files_copy_v2(place.hello.path_lower, to)),
    "restore": ("path_write", lambda place, to: place.dbx.files_restore(to, place.hello.rev)),
    "finish": ("path", lambda place, to: _finish(place, to)),
}


def _finish(place: Place, to: str) -> object:
    session = place.dbx.files_upload_session_start(b"").session_id
    return place.dbx.files_upload_session_finish(
        b"", files.UploadSessionCursor(session, 0), files.CommitInfo(to)
    )


@pytest.mark.parametrize("route", MAKE)
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_names_are_refused(place: Place, route: str, name: str) -> None:
    field, call = MAKE[route]
    got = refusal(lambda: call(place, place(MALFORMED[name])))
    assert got == f"{field}/malformed_path"


@pytest.mark.parametrize("route", MAKE)
@pytest.mark.parametrize("name", DISALLOWED)
def test_disallowed_names_are_refused(place: Place, route: str, name: str) -> None:
    field, call = MAKE[route]
    got = refusal(lambda: call(place, place(DISALLOWED[name])))
    assert got == f"{field}/disallowed_name"


@pytest.mark.parametrize(
    "name", ["x" * 255, "desktop.ini.txt", " leading", "a:b*c?d", "-", "~", "a.", "..."]
)
def test_other_unusual_names_are_saved(place: Place, name: str) -> None:
    place.write(name, b"kept")
    assert place.names() == [name]
    assert place.read(name) == b"kept"


def test_a_path_of_many_long_components_is_saved(place: Place) -> None:
    deep = "/".join(["d" * 100] * 10)
    place.write(f"{deep}/file", b"deep")
    assert place.read(f"{deep}/file") == b"deep"
