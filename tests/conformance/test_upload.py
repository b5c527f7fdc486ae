"""files/upload: what each write mode does to what it finds."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from dropbox import files
from dropbox.content_hash import content_hash

from tests.conformance.committing import WAYS, commit_as
from tests.conformance.place import Place, Refusal, embedded_row, table
from tests.conformance.service import refusal, refused, tags

NUMBERED = r"name \(\d+\)\.txt"
CONFLICTED = r"name \(.*conflicted copy.*\)\.txt"

FOUND = ("nothing", "same", "other", "folder", "newer", "newer-same", "deleted")
"""What is at the path: nothing; a file with the same content, or another; a folder; a file that
was changed since the revision we know, to another content or to just ours; a deleted file."""


@dataclass(frozen=True)
class Commit:
    """A row: on finding this at the path, committing so must end so."""

    found: str
    mode: str
    ends: str
    """written, replaced (the same id), untouched (nothing was written), renamed NUMBERED or
    CONFLICTED, or the tags of the refusal."""
    autorename: bool = False
    strict: bool = False

    def __str__(self) -> str:
        flags = ["autorename"] * self.autorename + ["strict"] * self.strict
        return "-".join([self.found, self.mode, *flags])


WRITTEN, REPLACED, UNTOUCHED = "written", "replaced", "untouched"
ON_FILE, ON_FOLDER = "path/conflict/file", "path/conflict/folder"

COMMITS = [
    Commit("nothing", "add", WRITTEN),
    Commit("nothing", "add", WRITTEN, strict=True),
    Commit("same", "add", UNTOUCHED),
    Commit("same", "add", UNTOUCHED, autorename=True),
    Commit("same", "add", ON_FILE, strict=True),
    Commit("same", "add", NUMBERED, strict=True, autorename=True),
    Commit("other", "add", ON_FILE),
    Commit("other", "add", ON_FILE, strict=True),
    Commit("other", "add", NUMBERED, autorename=True),
    Commit("folder", "add", ON_FOLDER),
    Commit("folder", "add", NUMBERED, autorename=True),
    Commit("deleted", "add", WRITTEN),
    Commit("nothing", "overwrite", WRITTEN),
    Commit("same", "overwrite", UNTOUCHED),
    Commit("other", "overwrite", REPLACED),
    Commit("other", "overwrite", REPLACED, autorename=True),
    Commit("other", "overwrite", REPLACED, strict=True),
    Commit("folder", "overwrite", ON_FOLDER),
    Commit("folder", "overwrite", NUMBERED, autorename=True),
    Commit("deleted", "overwrite", WRITTEN),
    Commit("nothing", "update", WRITTEN),
    Commit("nothing", "update", "path/conflict", strict=True),
    Commit("same", "update", UNTOUCHED),
    Commit("other", "update", REPLACED),
    Commit("other", "update", REPLACED, strict=True, autorename=True),
    Commit("newer", "update", ON_FILE),
    Commit("newer", "update", ON_FILE, strict=True),
    Commit("newer", "update", CONFLICTED, autorename=True),
    Commit("newer", "update", CONFLICTED, autorename=True, strict=True),
    Commit("newer-same", "update", UNTOUCHED),
    Commit("newer-same", "update", UNTOUCHED, autorename=True),
    Commit("newer-same", "update", ON_FILE, strict=True),
    Commit("newer-same", "update", CONFLICTED, autorename=True, strict=True),
    Commit("folder", "update", ON_FOLDER),
    Commit("folder", "update", CONFLICTED, autorename=True),
    Commit("deleted", "update", WRITTEN),
    Commit("deleted", "update", "path/conflict", strict=True),
]

OURS = b"ours"
NO_REV = "0123456789abcdef"


def _found(place: Place, found: str) -> tuple[str, files.FileMetadata | None]:
    """Makes what is found; returns the revision that we know and the file there, if any."""
    if found in {"nothing", "folder"}:
        if found == "folder":
            place.mkdir("name.txt")
        return NO_REV, None
    known = place.write("name.txt", OURS if found == "same" else b"theirs")
    if found == "deleted":
        place.dbx.files_delete_v2(place("name.txt"))
        return known.rev, None
    if found.startswith("newer"):
        newer = place.write("name.txt", OURS if found == "newer-same" else b"newer")
        return known.rev, newer
    return known.rev, known


def _mode(name: str, rev: str) -> files.WriteMode:
    return files.WriteMode.update(rev) if name == "update" else getattr(files.WriteMode, name)


@pytest.mark.parametrize("via", WAYS)
@pytest.mark.parametrize("commit", COMMITS, ids=str)
def test_commit(place: Place, commit: Commit, via: str) -> None:
    rev, there = _found(place, commit.found)
    options = {
        "mode": _mode(commit.mode, rev),
        "autorename": commit.autorename,
        "strict_conflict": commit.strict,
    }
    if commit.ends.startswith("path/"):
        error = refusal(lambda: commit_as(via, place, OURS, **options))
        assert f"{error}/".startswith(f"{commit.ends}/")
        assert place.names() == ([] if there is None and commit.found != "folder" else ["name.txt"])
        if there is not None:
            assert place.dbx.files_get_metadata(place("name.txt")) == there
        return
    entry = commit_as(via, place, OURS, **options)
    assert entry.content_hash == content_hash(OURS)
    if commit.ends == UNTOUCHED:
        assert entry == there
    elif commit.ends == REPLACED:
        assert there is not None
        assert (entry.id, entry.name) == (there.id, "name.txt")
        assert entry.rev != there.rev
    elif commit.ends == WRITTEN:
        assert entry.name == "name.txt"
    else:
        assert re.fullmatch(commit.ends, entry.name), entry.name
        assert place.names() == sorted(["name.txt", entry.name])
        if there is not None:
            assert place.dbx.files_get_metadata(place("name.txt")) == there
    assert place.read(entry.name) == OURS


def test_missing_parents_are_made(place: Place) -> None:
    place.write("A/B/file", b"")
    assert place.names(recursive=True) == ["A", "A/B", "A/B/file"]


def test_names_are_numbered_on(place: Place) -> None:
    for content in (b"one", b"two", b"three"):
        place.dbx.files_upload(content, place("name.txt"), autorename=True)
    numbered = place.names()
    assert len(numbered) == 3
    assert sum(re.fullmatch(NUMBERED, name) is not None for name in numbered) == 2


def test_the_same_content_again_changes_no_time(place: Place) -> None:
    times = [datetime.datetime(2001, 1, 1), datetime.datetime(2002, 2, 2)]
    first = place.write("file", b"same", client_modified=times[0])
    again = place.write("file", b"same", client_modified=times[1])
    assert again == first
    assert again.client_modified == times[0]


def test_without_a_time_of_its_own_a_file_has_the_servers(place: Place) -> None:
    entry = place.write("file", b"")
    difference = abs(entry.client_modified - entry.server_modified)
    assert difference <= datetime.timedelta(seconds=2)


def test_a_file_may_be_replaced_by_id_wherever_it_is(place: Place) -> None:
    old = place.hello
    place.dbx.files_move_v2(place("hello.txt"), place("moved/there"))
    new = place.dbx.files_upload(b"new", old.id, mode=files.WriteMode.overwrite)
    assert (new.id, new.path_display) == (old.id, place("moved/there"))
    assert place.read("moved/there") == b"new"


def test_an_update_by_id_names_the_revision_that_it_replaces(place: Place) -> None:
    old = place.hello
    new = place.dbx.files_upload(b"new", old.id, mode=files.WriteMode.update(old.rev))
    assert new.path_lower == old.path_lower
    stale = files.WriteMode.update(old.rev)
    error = refusal(lambda: place.dbx.files_upload(b"newer", old.id, mode=stale))
    assert error == "path/conflict/file"


def _upload(name: str, **options: Any) -> Any:
    return lambda place: place.dbx.files_upload(b"data", place(name), **options)


@table(
    ("below-a-file", Refusal("path/conflict/file_ancestor", _upload("hello.txt/x"))),
    ("far-below-a-file", Refusal("path/conflict/file_ancestor", _upload("hello.txt/x/y/z"))),
    (
        "hash-of-something-else",
        Refusal("content_hash_mismatch", _upload("x", content_hash=content_hash(b"other"))),
    ),
    embedded_row(
        "read-only",
        Refusal(
            "path/no_write_permission",
            lambda place: place.dbx.files_upload(b"", place.shared("ro") + "/new"),
        ),
    ),
    embedded_row(
        "read-only-file",
        Refusal(
            "path/no_write_permission",
            lambda place: place.dbx.files_upload(
                b"", place.shared("ro") + "/file", mode=files.WriteMode.overwrite
            ),
        ),
    ),
)
def test_refusals(row: Refusal, place: Place) -> None:
    row.check(place.furnish())


def test_a_hash_mismatch_writes_nothing(place: Place) -> None:
    wrong = content_hash(b"other")
    refused(lambda: place.dbx.files_upload(b"data", place("x"), content_hash=wrong))
    assert place.names() == []


def test_refused_bytes_can_still_be_committed_by_their_session(place: Place) -> None:
    """As documented for `UploadWriteFailed.upload_session_id`."""
    assert place.hello
    error = refused(lambda: place.dbx.files_upload(b"other", place("hello.txt")))
    assert tags(error) == "path/conflict/file"
    cursor = files.UploadSessionCursor(error.get_path().upload_session_id, 5)
    commit = files.CommitInfo(place("elsewhere"))
    assert place.dbx.files_upload_session_finish(b"", cursor, commit).size == 5
    assert place.read("elsewhere") == b"other"


def test_a_full_account_is_refused(place: Place, allowance: Callable[[int], None]) -> None:
    allowance(1000)
    place.write("half", b"x" * 600)
    error = refusal(lambda: place.dbx.files_upload(b"y" * 600, place("more")))
    assert error == "path/insufficient_space"
    assert place.names() == ["half"]
    place.dbx.files_delete_v2(place("half"))
    assert place.write("more", b"y" * 600).size == 600


@pytest.mark.embedded
def test_more_than_150_mib_are_refused(place: Place) -> None:
    dbx = place.service.client(auto_content_hash=False)
    data = bytes((150 << 20) + 1)
    assert refusal(lambda: dbx.files_upload(data, place("x"))) == "payload_too_large"
    assert place.names() == []
