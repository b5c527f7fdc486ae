"""files/list_folder/longpoll: the call that waits for changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from dropbox import files

from tests.conformance.place import Place, changes, listed
from tests.conformance.service import Service, bad_call

ROUTE = "files/list_folder/longpoll"
WAKES_WITHIN = 1.5
"""Seconds from a change to the reply: what "fresh" means to a user of the mount."""


def _until(happened: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline, f"did not happen within {within:g} seconds"
        time.sleep(0.01)


def _waiting(place: Place, cursor: str, pool: ThreadPoolExecutor) -> Future[object]:
    """A longpoll that has reached the embedded server and waits there."""

    def begun() -> int:
        return int(place.server.counters()["requests"].get(ROUTE, 0))

    before = begun()
    poll: Future[object] = pool.submit(place.dbx.files_list_folder_longpoll, cursor)
    _until(lambda: begun() > before)
    return poll


def test_changes_that_are_there_are_told_at_once(place: Place) -> None:
    _, cursor = listed(place.dbx, place())
    place.write("new", b"")
    start = time.monotonic()
    assert place.dbx.files_list_folder_longpoll(cursor).changes
    assert time.monotonic() - start < 5


def test_it_needs_no_authorization(place: Place) -> None:
    _, cursor = listed(place.dbx, place())
    place.write("new", b"")
    reply = place.service.rpc(ROUTE, {"cursor": cursor}, host="notify", auth=False)
    assert reply.status_code == 200, reply.text
    assert reply.json()["changes"] is True


def test_a_change_wakes_it(place: Place) -> None:
    _, cursor = listed(place.dbx, place(), recursive=True)
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(place.dbx.files_list_folder_longpoll, cursor)
        new = place.write("new", b"")
        result = poll.result(timeout=30)
    assert isinstance(result, files.ListFolderLongpollResult)
    assert result.changes
    assert changes(place.dbx, cursor)[0] == [new]


@pytest.mark.parametrize(
    "change",
    [
        lambda place: [{"op": "write", "path": place("new"), "text": "x"}],
        lambda place: [{"op": "mkdir", "path": place("new")}],
        lambda place: [{"op": "delete", "path": place("folder/deep")}],
        lambda place: [{"op": "move", "from": place("hello.txt"), "to": place("folder/x")}],
    ],
    ids=["write", "mkdir", "delete", "move"],
)
@pytest.mark.embedded
def test_each_edit_made_elsewhere_wakes_it_soon(
    place: Place, change: Callable[[Place], list[dict[str, str]]]
) -> None:
    _, cursor = listed(place.dbx, place.furnish()(), recursive=True)
    with ThreadPoolExecutor() as pool:
        poll = _waiting(place, cursor, pool)
        assert not poll.done()
        start = time.monotonic()
        place.server.edit(change(place))
        result = poll.result(timeout=WAKES_WITHIN)
    assert isinstance(result, files.ListFolderLongpollResult)
    assert result.changes
    assert time.monotonic() - start < WAKES_WITHIN


@pytest.mark.embedded
def test_many_wait_at_once_and_others_are_served_meanwhile(place: Place) -> None:
    _, cursor = listed(place.dbx, place(), recursive=True)
    with ThreadPoolExecutor() as pool:
        polls = [_waiting(place, cursor, pool) for _ in range(4)]
        assert place.names() == []
        place.write("new", b"")
        results = [poll.result(timeout=WAKES_WITHIN) for poll in polls]
    assert all(getattr(result, "changes", False) for result in results)


@pytest.mark.parametrize("timeout", [29, 481, 0])
def test_a_timeout_out_of_range_is_a_malformed_call(
    service: Service, place: Place, timeout: int
) -> None:
    _, cursor = listed(place.dbx, place())
    arg = {"cursor": cursor, "timeout": timeout}
    bad_call(service.rpc(ROUTE, arg, host="notify", auth=False))


@pytest.mark.last
@pytest.mark.embedded
def test_without_changes_it_ends_after_its_time(
    idle_poll: Future[tuple[files.ListFolderLongpollResult, float]],
) -> None:
    reply, seconds = idle_poll.result(timeout=40)
    assert not reply.changes
    assert 30 <= seconds < 40
