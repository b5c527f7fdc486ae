"""Many small files in few requests: start_batch, append_batch, finish_batch_v2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dropbox import Dropbox, files
from dropbox.content_hash import content_hash

from tests.conformance.place import Place
from tests.conformance.service import Service, bad_call, refusal, tags
from tests.conformance.test_upload_session import BLOCK, CONCURRENT, TOO_LARGE, UNKNOWN, start


def _sessions(dbx: Dropbox, count: int, **options: Any) -> list[str]:
    return list(dbx.files_upload_session_start_batch(count, **options).session_ids)


def _append(
    session: str, offset: int, length: int, close: bool = False
) -> files.UploadSessionAppendBatchArgEntry:
    cursor = files.UploadSessionCursor(session, offset)
    return files.UploadSessionAppendBatchArgEntry(cursor, length, close)


def _finish(place: Place, *args: tuple[str, int, str], **options: Any) -> list[Any]:
    entries = [
        files.UploadSessionFinishArg(
            files.UploadSessionCursor(session, offset), files.CommitInfo(place(name), **options)
        )
        for session, offset, name in args
    ]
    return list(place.dbx.files_upload_session_finish_batch_v2(entries).entries)


def _said(entries: list[Any]) -> list[str]:
    return ["" if entry.is_success() else tags(entry.get_failure()) for entry in entries]


def test_a_thousand_files_cost_four_requests(place: Place) -> None:
    """Started at once, appended in two bodies (of at most 500 entries each), committed at once."""
    contents = [f"content {i}".encode() for i in range(1000)]
    sessions = _sessions(place.dbx, 1000)
    assert len(set(sessions)) == 1000
    for half in (slice(0, 500), slice(500, 1000)):
        entries = [
            _append(session, 0, len(content), close=True)
            for session, content in zip(sessions[half], contents[half], strict=True)
        ]
        body = b"".join(contents[half])
        done = place.dbx.files_upload_session_append_batch(body, entries)
        assert _said(done.entries) == [""] * 500
    committed = _finish(
        place,
        *[
            (session, len(content), f"{i // 100}/{i:03d}")
            for i, (session, content) in enumerate(zip(sessions, contents, strict=True))
        ],
    )
    assert [entry.get_success().content_hash for entry in committed] == [
        content_hash(content) for content in contents
    ]
    assert place.names() == [str(i) for i in range(10)]
    assert place.read("7/777") == b"content 777"


def test_bytes_of_many_sessions_come_in_one_body(place: Place) -> None:
    one, two, three = _sessions(place.dbx, 3)
    place.dbx.files_upload_session_append_batch(
        b"11122", [_append(one, 0, 3), _append(two, 0, 2), _append(three, 0, 0, close=True)]
    )
    place.dbx.files_upload_session_append_batch(
        b"2211", [_append(two, 2, 2, close=True), _append(one, 3, 2, close=True)]
    )
    entries = _finish(place, (one, 5, "one"), (two, 4, "two"), (three, 0, "three"))
    assert _said(entries) == ["", "", ""]
    assert [place.read(name) for name in ("one", "two", "three")] == [b"11111", b"2222", b""]


def test_one_wrong_entry_does_not_harm_the_others(place: Place) -> None:
    good, offset, closed = _sessions(place.dbx, 3)
    place.dbx.files_upload_session_append_batch(b"123", [_append(closed, 0, 3, close=True)])
    done = place.dbx.files_upload_session_append_batch(
        b"abcdefghijklmnopqrst",
        [
            _append(UNKNOWN, 0, 5),
            _append(offset, 7, 5),
            _append(closed, 3, 5),
            _append(good, 0, 5, close=True),
        ],
    ).entries
    assert _said(done) == ["not_found", "incorrect_offset", "closed", ""]
    assert done[1].get_failure().get_incorrect_offset().correct_offset == 0
    assert _said(_finish(place, (good, 5, "good"))) == [""]
    assert place.read("good") == b"pqrst"


def test_concurrent_sessions_keep_their_rules_in_a_batch(place: Place) -> None:
    one, two, three, four = _sessions(place.dbx, 4, session_type=CONCURRENT)
    done = place.dbx.files_upload_session_append_batch(
        b"x" + b"x" + b"end" + b"xx",
        [
            _append(one, 1, 1, close=True),
            _append(two, 0, 1),
            _append(three, BLOCK, 3, close=True),
            _append(four, 1 << 41, 2, close=True),
        ],
    ).entries
    assert _said(done) == [
        "concurrent_session_invalid_offset",
        "concurrent_session_invalid_data_size",
        "",
        "too_large",
    ]
    place.dbx.files_upload_session_append_batch(bytes(BLOCK), [_append(three, 0, BLOCK)])
    (entry,) = _finish(place, (three, BLOCK + 3, "three"))
    assert entry.get_success().content_hash == content_hash(bytes(BLOCK) + b"end")


def test_lengths_must_fit_the_body(place: Place) -> None:
    (session,) = _sessions(place.dbx, 1)
    for length in (4, 6):
        call = [_append(session, 0, length)]
        error = refusal(lambda: place.dbx.files_upload_session_append_batch(b"12345", call))  # noqa: B023
        assert error == "length_mismatch"
    place.dbx.files_upload_session_append_batch(b"12345", [_append(session, 0, 5, close=True)])
    assert _said(_finish(place, (session, 5, "file"))) == [""]


def test_the_hash_is_of_the_whole_body(place: Place) -> None:
    one, two = _sessions(place.dbx, 2)
    call = [_append(one, 0, 3, close=True), _append(two, 0, 2, close=True)]
    append = place.dbx.files_upload_session_append_batch
    assert refusal(lambda: append(b"11122", call, content_hash(b"111"))) == "content_hash_mismatch"
    assert _said(append(b"11122", call, content_hash(b"11122")).entries) == ["", ""]


@pytest.mark.embedded
def test_more_than_150_mib_a_body_are_refused(place: Place) -> None:
    dbx = place.service.client(auto_content_hash=False)
    (session,) = _sessions(dbx, 1)
    call = [_append(session, 0, len(TOO_LARGE))]
    error = refusal(lambda: dbx.files_upload_session_append_batch(TOO_LARGE, call))
    assert error == "payload_too_large"


def test_commits_say_one_by_one_what_came_of_them(place: Place) -> None:
    place.furnish()
    closed = [start(place.dbx, b"123", close=True) for _ in range(6)]
    entries = _finish(
        place,
        (closed[0], 3, "new"),
        (closed[1], 3, "hello.txt"),
        (closed[2], 3, "folder"),
        (closed[3], 2, "offset"),
        (start(place.dbx, b"123"), 3, "open"),
        (UNKNOWN, 0, "unknown"),
        (closed[4], 3, "thumbs.db"),
        (closed[5], 3, "hello.txt/x"),
        (closed[5], 3, "a\\b"),
    )
    assert _said(entries) == [
        "",
        "path/conflict/file",
        "path/conflict/folder",
        "lookup_failed/incorrect_offset",
        "lookup_failed/not_closed",
        "lookup_failed/not_found",
        "path/disallowed_name",
        "path/conflict/file_ancestor",
        "path/malformed_path",
    ]
    assert place.names() == ["folder", "hello.txt", "new"]
    assert _said(_finish(place, (closed[1], 3, "hello.txt"), mode=files.WriteMode.overwrite)) == [
        ""
    ]
    assert place.read("hello.txt") == b"123"


def test_two_commits_to_one_name_happen_in_order(place: Place) -> None:
    one, two = start(place.dbx, b"one", close=True), start(place.dbx, b"two!", close=True)
    entries = _finish(place, (one, 3, "name.txt"), (two, 4, "name.txt"), autorename=True)
    first, second = [entry.get_success() for entry in entries]
    assert first.name == "name.txt"
    assert second.name != "name.txt"
    assert place.read("name.txt") == b"one"


def test_a_concurrent_session_with_a_hole_is_not_committed(place: Place) -> None:
    (session,) = _sessions(place.dbx, 1, session_type=CONCURRENT)
    place.dbx.files_upload_session_append_batch(b"e", [_append(session, BLOCK, 1, close=True)])
    assert _said(_finish(place, (session, BLOCK + 1, "x"))) == ["concurrent_session_missing_data"]


def test_an_open_concurrent_session_is_not_committed(place: Place) -> None:
    """Either rule that it breaks may be named: the batch's or the concurrent session's."""
    (session,) = _sessions(place.dbx, 1, session_type=CONCURRENT)
    (said,) = _said(_finish(place, (session, 0, "x")))
    assert said in {"concurrent_session_not_closed", "lookup_failed/not_closed"}


@pytest.mark.embedded
def test_read_only_entries_of_a_batch_are_refused(place: Place) -> None:
    place.shared("ro")
    one, two = start(place.dbx, b"1", close=True), start(place.dbx, b"2", close=True)
    said = _said(_finish(place, (one, 1, "ro/new"), (two, 1, "new")))
    assert said == ["path/no_write_permission", ""]


def test_a_full_account_refuses_what_does_not_fit(
    place: Place, allowance: Callable[[int], None]
) -> None:
    allowance(10)
    large, small = start(place.dbx, bytes(20), close=True), start(place.dbx, b"1", close=True)
    said = _said(_finish(place, (large, 20, "large"), (small, 1, "small")))
    assert said == ["path/insufficient_space", ""]


def test_what_was_committed_is_not_committed_again(place: Place) -> None:
    session = start(place.dbx, b"1", close=True)
    _finish(place, (session, 1, "file"))
    (said,) = _said(_finish(place, (session, 1, "again")))
    assert said in {"lookup_failed/closed", "lookup_failed/not_found"}
    assert place.names() == ["file"]


@pytest.mark.parametrize("count", [0, 1001])
def test_none_or_over_a_thousand_sessions_are_a_malformed_call(
    service: Service, count: int
) -> None:
    bad_call(service.rpc("files/upload_session/start_batch", {"num_sessions": count}))


@pytest.mark.parametrize(("route", "most"), [("append_batch", 500), ("finish_batch_v2", 1000)])
def test_too_many_entries_are_a_malformed_call(service: Service, route: str, most: int) -> None:
    entries = [
        {
            "cursor": {"session_id": UNKNOWN, "offset": 0},
            "length": 0,
            "commit": {"path": f"/{i}"},
        }
        for i in range(most + 1)
    ]
    call = f"files/upload_session/{route}"
    if route == "append_batch":
        for entry in entries:
            del entry["commit"]
        bad_call(service.content(call, {"entries": entries}, b""))
        return
    for entry in entries:
        del entry["length"]
    bad_call(service.rpc(call, {"entries": entries}))
