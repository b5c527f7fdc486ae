"""What the change feed says, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.demo.client import Client


async def test_a_commit_is_reported_after_the_folders_that_it_made(client: Client) -> None:
    cursor = await client.latest()
    await client.upload("/A/b/C.txt", b"x")
    assert await client.changes(cursor) == [
        ("folder", "/a"),
        ("folder", "/a/b"),
        ("file", "/a/b/c.txt"),
    ]


async def test_a_moved_folder_is_a_deletion_and_everything_below_with_its_ids(
    client: Client,
) -> None:
    before = {}
    for name in ("/from/a", "/from/sub/b"):
        before[name] = await client.upload(name, name.encode())
    cursor = await client.latest()
    await client.rpc("files/move_v2", {"from_path": "/from", "to_path": "/to"})
    found = await client.entries(cursor)
    assert [(entry[".tag"], entry["path_lower"]) for entry in found] == [
        ("deleted", "/from"),
        ("folder", "/to"),
        ("file", "/to/a"),
        ("folder", "/to/sub"),
        ("file", "/to/sub/b"),
    ]
    assert [found[2]["id"], found[4]["id"]] == [entry["id"] for entry in before.values()]
    assert found[2]["rev"] != before["/from/a"]["rev"]
    assert found[2]["content_hash"] == before["/from/a"]["content_hash"]


async def test_a_move_may_be_cut_by_the_end_of_a_page(client: Client) -> None:
    await client.upload("/from/a", b"a")
    cursor = await client.latest(limit=1)
    await client.rpc("files/move_v2", {"from_path": "/from", "to_path": "/to"})
    page = await client.rpc("files/list_folder/continue", {"cursor": cursor})
    assert [entry[".tag"] for entry in page["entries"]] == ["deleted"]
    assert page["has_more"]
    assert await client.changes(page["cursor"]) == [("folder", "/to"), ("file", "/to/a")]


async def test_a_deleted_folder_is_one_entry(client: Client) -> None:
    await client.upload("/a/b/c", b"x")
    cursor = await client.latest()
    await client.rpc("files/delete_v2", {"path": "/a"})
    assert await client.changes(cursor) == [("deleted", "/a")]


async def test_a_folder_made_again_was_deleted_before(client: Client) -> None:
    """Else a client would keep what was in the old one."""
    await client.upload("/a/old", b"x")
    cursor = await client.latest()
    await client.rpc("files/delete_v2", {"path": "/a"})
    await client.rpc("files/create_folder_v2", {"path": "/a"})
    assert await client.changes(cursor) == [("deleted", "/a"), ("folder", "/a")]


async def test_only_the_last_state_of_a_path_is_reported(client: Client) -> None:
    cursor = await client.latest()
    for number in range(5):
        await client.upload("/a", b"%d" % number, mode="overwrite")
    (entry,) = await client.entries(cursor)
    assert entry["size"] == 1
    assert await client.download("/a") == b"4"


async def test_a_page_may_be_empty_although_there_is_more(client: Client) -> None:
    cursor = await client.latest(limit=2)
    for number in range(5):
        await client.upload("/a", b"%d" % number, mode="overwrite")
    page = await client.rpc("files/list_folder/continue", {"cursor": cursor})
    assert page["entries"] == []
    assert page["has_more"]


async def test_a_change_of_case_alone_is_not_reported(client: Client) -> None:
    await client.upload("/name", b"x")
    cursor = await client.latest()
    edit = {"op": "move", "from": "/name", "to": "/NAME"}
    (metadata,) = await client.control("edit", [edit])
    assert metadata["name"] == "NAME"
    assert await client.changes(cursor) == []


async def test_a_rename_by_case_is_refused(client: Client) -> None:
    await client.upload("/name", b"x")
    reply = await client.call("files/move_v2", {"from_path": "/name", "to_path": "/NAME"})
    assert reply.status_code == 409
    assert reply.json()["error_summary"].startswith("to/conflict/file/")


async def test_a_listing_goes_on_from_its_snapshot_to_what_changed_meanwhile(
    client: Client,
) -> None:
    for name in "abcdef":
        await client.upload(f"/{name}", name.encode())
    page = await client.rpc("files/list_folder", {"path": "", "recursive": True, "limit": 3})
    assert [entry["name"] for entry in page["entries"]] == ["a", "b", "c"]
    await client.rpc("files/move_v2", {"from_path": "/f", "to_path": "/a2"})
    await client.rpc("files/delete_v2", {"path": "/b"})
    seen = {entry["path_lower"] for entry in page["entries"]}
    for tag, path in await client.changes(page["cursor"]):
        (seen.discard if tag == "deleted" else seen.add)(path)
    assert seen == {"/a", "/a2", "/c", "/d", "/e"}


async def test_a_recursive_listing_of_a_folder_begins_with_the_folder(client: Client) -> None:
    await client.upload("/a/b", b"x")
    page = await client.rpc("files/list_folder", {"path": "/a", "recursive": True})
    assert [entry["path_lower"] for entry in page["entries"]] == ["/a", "/a/b"]


@pytest.mark.parametrize("recursive", [True, False])
async def test_the_feed_of_a_folder_that_went_says_so(client: Client, recursive: bool) -> None:
    await client.upload("/a/b", b"x")
    cursor = await client.latest(path="/a", recursive=recursive)
    await client.rpc("files/delete_v2", {"path": "/a"})
    reply = await client.call("files/list_folder/continue", {"cursor": cursor})
    assert reply.status_code == 409
    assert reply.json()["error"] == {".tag": "path", "path": {".tag": "not_found"}}


async def test_a_listing_of_one_folder_hears_only_of_its_children(client: Client) -> None:
    await client.upload("/a/b/c", b"x")
    cursor = await client.latest(path="/a", recursive=False)
    await client.upload("/a/b/d", b"x")
    await client.upload("/else", b"x")
    await client.upload("/a/e", b"x")
    assert await client.changes(cursor) == [("file", "/a/e")]


async def test_a_reset_invalidates_every_cursor(client: Client) -> None:
    cursor = await client.latest()
    await client.control("reset_cursors", {})
    for route in ("files/list_folder/continue", "files/list_folder/longpoll"):
        headers = {"Authorization": ""} if route.endswith("longpoll") else {}
        reply = await client.call(route, {"cursor": cursor}, **headers)
        assert (reply.status_code, reply.json()["error"]) == (409, {".tag": "reset"})
    assert await client.changes(await client.latest()) == []


async def _longpoll(client: Client, cursor: str) -> Any:
    reply = await client.call("files/list_folder/longpoll", {"cursor": cursor}, Authorization="")
    return reply.json()


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.upload("/a/new", b"x"),
        lambda client: client.control("edit", [{"op": "delete", "path": "/a/old"}]),
    ],
    ids=["commit", "edit-elsewhere"],
)
async def test_a_longpoll_wakes_with_the_change(
    client: Client, change: Callable[[Client], Any]
) -> None:
    await client.upload("/a/old", b"x")
    cursor = await client.latest(path="/a")
    answers = []

    async def wait() -> None:
        answers.append(await _longpoll(client, cursor))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await client.upload("/outside", b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            await change(client)
    assert answers == [{"changes": True}]


async def test_a_longpoll_without_changes_ends_after_its_time(
    client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    cursor = await client.latest()
    begin = trio.current_time()
    assert await _longpoll(client, cursor) == {"changes": False}
    assert trio.current_time() - begin == pytest.approx(30)
