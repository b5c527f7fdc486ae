"""Every call against the embedded Dropbox, over real connections: right, refused and broken."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from dbxfs.api import login
from dbxfs.api.auth import RefreshingToken, StaticToken
from dbxfs.api.client import (
    Add,
    BadRequest,
    Client,
    CursorReset,
    EndpointError,
    IncorrectOffset,
    Overwrite,
    RateLimited,
    ServerTrouble,
    SessionId,
    Settings,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
    Update,
    open_client,
)
from dbxfs.core.content_hash import BLOCK, content_hash
from dbxfs.core.model import (
    ROOT,
    DeletedEntry,
    FileEntry,
    FileId,
    FolderEntry,
    RemotePath,
    Rev,
)
from tests.embedded import Embedded, embedded_dropbox

MODIFIED = 1_600_000_000 * 10**9
A = RemotePath("/a.txt")


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


def connected(
    server: Embedded, auth: httpx.Auth | None = None, **more: Any
) -> AbstractAsyncContextManager[Client]:
    return open_client(Settings.for_url(server.url, auth or StaticToken(server.token), **more))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Embedded]:
    """A server of its own, for what cannot be undone."""
    with embedded_dropbox(tmp_path / "account") as server:
        yield server


@pytest.fixture
async def client(server: Embedded) -> AsyncIterator[Client]:
    async with connected(server) as client:
        yield client


async def put(client: Client, path: str, data: bytes, **more: Any) -> FileEntry:
    return await client.upload(
        RemotePath(path),
        data,
        size=len(data),
        content_hash=content_hash(data),
        **{"mode": Add(), "client_modified_ns": MODIFIED, **more},
    )


async def read(client: Client, ref: str, start: int, length: int) -> bytes:
    async with client.download(RemotePath(ref), start=start, length=length) as download:
        return b"".join([piece async for piece in download])


# Reading ----------------------------------------------------------------------------------------


async def test_the_account_and_its_space(client: Client) -> None:
    account = await client.account()
    assert account.account_id.startswith("dbid:")
    assert "@" in account.email
    assert account.display_name
    assert account.root_namespace == account.home_namespace
    before = await client.space()
    await put(client, "/a.txt", b"12345")
    after = await client.space()
    assert after.allocated == before.allocated > after.used
    assert after.used - before.used == 5


async def test_a_listing_has_every_entry_however_it_is_paged(
    server: Embedded, client: Client
) -> None:
    server.populate("/big", folders=3, files_per_folder=10, size=10)
    page = await client.list_folder(ROOT, recursive=True, limit=7)
    entries = list(page.entries)
    while page.has_more:
        page = await client.list_folder_continue(page.cursor)
        entries += page.entries
    files = [entry for entry in entries if isinstance(entry, FileEntry)]
    folders = [entry for entry in entries if isinstance(entry, FolderEntry)]
    assert len(files) == 30
    assert len(folders) == 4
    top = await client.list_folder(ROOT, recursive=False)
    assert [entry.path for entry in top.entries] == ["/big"]


async def test_changes_follow_a_cursor(server: Embedded, client: Client) -> None:
    cursor = await client.latest_cursor()
    server.edit([{"op": "write", "path": "/New.txt", "text": "x"}])
    page = await client.list_folder_continue(cursor)
    (entry,) = page.entries
    assert isinstance(entry, FileEntry)
    assert (entry.name, entry.path, entry.size) == ("New.txt", "/new.txt", 1)
    server.edit([{"op": "delete", "path": "/New.txt"}])
    page = await client.list_folder_continue(page.cursor)
    assert page.entries == [DeletedEntry(name="New.txt", path=RemotePath("/new.txt"))]


async def test_a_longpoll_ends_with_the_first_change(server: Embedded, client: Client) -> None:
    cursor = await client.latest_cursor()

    async def edit() -> None:
        # Another process's state: there is no event to wait for.
        while not server.counters()["requests"].get("files/list_folder/longpoll"):  # noqa: ASYNC110
            await trio.sleep(0.01)
        server.edit([{"op": "mkdir", "path": "/new"}])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(edit)
        with trio.fail_after(10):
            assert (await client.longpoll(cursor, 30)).changes is True


async def test_metadata_by_path_id_and_revision(client: Client) -> None:
    entry = await put(client, "/Folder/A.txt", b"abc")
    for ref in ("/folder/a.TXT", entry.id, f"rev:{entry.rev}"):
        assert await client.metadata(RemotePath(ref)) == entry
    assert isinstance(await client.metadata(RemotePath("/folder")), FolderEntry)
    with pytest.raises(EndpointError) as caught:
        await client.metadata(RemotePath("/nothing"))
    assert caught.value.has("path", "not_found")


async def test_documents_and_read_only_folders_are_told(server: Embedded, client: Client) -> None:
    server.edit(
        [{"op": "mkdir", "path": "/theirs"}, {"op": "write", "path": "/theirs/f", "text": ""}]
    )
    server.control("shared_folder", {"path": "/theirs", "access": "read_only"})
    server.control("document", {"path": "/plan.paper"})
    page = await client.list_folder(ROOT, recursive=True)
    found = {entry.path: entry for entry in page.entries}
    theirs, document = found[RemotePath("/theirs")], found[RemotePath("/plan.paper")]
    assert isinstance(theirs, FolderEntry)
    assert theirs.read_only
    assert isinstance(document, FileEntry)
    assert (document.downloadable, document.export_as) == (False, "markdown")
    for ref in (document.path, RemotePath(document.id)):
        async with client.export(ref) as export:
            data = b"".join([piece async for piece in export])
        assert data.startswith(b"# plan.paper")
        assert export.entry.size == len(data) != document.size
        assert export.entry.content_hash == content_hash(data) != document.content_hash
    with pytest.raises(EndpointError) as caught:
        await put(client, "/theirs/new", b"x")
    assert caught.value.has("no_write_permission")
    with pytest.raises(EndpointError) as caught:
        await read(client, "/plan.paper", 0, 5)
    assert caught.value.has("unsupported_file")


# Changing ---------------------------------------------------------------------------------------


async def test_folders_are_made_moved_copied_and_deleted(server: Embedded, client: Client) -> None:
    made = await client.create_folder(RemotePath("/One"))
    assert (made.name, made.path) == ("One", "/one")
    with pytest.raises(EndpointError) as caught:
        await client.create_folder(RemotePath("/one"))
    assert caught.value.has("path", "conflict", "folder")
    moved = await client.move(RemotePath("/one"), RemotePath("/two"))
    assert (moved.id, moved.path) == (made.id, "/two")
    copied = await client.copy(RemotePath("/two"), RemotePath("/three"))
    assert copied.id != made.id
    with pytest.raises(EndpointError) as caught:
        await client.move(RemotePath("/two"), RemotePath("/three"))
    assert caught.value.has("to", "conflict", "folder")
    with pytest.raises(EndpointError) as caught:
        await client.move(RemotePath("/one"), RemotePath("/four"))
    assert caught.value.has("from_lookup", "not_found")
    deleted = await client.delete(RemotePath("/two"))
    assert deleted.id == made.id
    with pytest.raises(EndpointError) as caught:
        await client.delete(RemotePath("/two"))
    assert caught.value.has("path_lookup", "not_found")
    assert server.paths() == ["/three"]


async def test_only_the_named_revision_is_deleted(client: Client) -> None:
    first = await put(client, "/a.txt", b"1")
    second = await put(client, "/a.txt", b"2", mode=Update(first.rev))
    with pytest.raises(EndpointError) as caught:
        await client.delete(A, first.rev)
    assert caught.value.has("path_write", "conflict")
    assert (await client.delete(A, second.rev)).id == second.id


async def test_an_upload_arrives_as_it_was_sent(server: Embedded, client: Client) -> None:
    data = bytes(range(256)) * 2000

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    entry = await client.upload(
        RemotePath("/Übung \x7f.bin".replace("\x7f", "…")),
        chunks,
        size=len(data),
        mode=Add(),
        content_hash=content_hash(data),
        client_modified_ns=MODIFIED + 999,
    )
    assert entry.content_hash == content_hash(data)
    assert entry.client_modified_ns == MODIFIED
    assert entry.size == len(data)
    assert server.content("/Übung ….bin") == data


async def test_each_write_mode_does_what_it_says(server: Embedded, client: Client) -> None:
    first = await put(client, "/a.txt", b"1")
    assert (await put(client, "/a.txt", b"1")).rev == first.rev
    second = await put(client, "/a.txt", b"2", mode=Update(first.rev))
    assert second.id == first.id
    beside = await put(client, "/a.txt", b"3", mode=Update(first.rev))
    assert beside.path != second.path
    with pytest.raises(EndpointError) as caught:
        await put(client, "/a.txt", b"4", autorename=False)
    assert caught.value.has("path", "conflict", "file")
    third = await put(client, "/a.txt", b"5", mode=Overwrite())
    assert third.id == first.id
    by_id = await put(client, third.id, b"6", mode=Update(third.rev))
    assert by_id.path == "/a.txt"
    assert server.content("/a.txt") == b"6"
    assert server.content(beside.path) == b"3"


async def test_a_wrong_hash_and_a_full_account_are_refused(
    server: Embedded, client: Client
) -> None:
    with pytest.raises(EndpointError) as caught:
        await client.upload(
            A,
            b"abc",
            size=3,
            mode=Add(),
            content_hash=content_hash(b"abd"),
            client_modified_ns=0,
        )
    assert caught.value.has("content_hash_mismatch")
    space = await client.space()
    server.control("quota", {"allocated": space.used + 2})
    try:
        with pytest.raises(EndpointError) as caught:
            await put(client, "/a.txt", b"abc")
    finally:
        server.control("quota", {"allocated": space.allocated})
    assert caught.value.has("path", "insufficient_space")


@pytest.mark.parametrize("name", ["a\\b", "a ", "x" * 256, "a\udcff", "a\x7f"])
async def test_malformed_names_are_refused_not_crashed_on(client: Client, name: str) -> None:
    path = RemotePath(f"/{name}")
    for refused in (client.create_folder(path), put(client, path, b"x")):
        with pytest.raises((EndpointError, BadRequest)) as caught:
            await refused
        assert not isinstance(caught.value, EndpointError) or caught.value.has("malformed_path")


async def test_a_session_takes_a_file_in_pieces_and_says_where_it_is(
    server: Embedded, client: Client
) -> None:
    data = bytes(range(256)) * (2 * BLOCK // 256) + b"tail"
    session = await client.session_start()
    for start in range(0, len(data), BLOCK):
        piece = data[start : start + BLOCK]
        await client.session_append(session, start, piece, len(piece), content_hash(piece))
    with pytest.raises(IncorrectOffset) as append:
        await client.session_append(session, 5, b"x", 1, content_hash(b"x"))
    assert append.value.correct_offset == len(data)
    with pytest.raises(IncorrectOffset) as finish:
        await client.session_finish(
            session, 5, RemotePath("/big"), Add(), client_modified_ns=MODIFIED
        )
    assert finish.value.correct_offset == len(data)
    entry = await client.session_finish(
        session, len(data), RemotePath("/big"), Add(), client_modified_ns=MODIFIED
    )
    assert entry.content_hash == content_hash(data)
    assert server.content("/big") == data
    with pytest.raises(EndpointError) as caught:
        await client.session_append(SessionId("nobodys"), 0, b"x", 1, content_hash(b"x"))
    assert caught.value.has("not_found")


# Downloads --------------------------------------------------------------------------------------


async def test_ranges_of_a_revision_stay_readable_when_the_file_changes(client: Client) -> None:
    data = bytes(range(256)) * 4096
    entry = await put(client, "/a.txt", data)
    await put(client, "/a.txt", b"other", mode=Update(entry.rev))
    ref = f"rev:{entry.rev}"
    for start, length in ((0, 10), (1000, 300_000), (len(data) - 5, 100), (0, len(data))):
        assert await read(client, ref, start, length) == data[start : start + length]
    async with client.download(RemotePath(ref), start=3, length=4) as download:
        assert download.entry.content_hash == entry.content_hash
        assert download.entry.size == len(data)


async def test_a_download_of_what_is_not_there_is_refused(client: Client) -> None:
    with pytest.raises(EndpointError) as caught:
        await read(client, "/nothing", 0, 1)
    assert caught.value.has("path", "not_found")


async def test_a_range_behind_the_end_is_refused(client: Client) -> None:
    await put(client, "/a.txt", b"abc")
    with pytest.raises((BadRequest, UnexpectedReply)):
        await read(client, "/a.txt", 3, 1)


@pytest.mark.filterwarnings("error::ResourceWarning")
async def test_downloads_left_early_leave_nothing_behind(client: Client) -> None:
    entry = await put(client, "/a.txt", bytes(3_000_000))
    ref = RemotePath(f"rev:{entry.rev}")
    for _ in range(40):
        async with client.download(ref, start=0, length=entry.size) as download:
            await anext(download)
    assert await read(client, ref, 0, 10) == bytes(10)


async def test_one_connection_serves_many_calls_one_after_the_other(server: Embedded) -> None:
    opened = 0

    class Counting(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async def trace(event: str, _info: object) -> None:
                nonlocal opened
                opened += event == "connection.connect_tcp.complete"

            request.extensions = {**request.extensions, "trace": trace}
            return await super().handle_async_request(request)

    settings = Settings.for_url(server.url, StaticToken(server.token))
    async with open_client(settings, transport=Counting()) as client:
        entry = await put(client, "/a.txt", bytes(500_000))
        for start in range(0, 500_000, 100_000):
            await client.metadata(A)
            await read(client, f"rev:{entry.rev}", start, 100_000)
    assert opened == 1


# Trouble ----------------------------------------------------------------------------------------


async def test_a_lost_reply_leaves_doubt_and_the_work_done(
    server: Embedded, client: Client
) -> None:
    server.faults(
        [
            {"route": "files/create_folder_v2", "kind": "lost_reply", "count": 1},
            {"route": "files/upload", "kind": "lost_reply", "count": 1},
        ]
    )
    with pytest.raises(Unreachable) as folder:
        await client.create_folder(RemotePath("/f"))
    with pytest.raises(Unreachable) as file:
        await put(client, "/a.txt", b"abc")
    assert folder.value.doubt
    assert file.value.doubt
    assert server.paths() == ["/a.txt", "/f"]
    assert server.counters()["requests"]["files/upload"] == 1


@pytest.mark.parametrize("kind", ["reset", "lost_reply", "truncate", "garbage"])
async def test_a_read_outlasts_one_broken_reply(
    server: Embedded, client: Client, kind: str
) -> None:
    entry = await put(client, "/a.txt", b"abc")
    server.faults([{"route": "files/get_metadata", "kind": kind, "count": 1}])
    assert await client.metadata(A) == entry
    assert server.counters()["requests"]["files/get_metadata"] == 2


async def test_a_server_that_stalls_is_given_up(server: Embedded) -> None:
    server.faults([{"route": "*", "kind": "stall", "count": None}])
    async with connected(server, read_timeout=0.3, patience=0) as client:
        with trio.fail_after(10), pytest.raises(Unreachable, match="no answer"):
            await client.metadata(A)


@pytest.mark.parametrize("kind", ["truncate", "reset"])
async def test_a_download_cut_short_is_told_and_goes_on_from_there(
    server: Embedded, client: Client, kind: str
) -> None:
    data = bytes(range(256)) * 1000
    entry = await put(client, "/a.txt", data)
    server.faults([{"route": "files/download", "kind": kind, "count": 1}])
    got, doubts = b"", []
    while len(got) < len(data):
        try:
            async with client.download(
                RemotePath(f"rev:{entry.rev}"), start=len(got), length=len(data) - len(got)
            ) as download:
                async for piece in download:
                    got += piece
        except Unreachable as error:
            doubts.append(error.doubt)
    assert got == data
    # A reset comes before the reply's head, and opening is tried again by itself.
    assert doubts == ([False] if kind == "truncate" else [])
    assert server.counters()["requests"]["files/download"] == 2


async def test_a_rate_limit_is_waited_out(server: Embedded, client: Client) -> None:
    server.faults(
        [
            {
                "route": "files/create_folder_v2",
                "kind": "error",
                "status": 429,
                "reason": "too_many_write_operations",
                "retry_after": 1,
                "count": 1,
            }
        ]
    )
    began = trio.current_time()
    await client.create_folder(RemotePath("/f"))
    assert trio.current_time() - began >= 1
    assert server.paths() == ["/f"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 500}, ServerTrouble),
        ({"status": 503, "retry_after": 1}, ServerTrouble),
        ({"status": 429, "reason": "too_many_requests", "retry_after": 5}, RateLimited),
        ({"status": 400}, BadRequest),
    ],
)
async def test_errors_that_last_are_raised_as_what_they_are(
    server: Embedded, client: Client, fault: dict[str, Any], kind: type[Exception]
) -> None:
    server.faults([{"route": "*", "kind": "error", "count": None, **fault}])
    for call in (client.metadata(A, patience=0), client.delete(A, patience=0)):
        with pytest.raises(kind):
            await call


async def test_a_server_that_is_not_there_leaves_no_doubt(server: Embedded) -> None:
    settings = Settings.for_url("http://127.0.0.1:1", StaticToken(server.token), patience=0)
    async with open_client(settings) as client:
        with pytest.raises(Unreachable, match="refused") as caught:
            await client.create_folder(RemotePath("/f"))
    assert not caught.value.doubt


async def test_a_reset_cursor_is_told(server: Embedded, client: Client) -> None:
    cursor = await client.latest_cursor()
    server.control("reset_cursors", {})
    with pytest.raises(CursorReset):
        await client.list_folder_continue(cursor)
    with pytest.raises(CursorReset):
        await client.longpoll(cursor, 30)


# Who we are -------------------------------------------------------------------------------------


async def test_a_foreign_token_is_refused(server: Embedded) -> None:
    async with connected(server, StaticToken("sl.nobody")) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.account()
    assert caught.value.tag == "invalid_access_token"


async def test_tokens_that_expire_are_renewed_under_way(fresh: Embedded) -> None:
    server = fresh
    auth = RefreshingToken(
        server.refresh_token, server.app_key, token_url=f"{server.url}/oauth2/token"
    )
    async with connected(server, auth) as client:
        await put(client, "/a.txt", b"1")
        server.control("expire_tokens", {})
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.metadata, A)
        server.control("expire_tokens", {})
        await put(client, "/b.txt", bytes(300_000))
        requests = server.counters()["requests"]
    assert requests["oauth2/token"] == 3
    assert server.content("/b.txt") == bytes(300_000)


async def test_a_login_with_a_pasted_code_can_be_used(server: Embedded) -> None:
    url, verifier = login.begin(server.app_key, server.url)
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.post(url, data={"decision": "allow"})
    found = re.search(r'value="([^"]+)"', page.text)
    assert found
    token_url = f"{server.url}/oauth2/token"
    with pytest.raises(Unauthorized):
        await login.exchange("mistyped", verifier, server.app_key, token_url=token_url)
    credentials = await login.exchange(found[1], verifier, server.app_key, token_url=token_url)
    auth = RefreshingToken(credentials.refresh_token, server.app_key, token_url=token_url)
    async with connected(server, auth) as client:
        assert (await client.account()).account_id == credentials.account_id


async def test_a_team_root_shows_more_than_the_home(fresh: Embedded) -> None:
    server = fresh
    server.edit([{"op": "write", "path": "/mine.txt", "text": "x"}])
    server.control("team", {"on": True})
    async with connected(server) as client:
        account = await client.account()
        home = await client.list_folder(ROOT, recursive=False)
    assert account.root_namespace != account.home_namespace
    async with connected(server, path_root=account.root_namespace) as client:
        whole = await client.list_folder(ROOT, recursive=False)
    assert "mine.txt" in [entry.name for entry in home.entries]
    assert "mine.txt" not in [entry.name for entry in whole.entries]
    assert any(isinstance(entry, FolderEntry) for entry in whole.entries)


async def test_ids_and_revisions_are_what_the_server_says(server: Embedded, client: Client) -> None:
    entry = await put(client, "/a.txt", b"abc")
    (held,) = server.tree()
    assert (FileId(held["id"]), Rev(held["rev"])) == (entry.id, entry.rev)
    assert held["content_hash"] == entry.content_hash
