"""files/download, download_zip, export and get_temporary_link."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
import requests
from dropbox import files
from dropbox.content_hash import content_hash

from tests.conformance.place import Place, Refusal, embedded_row, table
from tests.conformance.service import TIMEOUT, refusal

DATA = bytes(range(256)) * 40


def _download(place: Place, name: str, **headers: str) -> requests.Response:
    reply = place.service.content("files/download", {"path": place(name)}, headers=headers)
    assert reply.ok, f"{reply.status_code} {reply.text[:200]}"
    return reply


def test_the_bytes_come_with_the_description(place: Place) -> None:
    written = place.write("file", DATA)
    entry, reply = place.dbx.files_download(place("FILE"))
    assert entry == written
    assert reply.content == DATA
    assert reply.headers["Content-Length"] == str(len(DATA))
    assert content_hash(reply.content) == entry.content_hash


def test_an_empty_file_has_no_bytes(place: Place) -> None:
    place.write("empty", b"")
    entry, reply = place.dbx.files_download(place("empty"))
    assert (entry.size, reply.content) == (0, b"")


def test_a_large_file_comes_whole(place: Place) -> None:
    data = DATA * 1000
    place.write("large", data)
    assert place.read("large") == data


def test_the_description_travels_as_ascii(place: Place) -> None:
    place.write("Größe 日本🎈", b"x")
    reply = _download(place, "Größe 日本🎈")
    header = reply.headers["Dropbox-API-Result"]
    assert header.isascii()
    assert json.loads(header)["name"] == "Größe 日本🎈"


def test_a_file_answers_to_id_and_old_revisions(place: Place) -> None:
    old = place.write("file", b"old")
    new = place.write("file", b"new")
    read = {
        path: bytes(place.dbx.files_download(path)[1].content)
        for path in (new.id, f"rev:{old.rev}", f"rev:{new.rev}")
    }
    assert read == {new.id: b"new", f"rev:{old.rev}": b"old", f"rev:{new.rev}": b"new"}


def test_a_revision_stays_readable_after_move_and_deletion(place: Place) -> None:
    old = place.write("file", b"bytes")
    place.dbx.files_move_v2(place("file"), place("moved"))
    place.dbx.files_delete_v2(place("moved"))
    assert place.dbx.files_download(f"rev:{old.rev}")[1].content == b"bytes"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(DATA)),
        ("bytes=-10", len(DATA) - 10, len(DATA)),
        (f"bytes=10000-{10 * len(DATA)}", 10000, len(DATA)),
        (f"bytes=0-{len(DATA) - 1}", 0, len(DATA)),
    ],
)
def test_a_range_is_cut_out(place: Place, asked: str, start: int, end: int) -> None:
    place.write("file", DATA)
    reply = _download(place, "file", Range=asked)
    assert reply.status_code == 206
    assert reply.content == DATA[start:end]
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert json.loads(reply.headers["Dropbox-API-Result"])["size"] == len(DATA)


def test_a_range_of_a_revision_is_cut_out(place: Place) -> None:
    old = place.write("file", DATA)
    place.write("file", b"other")
    _, reply = place.dbx.files_download(f"rev:{old.rev}", extra_headers={"Range": "bytes=5-9"})
    assert (reply.status_code, reply.content) == (206, DATA[5:10])


def test_a_range_behind_the_end_cannot_be_satisfied(place: Place) -> None:
    place.write("file", DATA)
    reply = place.service.content(
        "files/download", {"path": place("file")}, headers={"Range": f"bytes={len(DATA)}-"}
    )
    assert reply.status_code == 416


def _call(route: str, name: str) -> Any:
    return lambda place: getattr(place.dbx, f"files_{route}")(place(name))


def _document(route: str) -> Any:
    return lambda place: getattr(place.dbx, f"files_{route}")(place.document("doc"))


@table(
    ("download-nothing", Refusal("path/not_found", _call("download", "nothing"))),
    ("download-folder", Refusal("path/not_file", _call("download", "folder"))),
    ("download-malformed", Refusal("path/malformed_path", _call("download", "a\\b"))),
    (
        "download-unknown-revision",
        Refusal("path/not_found", lambda place: place.dbx.files_download("rev:0123456789abcdef")),
    ),
    (
        "download-unknown-id",
        Refusal(
            "path/not_found", lambda place: place.dbx.files_download("id:AAAAAAAAAAAAAAAAAAAAAA")
        ),
    ),
    embedded_row("download-document", Refusal("unsupported_file", _document("download"))),
    ("zip-nothing", Refusal("path/not_found", _call("download_zip", "nothing"))),
    ("zip-file", Refusal("path/not_folder", _call("download_zip", "hello.txt"))),
    ("zip-malformed", Refusal("path/malformed_path", _call("download_zip", "a\\b"))),
    ("export-nothing", Refusal("path/not_found", _call("export", "nothing"))),
    ("export-folder", Refusal("path/not_file", _call("export", "folder"))),
    ("export-malformed", Refusal("path/malformed_path", _call("export", "a\\b"))),
    ("export-file", Refusal("non_exportable", _call("export", "hello.txt"))),
    embedded_row(
        "export-to-an-unknown-format",
        Refusal(
            "invalid_export_format",
            lambda place: place.dbx.files_export(place.document("doc"), "no-such-format"),
        ),
    ),
    ("link-nothing", Refusal("path/not_found", _call("get_temporary_link", "nothing"))),
    ("link-folder", Refusal("path/not_file", _call("get_temporary_link", "folder"))),
    ("link-malformed", Refusal("path/malformed_path", _call("get_temporary_link", "a\\b"))),
    embedded_row("link-document", Refusal("unsupported_file", _document("get_temporary_link"))),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


def test_a_folder_comes_as_a_zip(place: Place) -> None:
    place.furnish().mkdir("folder/empty")
    result, reply = place.dbx.files_download_zip(place("folder"))
    assert isinstance(result, files.DownloadZipResult)
    assert result.metadata.name == "folder"
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            "folder/",
            "folder/deep/",
            "folder/deep/leaf",
            "folder/empty/",
            "folder/inner.txt",
        ]
        assert archive.read("folder/inner.txt") == b"inner"


@pytest.mark.embedded
def test_a_folder_of_ten_thousand_entries_does_not_come_as_a_zip(place: Place) -> None:
    place.server.populate(place("over"), 1, 10_000, 1)
    error = refusal(lambda: place.dbx.files_download_zip(place("over")))
    assert error == "too_many_files"


@pytest.mark.embedded
def test_a_document_says_how_it_is_exported(place: Place) -> None:
    entry = place.dbx.files_get_metadata(place.document("Doc"))
    assert entry.is_downloadable is False
    assert entry.export_info.export_as
    for wanted in (None, *(entry.export_info.export_options or [])):
        result, reply = place.dbx.files_export(place("Doc"), wanted)
        assert result.file_metadata == entry
        assert result.export_metadata.size == len(reply.content) > 0
        assert result.export_metadata.export_hash in {None, content_hash(reply.content)}


def test_a_temporary_link_gives_the_bytes_to_anyone(place: Place) -> None:
    written = place.write("file.txt", DATA)
    result = place.dbx.files_get_temporary_link(place("file.txt"))
    assert result.metadata == written
    with requests.Session() as anyone:
        anyone.trust_env = place.service.server is None
        reply = anyone.get(result.link, timeout=TIMEOUT)
        assert (reply.status_code, reply.content) == (200, DATA)
        part = anyone.get(result.link, headers={"Range": "bytes=10-19"}, timeout=TIMEOUT)
        assert (part.status_code, part.content) == (206, DATA[10:20])
