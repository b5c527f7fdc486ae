"""One writer at a time for each namespace, and a service that is lost and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dropbox import files
from dropbox.exceptions import ApiError, RateLimitError

from tests.conformance.place import Place, changes, listed
from tests.conformance.service import refusal, tags
from tests.conformance.test_upload_session import append, finish, start

WRITES: dict[str, Callable[[Place, str], object]] = {
    "upload": lambda place, name: place.dbx.files_upload(b"new", place(f"new/{name}")),
    "create_folder": lambda place, name: place.dbx.files_create_folder_v2(place(f"new/{name}")),
    "delete": lambda place, name: place.dbx.files_delete_v2(place(f"old/{name}")),
    "move": lambda place, name: place.dbx.files_move_v2(place(f"old/{name}"), place(f"new/{name}")),
    "copy": lambda place, name: place.dbx.files_copy_v2(place(f"old/{name}"), place(f"new/{name}")),
}


def _said(call: Callable[[], object], begin: threading.Barrier) -> str:
    """The outcome of a write: "done", or the tag that asks to try again."""
    begin.wait()
    try:
        call()
    except RateLimitError as error:
        return f"429 {tags(error.error.reason)}"
    except ApiError as error:
        return tags(error.error)
    return "done"


@pytest.mark.parametrize("route", WRITES)
def test_writes_at_once_are_refused_and_can_be_tried_again(calm: Place, route: str) -> None:
    names = [f"{i}" for i in range(6)]
    calm.server.edit([{"op": "write", "path": calm(f"old/{name}"), "text": name} for name in names])
    calm.mkdir("new")
    calm.server.network(commit_ms=400)
    begin = threading.Barrier(len(names))
    with ThreadPoolExecutor(len(names)) as pool:
        said = list(pool.map(lambda name: _said(lambda: WRITES[route](calm, name), begin), names))
    calm.server.network()
    assert "done" in said
    refusals = {what for what in said if what != "done"}
    assert refusals
    assert all(what.split("/")[-1].endswith("too_many_write_operations") for what in refusals)
    done = {name for name, what in zip(names, said, strict=True) if what == "done"}
    if route == "delete":
        assert set(calm.names("old")) == set(names) - done
    else:
        assert set(calm.names("new")) == done
    for name in set(names) - done:
        WRITES[route](calm, name)


def test_reads_go_on_while_a_commit_holds_the_namespace(calm: Place) -> None:
    calm.server.network(commit_ms=2000)
    with ThreadPoolExecutor() as pool:
        commit = pool.submit(calm.write, "slow", b"slow")
        assert calm.read("hello.txt") == b"hello"
        assert "hello.txt" in calm.names()
        assert not commit.done()
        calm.server.network()
        assert commit.result(timeout=10).name == "slow"


def test_bytes_of_sessions_come_in_while_a_commit_holds_the_namespace(calm: Place) -> None:
    session = start(calm.dbx, b"12")
    calm.server.network(commit_ms=2000)
    with ThreadPoolExecutor() as pool:
        commit = pool.submit(calm.write, "slow", b"slow")
        append(calm.dbx, session, 2, b"345")
        assert not commit.done()
        commit.result(timeout=10)
    calm.server.network()
    assert finish(calm, session, 5).size == 5


def test_a_batch_holds_the_namespace_once(calm: Place) -> None:
    """Why everything that waits goes into the next batch: its commit costs as much as one."""
    sessions = [start(calm.dbx, b"x", close=True) for _ in range(50)]
    calm.server.network(commit_ms=200)
    args = [
        files.UploadSessionFinishArg(
            files.UploadSessionCursor(session, 1), files.CommitInfo(calm(f"{i}"))
        )
        for i, session in enumerate(sessions)
    ]
    with ThreadPoolExecutor() as pool:
        batch = pool.submit(calm.dbx.files_upload_session_finish_batch_v2, args)
        result = batch.result(timeout=5)
    assert all(entry.is_success() for entry in result.entries)


def _restarted(private: Place, how: str) -> Place:
    if how == "kill":
        private.server.kill()
        private.server.start()
    else:
        private.server.restart()
    return private


@pytest.mark.parametrize("how", ["end", "kill"])
def test_everything_survives_a_restart(private: Place, how: str) -> None:
    dbx = private.furnish().dbx
    old = private.write("changed", b"old")
    private.write("changed", b"new")
    _, cursor = listed(dbx, private(), recursive=True)
    session = start(dbx, b"12345")
    private.dbx.files_delete_v2(private("folder/inner.txt"))
    tree = private.server.tree()

    _restarted(private, how)

    assert private.server.tree() == tree
    assert dbx.files_get_metadata(private("hello.txt")) == private.hello
    assert private.read("hello.txt") == b"hello"
    assert dbx.files_download(f"rev:{old.rev}")[1].content == b"old"
    entries, cursor = changes(dbx, cursor)
    assert [entry.name for entry in entries] == ["inner.txt"]
    append(dbx, session, 5, b"67")
    assert finish(private, session, 7).size == 7
    assert [entry.name for entry in changes(dbx, cursor)[0]] == ["file"]


def test_ids_and_revisions_go_on_after_a_restart(private: Place) -> None:
    before = private.hello
    _restarted(private, "kill")
    after = private.write("after", b"after")
    assert after.id != before.id
    assert int(after.rev, 16) != int(before.rev, 16)
    stale = files.WriteMode.update(after.rev)
    call: Any = lambda: private.dbx.files_upload(b"x", private("hello.txt"), mode=stale)  # noqa: E731
    assert refusal(call) == "path/conflict/file"
