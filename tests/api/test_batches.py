"""Calls with many entries against the embedded Dropbox: each entry succeeds or fails by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from dbxfs.api.auth import StaticToken
from dbxfs.api.batches import Finish, Outcome, Part, refused_route
from dbxfs.api.client import (
    AccessDenied,
    Add,
    BadRequest,
    Client,
    EndpointError,
    SessionId,
    Settings,
    UnexpectedReply,
    Unreachable,
    Update,
    open_client,
)
from dbxfs.core.content_hash import BLOCK, content_hash
from dbxfs.core.model import FileEntry, FolderEntry, RemotePath, Rev
from tests.embedded import Embedded, embedded_dropbox

MODIFIED = 1_600_000_000 * 10**9


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with embedded_dropbox(tmp_path_factory.mktemp("account")) as server:
        yield server


@pytest.fixture
def server(running: Embedded) -> Iterator[Embedded]:
    """The same server for all, each time empty and well-behaved."""
    tops = [entry["path"] for entry in running.tree() if entry["path"].count("/") == 1]
    running.edit([{"op": "delete", "path": path} for path in tops])
    running.reset_counters()
    yield running
    running.faults()


@pytest.fixture
async def client(server: Embedded) -> AsyncIterator[Client]:
    settings = Settings.for_url(server.url, StaticToken(server.token))
    async with open_client(settings) as client:
        yield client


def paths(*names: str) -> list[RemotePath]:
    return [RemotePath(name) for name in names]


def told(outcomes: list[Outcome]) -> list[str]:
    """The path of each entry, or the tags of its refusal."""
    return [
        "/".join(outcome.tags) if isinstance(outcome, EndpointError) else outcome.path
        for outcome in outcomes
    ]


def write(server: Embedded, *names: str) -> None:
    server.edit([{"op": "write", "path": name, "text": name} for name in names])


async def test_folders_are_made_and_the_one_that_is_there_is_told(
    server: Embedded, client: Client
) -> None:
    write(server, "/b")
    made = await client.create_folders(paths("/a", "/b", "/c/d"))
    assert told(made) == ["/a", "path/conflict/file", "/c/d"]
    assert isinstance(made[0], FolderEntry)
    assert server.paths() == ["/a", "/b", "/c", "/c/d"]


async def test_a_batch_that_becomes_a_job_is_waited_for(server: Embedded, client: Client) -> None:
    made = await client.create_folders(paths(*(f"/many/{number}" for number in range(300))))
    assert told(made) == [f"/many/{number}" for number in range(300)]
    assert server.counters()["requests"]["files/create_folder_batch"] == 1
    assert server.counters()["requests"]["files/create_folder_batch/check"] >= 1


async def test_files_are_deleted_in_the_revision_that_was_meant(
    server: Embedded, client: Client
) -> None:
    write(server, "/old", "/changed")
    changed = await client.metadata(RemotePath("/changed"))
    assert isinstance(changed, FileEntry)
    server.edit([{"op": "write", "path": "/changed", "text": "again"}])
    gone = await client.delete_batch(
        [
            (RemotePath("/old"), None),
            (RemotePath("/changed"), changed.rev),
            (RemotePath("/nothing"), None),
        ]
    )
    assert told(gone) == ["/old", "path_write/conflict/file", "path_lookup/not_found"]
    assert server.paths() == ["/changed"]


async def test_moves_and_copies_keep_to_their_own_fates(server: Embedded, client: Client) -> None:
    write(server, "/a", "/b", "/taken")
    a = await client.metadata(RemotePath("/a"))
    moved = await client.move_batch(
        [
            (RemotePath(a.id), RemotePath("/moved")),
            (RemotePath("/b"), RemotePath("/taken")),
            (RemotePath("/nothing"), RemotePath("/n")),
        ]
    )
    assert told(moved) == ["/moved", "to/conflict/file", "from_lookup/not_found"]
    assert not isinstance(moved[0], EndpointError)
    assert moved[0].id == a.id
    copied = await client.copy_batch(
        [(RemotePath("/b"), RemotePath("/c")), (RemotePath("/moved"), RemotePath("/d"))]
    )
    assert told(copied) == ["/c", "/d"]
    assert server.content("/d") == b"/a"


async def test_many_files_go_in_three_requests(server: Embedded, client: Client) -> None:
    bodies = [b"", b"one", b"two" * 1000]
    sessions = await client.start_sessions(3)
    whole = b"".join(bodies)
    parts = [
        Part(session, 0, len(body), close=True)
        for session, body in zip(sessions, bodies, strict=True)
    ]
    assert await client.append_batch(parts, whole, content_hash(whole)) == [None, None, None]
    finishes = [
        Finish(session, len(body), RemotePath(f"/f/{len(body)}"), Add(), MODIFIED)
        for session, body in zip(sessions, bodies, strict=True)
    ]
    entries = await client.finish_batch(finishes)
    assert told(entries) == ["/f/0", "/f/3", "/f/3000"]
    assert isinstance(entries[2], FileEntry)
    assert entries[2].content_hash == content_hash(bodies[2])
    assert entries[2].client_modified_ns == MODIFIED
    assert server.content("/f/3000") == bodies[2]
    assert sum(server.counters()["requests"].values()) == 3


async def test_one_bad_part_and_one_bad_commit_leave_the_others_alone(
    server: Embedded, client: Client
) -> None:
    write(server, "/folder/x")
    good, bad = await client.start_sessions(2)
    refused = await client.append_batch(
        [Part(good, 0, 1, close=True), Part(bad, 7, 1, close=True)], b"ab", content_hash(b"ab")
    )
    assert refused[0] is None
    assert refused[1] is not None
    assert refused[1].has("incorrect_offset")
    outcomes = await client.finish_batch(
        [
            Finish(good, 1, RemotePath("/good"), Update(Rev("0" * 16)), MODIFIED),
            Finish(SessionId("nobodys"), 1, RemotePath("/bad"), Add(), MODIFIED),
        ]
    )
    assert told(outcomes) == ["/good", "lookup_failed/not_found"]


async def test_a_concurrent_session_takes_its_parts_in_any_order(
    server: Embedded, client: Client
) -> None:
    data = bytes(range(256)) * (BLOCK // 256) + b"tail"
    session = await client.session_start(concurrent=True)
    await client.session_append(session, BLOCK, b"tail", 4, content_hash(b"tail"), close=True)
    head = data[:BLOCK]
    await client.session_append(session, 0, head, BLOCK, content_hash(head))
    entry = await client.session_finish(
        session, len(data), RemotePath("/big"), Add(), client_modified_ns=MODIFIED
    )
    assert entry.content_hash == content_hash(data)


async def test_a_lost_reply_leaves_doubt_about_all(server: Embedded, client: Client) -> None:
    server.faults([{"route": "files/create_folder_batch", "kind": "lost_reply", "count": 1}])
    with pytest.raises(Unreachable) as caught:
        await client.create_folders(paths("/a", "/b"))
    assert caught.value.doubt
    assert server.paths() == ["/a", "/b"]


async def test_a_job_whose_check_fails_leaves_doubt(server: Embedded, client: Client) -> None:
    write(server, "/a", "/b")
    server.faults([{"route": "files/delete_batch/check", "kind": "garbage"}])
    with pytest.raises(UnexpectedReply) as caught:
        await client.delete_batch([(path, None) for path in paths("/a", "/b")])
    assert caught.value.doubt
    assert server.paths() == []


def test_a_route_that_is_not_there_is_told_from_other_refusals() -> None:
    assert refused_route(AccessDenied(("route_access_denied",), ""))
    assert refused_route(BadRequest("Unknown API function: files/start_batch"))
    assert not refused_route(BadRequest("could not decode input as JSON"))
    assert not refused_route(AccessDenied(("paper_access_denied",), ""))
