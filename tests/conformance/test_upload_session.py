"""Upload sessions, sequential and concurrent: start, append_v2, finish."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dropbox import Dropbox, files
from dropbox.content_hash import content_hash

from tests.conformance.place import Place
from tests.conformance.service import refusal, refused, tags

BLOCK = 4 << 20
TOO_LARGE = bytes((150 << 20) + 1)
CONCURRENT = files.UploadSessionType.concurrent
UNKNOWN = "pid_upload_session:AAAAAAAAAAAAAAAA"


def start(dbx: Dropbox, data: bytes = b"", **options: Any) -> str:
    """Starts a session; returns its id."""
    return str(dbx.files_upload_session_start(data, **options).session_id)


def append(dbx: Dropbox, session: str, offset: int, data: bytes, **options: Any) -> None:
    """Appends `data` at `offset`."""
    dbx.files_upload_session_append_v2(data, files.UploadSessionCursor(session, offset), **options)


def finish(
    place: Place, session: str, offset: int, name: str = "file", data: bytes = b"", **options: Any
) -> files.FileMetadata:
    """Appends the last `data` at `offset` and saves the session as `name`."""
    return place.dbx.files_upload_session_finish(
        data, files.UploadSessionCursor(session, offset), files.CommitInfo(place(name), **options)
    )


# sequential


def test_pieces_become_one_file(place: Place) -> None:
    session = start(place.dbx, b"one ")
    append(place.dbx, session, 4, b"two ")
    append(place.dbx, session, 8, b"")
    entry = finish(place, session, 8, data=b"three")
    assert entry.content_hash == content_hash(b"one two three")
    assert place.read("file") == b"one two three"


def test_pieces_need_not_fit_the_blocks(place: Place) -> None:
    data = random.Random(1).randbytes(2 * BLOCK + 12_345)
    session = start(place.dbx, data[:100_000])
    append(place.dbx, session, 100_000, data[100_000 : BLOCK + 7])
    entry = finish(place, session, BLOCK + 7, data=data[BLOCK + 7 :])
    assert entry.content_hash == content_hash(data)
    assert place.read("file") == data


def test_nothing_is_seen_before_the_session_is_finished(place: Place) -> None:
    session = start(place.dbx, b"bytes", close=True)
    assert place.names() == []
    finish(place, session, 5)
    assert place.names() == ["file"]


def test_an_empty_session_makes_an_empty_file(place: Place) -> None:
    assert finish(place, start(place.dbx), 0).size == 0


@pytest.mark.parametrize("offset", [0, 4, 6, 100])
def test_a_wrong_offset_is_told_the_right_one(place: Place, offset: int) -> None:
    session = start(place.dbx, b"12345")
    error = refused(lambda: append(place.dbx, session, offset, b"678"))
    assert tags(error) == "incorrect_offset"
    assert error.get_incorrect_offset().correct_offset == 5
    error = refused(lambda: finish(place, session, offset, data=b"678"))
    assert tags(error) == "lookup_failed/incorrect_offset"
    assert error.get_lookup_failed().get_incorrect_offset().correct_offset == 5
    append(place.dbx, session, 5, b"678")
    assert finish(place, session, 8).size == 8


def test_a_repeated_append_is_told_where_to_go_on(place: Place) -> None:
    """The reply was lost; the client asks again and learns that the bytes have come."""
    session = start(place.dbx)
    append(place.dbx, session, 0, b"12345")
    error = refused(lambda: append(place.dbx, session, 0, b"12345"))
    assert error.get_incorrect_offset().correct_offset == 5
    assert finish(place, session, 5).content_hash == content_hash(b"12345")


@pytest.mark.parametrize("closed_by", ["start", "append"])
def test_a_closed_session_takes_no_more(place: Place, closed_by: str) -> None:
    session = start(place.dbx, b"12345", close=closed_by == "start")
    if closed_by == "append":
        append(place.dbx, session, 5, b"", close=True)
    assert refusal(lambda: append(place.dbx, session, 5, b"6")) == "closed"
    assert finish(place, session, 5).size == 5


def test_a_committed_session_is_used_up(place: Place) -> None:
    session = start(place.dbx, b"12345")
    finish(place, session, 5)
    error = refusal(lambda: append(place.dbx, session, 5, b"6"))
    assert error in {"closed", "not_found"}
    error = refusal(lambda: finish(place, session, 5, "again"))
    assert error in {"lookup_failed/closed", "lookup_failed/not_found"}


def test_an_unknown_session_is_not_found(place: Place) -> None:
    assert refusal(lambda: append(place.dbx, UNKNOWN, 0, b"x")) == "not_found"
    assert refusal(lambda: finish(place, UNKNOWN, 0)) == "lookup_failed/not_found"


def test_bytes_that_do_not_fit_their_hash_are_not_taken(place: Place) -> None:
    wrong = content_hash(b"other")
    dbx = place.dbx
    assert refusal(lambda: start(dbx, b"123", content_hash=wrong)) == "content_hash_mismatch"
    session = start(dbx, b"123")
    error = refusal(lambda: append(dbx, session, 3, b"45", content_hash=wrong))
    assert error == "content_hash_mismatch"
    cursor = files.UploadSessionCursor(session, 3)
    commit = files.CommitInfo(place("file"))
    error = refusal(lambda: dbx.files_upload_session_finish(b"45", cursor, commit, wrong))
    assert error == "content_hash_mismatch"
    assert place.names() == []
    assert finish(place, session, 3, data=b"45").content_hash == content_hash(b"12345")


def test_the_hash_is_of_the_calls_own_bytes(place: Place) -> None:
    session = start(place.dbx, b"123", content_hash=content_hash(b"123"))
    append(place.dbx, session, 3, b"45", content_hash=content_hash(b"45"))
    assert finish(place, session, 5).content_hash == content_hash(b"12345")


def test_a_refused_commit_keeps_the_bytes(place: Place) -> None:
    """As documented: "retry with empty data body and updated offset" is possible."""
    assert place.hello
    session = start(place.dbx, b"123")
    error = refusal(lambda: finish(place, session, 3, "hello.txt", b"45"))
    assert error == "path/conflict/file"
    assert finish(place, session, 5, "elsewhere").content_hash == content_hash(b"12345")


def test_a_file_below_a_file_is_refused(place: Place) -> None:
    assert place.hello
    session = start(place.dbx, b"x")
    assert (
        refusal(lambda: finish(place, session, 1, "hello.txt/x")) == "path/conflict/file_ancestor"
    )


@pytest.mark.embedded
def test_a_read_only_folder_takes_no_file(place: Place) -> None:
    place.shared("ro")
    session = start(place.dbx, b"x")
    assert refusal(lambda: finish(place, session, 1, "ro/new")) == "path/no_write_permission"


# concurrent


def test_pieces_may_come_at_once_and_in_any_order(place: Place) -> None:
    data = random.Random(2).randbytes(4 * BLOCK + 1000)
    session = start(place.dbx, session_type=CONCURRENT)

    def send(index: int) -> None:
        at = index * BLOCK
        append(place.dbx, session, at, data[at : at + BLOCK], close=index == 4)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, [3, 1, 2, 0]))
    send(4)
    assert finish(place, session, len(data)).content_hash == content_hash(data)
    assert place.read("file") == data


def test_the_last_piece_may_come_before_the_others(place: Place) -> None:
    data = random.Random(3).randbytes(BLOCK + 5)
    session = start(place.dbx, session_type=CONCURRENT)
    append(place.dbx, session, BLOCK, data[BLOCK:], close=True)
    append(place.dbx, session, 0, data[:BLOCK])
    assert finish(place, session, len(data)).content_hash == content_hash(data)


def test_a_small_file_fits_into_one_closing_piece(place: Place) -> None:
    session = start(place.dbx, session_type=CONCURRENT)
    append(place.dbx, session, 0, b"small", close=True)
    assert finish(place, session, 5).size == 5


def _concurrent(call: Callable[[Place, str], object]) -> Callable[[Place], object]:
    return lambda place: call(place, start(place.dbx, session_type=CONCURRENT))


def _missing(place: Place, session: str) -> object:
    append(place.dbx, session, BLOCK, b"end", close=True)
    return finish(place, session, BLOCK + 3)


def _closed_with_data(place: Place, session: str) -> object:
    append(place.dbx, session, 0, b"end", close=True)
    return finish(place, session, 3, data=b"more")


CONCURRENT_ERRORS: dict[str, tuple[str, Callable[[Place], object]]] = {
    "started-with-data": (
        "concurrent_session_data_not_allowed",
        lambda place: start(place.dbx, b"x", session_type=CONCURRENT),
    ),
    "started-closed": (
        "concurrent_session_close_not_allowed",
        lambda place: start(place.dbx, close=True, session_type=CONCURRENT),
    ),
    "offset-within-a-block": (
        "concurrent_session_invalid_offset",
        _concurrent(lambda place, session: append(place.dbx, session, 1, bytes(BLOCK))),
    ),
    "size-not-of-blocks": (
        "concurrent_session_invalid_data_size",
        _concurrent(lambda place, session: append(place.dbx, session, 0, b"x")),
    ),
    "over-the-largest-file": (
        "too_large",
        _concurrent(lambda place, session: append(place.dbx, session, 1 << 41, bytes(BLOCK))),
    ),
    "finished-open": (
        "concurrent_session_not_closed",
        _concurrent(lambda place, session: finish(place, session, 0)),
    ),
    "finished-with-a-hole": ("concurrent_session_missing_data", _concurrent(_missing)),
    "finished-with-data": (
        "concurrent_session_data_not_allowed",
        _concurrent(_closed_with_data),
    ),
}


@pytest.mark.parametrize("name", CONCURRENT_ERRORS)
def test_rules_of_concurrent_sessions(place: Place, name: str) -> None:
    error, call = CONCURRENT_ERRORS[name]
    assert refusal(lambda: call(place)) == error
    assert place.names() == []


@pytest.mark.parametrize("route", ["start", "append", "finish"])
@pytest.mark.embedded
def test_more_than_150_mib_a_request_are_refused(place: Place, route: str) -> None:
    dbx = place.service.client(auto_content_hash=False)
    cursor = files.UploadSessionCursor(start(dbx), 0)
    commit = files.CommitInfo(place("file"))
    call = {
        "start": lambda: dbx.files_upload_session_start(TOO_LARGE),
        "append": lambda: dbx.files_upload_session_append_v2(TOO_LARGE, cursor),
        "finish": lambda: dbx.files_upload_session_finish(TOO_LARGE, cursor, commit),
    }[route]
    assert refusal(call).endswith("payload_too_large")


def test_a_full_account_is_refused_and_can_go_on_later(
    place: Place, allowance: Callable[[int], None]
) -> None:
    allowance(10)
    session = start(place.dbx, b"x" * 20)
    assert refusal(lambda: finish(place, session, 20)) == "path/insufficient_space"
    allowance(1000)
    assert finish(place, session, 20).size == 20
