"""The feed's task against a client whose every answer the test gives, on a real database.

`asked()` is the next call that the feed makes; until `answer` it waits. So each test knows exactly
where the feed is, and needs no waiting for time.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from dbxfs.api.client import Client, Longpoll
from dbxfs.api.errors import CursorReset, RateLimited, Unreachable
from dbxfs.core.model import (
    ROOT,
    Account,
    Cursor,
    DeletedEntry,
    Entry,
    FileEntry,
    FileId,
    FolderEntry,
    Page,
    RemotePath,
    Rev,
)
from dbxfs.store.database import Database
from dbxfs.store.inode import ROOT_INO, Effect
from dbxfs.store.remote import RemoteChanges
from dbxfs.store.tree import Tree
from dbxfs.sync.feed import Feed, WrongAccountError
from dbxfs.sync.programs import Programs

MINE = "dbid:mine"
NOTHING_NEW = Longpoll(changes=False, backoff=0.0)
CHANGES = Longpoll(changes=True, backoff=0.0)

Call = tuple[str, str]
Answer = Page | Longpoll | Exception


def folder(name: str) -> FolderEntry:
    return FolderEntry(id=FileId(f"id:{name}"), name=name, path=RemotePath(f"/{name}"))


def file(name: str, rev: str = "a1") -> FileEntry:
    return FileEntry(
        id=FileId(f"id:{name}"),
        name=name,
        path=RemotePath(f"/{name}"),
        rev=Rev(rev),
        size=3,
        content_hash=None,
        client_modified_ns=0,
        server_modified_ns=0,
    )


def gone(name: str) -> DeletedEntry:
    return DeletedEntry(name=name, path=RemotePath(f"/{name}"))


def page(cursor: str, *entries: Entry, more: bool = False) -> Page:
    return Page(entries=list(entries), cursor=Cursor(cursor), has_more=more)


class FakeClient:
    """The calls that the feed makes, one after the other."""

    def __init__(self, account: str = MINE) -> None:
        self._account = account
        self._calls_in, self._calls = trio.open_memory_channel[Call](math.inf)
        self._answers_in, self._answers = trio.open_memory_channel[Answer](math.inf)

    async def asked(self) -> Call:
        return await self._calls.receive()

    def nothing_asked(self) -> bool:
        return self._calls.statistics().current_buffer_used == 0

    def answer(self, answer: Answer) -> None:
        self._answers_in.send_nowait(answer)

    async def account(self, *, patience: float | None = None) -> Account:
        await trio.lowlevel.checkpoint()
        return Account(
            account_id=self._account,
            email="somebody@example.org",
            display_name="Somebody",
            root_namespace="1",
            home_namespace="1",
        )

    async def list_folder(
        self,
        path: RemotePath,
        *,
        recursive: bool,
        templates: Sequence[str] = (),
        patience: float | None = None,
    ) -> Page:
        assert recursive
        return cast(Page, await self._call("list", path))

    async def list_folder_continue(
        self, cursor: Cursor, *, templates: Sequence[str] = (), patience: float | None = None
    ) -> Page:
        return cast(Page, await self._call("continue", cursor))

    async def longpoll(self, cursor: Cursor, timeout: int = 60) -> Longpoll:  # noqa: ASYNC109
        return cast(Longpoll, await self._call("poll", cursor))

    async def _call(self, route: str, argument: str) -> Page | Longpoll:
        self._calls_in.send_nowait((route, argument))
        answer = await self._answers.receive()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Follower:
    """A feed with its tree, as a daemon that has just started on this database."""

    def __init__(self, database: Database, account: str = MINE) -> None:
        ticks = itertools.count(1)
        self.tree = Tree(database, lambda: next(ticks), ROOT)
        self.changes = RemoteChanges(self.tree)
        self.client = FakeClient(account)
        self.turn = trio.Lock()
        self.effects: list[Effect] = []
        self.connections = 0
        self.feed = Feed(
            cast(Client, self.client),
            self.changes,
            self.turn,
            self.effects.extend,
            self._connected,
            Programs(),
            account=MINE,
        )

    def _connected(self) -> None:
        self.connections += 1

    def names(self) -> set[str]:
        return {child.name for child in self.tree.children(ROOT_INO)}

    def ino(self, name: str) -> int:
        inode = self.tree.child(ROOT_INO, name)
        assert inode is not None
        return inode.ino

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeClient]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.feed.run)
            yield self.client
            nursery.cancel_scope.cancel()

    async def exchange(self, expected: Call, answer: Answer) -> None:
        assert await self.client.asked() == expected
        self.client.answer(answer)

    async def follow(self, *entries: Entry) -> None:
        """From the start to the open longpoll after cursor "c1"."""
        await self.exchange(("list", ""), page("c1", *entries))
        await self.exchange(("continue", "c1"), page("c1"))
        assert await self.client.asked() == ("poll", "c1")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def database(state: Path) -> Iterator[Database]:
    with closing(Database(state / "tree.db")) as database:
        yield database


# ---- Following ----


async def test_a_crawl_comes_first_and_then_one_longpoll(database: Database) -> None:
    follower = Follower(database)
    async with follower.running():
        await follower.exchange(("list", ""), page("c1", folder("a"), more=True))
        await follower.exchange(("continue", "c1"), page("c2", file("b"), more=True))
        assert await follower.client.asked() == ("continue", "c2")
        assert follower.names() == {"a", "b"}
        assert not follower.changes.complete
        follower.client.answer(page("c3", file("c")))
        await follower.exchange(("poll", "c3"), CHANGES)
        assert follower.changes.complete
        await follower.exchange(("continue", "c3"), page("c4", gone("b"), file("d")))
        await follower.exchange(("poll", "c4"), NOTHING_NEW)
        assert await follower.client.asked() == ("poll", "c4")
        assert follower.names() == {"a", "c", "d"}
        assert follower.changes.cursor == "c4"


async def test_the_kernel_is_told_what_a_page_makes_stale(database: Database) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow(file("a"))
        follower.effects.clear()
        client.answer(CHANGES)
        await follower.exchange(("continue", "c1"), page("c2", gone("a")))
        assert await client.asked() == ("poll", "c2")
        assert any(getattr(effect, "name", None) == "a" for effect in follower.effects)


async def test_a_kill_between_two_pages_goes_on_by_the_cursor(
    database: Database, state: Path, tmp_path: Path
) -> None:
    first = Follower(database)
    later = tmp_path / "later"
    async with first.running():
        await first.exchange(("list", ""), page("c1", folder("a"), more=True))
        await first.exchange(("continue", "c1"), page("c2", file("b"), more=True))
        assert await first.client.asked() == ("continue", "c2")
        a, b = first.ino("a"), first.ino("b")
        # What a kill leaves at this moment: nothing is closed or flushed.
        shutil.copytree(state, later)
    with closing(Database(later / "tree.db")) as reopened:
        second = Follower(reopened)
        assert second.names() == {"a", "b"}
        async with second.running():
            await second.exchange(("continue", "c2"), page("c3", file("c")))
            assert await second.client.asked() == ("poll", "c3")
            assert second.names() == {"a", "b", "c"}
            assert (second.ino("a"), second.ino("b")) == (a, b)
            assert second.changes.complete


async def test_after_a_restart_it_looks_for_changes_before_it_waits(database: Database) -> None:
    first = Follower(database)
    async with first.running():
        await first.follow(file("a"))
    second = Follower(database)
    async with second.running():
        await second.exchange(("continue", "c1"), page("c2", file("b")))
        assert await second.client.asked() == ("poll", "c2")
        assert second.names() == {"a", "b"}


@pytest.mark.parametrize("at", ["poll", "continue"])
async def test_a_reset_begins_a_crawl_and_keeps_the_tree(database: Database, at: str) -> None:
    follower = Follower(database)
    reset = CursorReset(("reset",), "reset/")
    async with follower.running() as client:
        await follower.follow(folder("a"), file("b"))
        kept = follower.ino("a")
        if at == "continue":
            client.answer(CHANGES)
            assert await client.asked() == ("continue", "c1")
        client.answer(reset)
        assert await client.asked() == ("list", "")
        assert follower.names() == {"a", "b"}
        assert follower.changes.crawling
        client.answer(page("d1", folder("a"), more=True))
        assert await client.asked() == ("continue", "d1")
        assert follower.names() == {"a", "b"}, "gone before the crawl had ended"
        client.answer(page("d2", file("c")))
        assert await client.asked() == ("poll", "d2")
        assert follower.names() == {"a", "c"}
        assert follower.ino("a") == kept


async def test_a_page_waits_for_the_turn(database: Database) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow()
        async with follower.turn:
            client.answer(CHANGES)
            await trio.testing.wait_all_tasks_blocked()
            assert client.nothing_asked()
        assert await client.asked() == ("continue", "c1")


async def test_catching_up_interrupts_the_longpoll_and_ends_when_all_is_applied(
    database: Database,
) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow()
        done = trio.Event()

        async def catch_up() -> None:
            await follower.feed.catch_up()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch_up)
            await follower.exchange(("continue", "c1"), page("c2", file("a"), more=True))
            assert await client.asked() == ("continue", "c2")
            assert not done.is_set()
            client.answer(page("c3", file("b")))
            await done.wait()
            assert follower.names() == {"a", "b"}


async def test_who_asks_to_catch_up_during_a_page_gets_another_look(database: Database) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow()
        client.answer(CHANGES)
        assert await client.asked() == ("continue", "c1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.feed.catch_up)
            await trio.testing.wait_all_tasks_blocked()
            # This reply may have left Dropbox before the call.
            client.answer(page("c2"))
            assert await client.asked() == ("continue", "c2")
            assert len(nursery.child_tasks) == 1
            client.answer(page("c3"))
        assert follower.changes.cursor == "c3"


# ---- Time: the clock stands, and goes on only when the test says so ----


async def test_the_backoff_of_a_longpoll_is_kept(
    database: Database, mock_clock: trio.testing.MockClock
) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow()
        client.answer(Longpoll(changes=True, backoff=40.0))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(39.9)
        await trio.testing.wait_all_tasks_blocked()
        assert client.nothing_asked()
        mock_clock.jump(0.2)
        assert await client.asked() == ("continue", "c1")


async def test_a_longpoll_that_answers_at_once_and_in_vain_is_not_opened_without_pause(
    database: Database, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow()
        client.answer(CHANGES)
        await follower.exchange(("continue", "c1"), page("c1"))
        await follower.exchange(("poll", "c1"), CHANGES)
        await follower.exchange(("continue", "c1"), page("c1"))
        began = trio.current_time()
        assert await client.asked() == ("poll", "c1")
        assert trio.current_time() - began == 2


async def test_a_reset_after_a_reset_waits(
    database: Database, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    follower = Follower(database)
    reset = CursorReset(("reset",), "reset/")
    async with follower.running() as client:
        await follower.follow()
        client.answer(reset)
        await follower.exchange(("list", ""), page("d1", more=True))
        await follower.exchange(("continue", "d1"), reset)
        began = trio.current_time()
        assert await client.asked() == ("list", "")
        assert trio.current_time() - began == 1


async def test_it_comes_back_when_dropbox_said(
    database: Database, mock_clock: trio.testing.MockClock
) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        await follower.follow()
        client.answer(RateLimited("too_many_requests", retry_after=50.0))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(49.9)
        await trio.testing.wait_all_tasks_blocked()
        assert client.nothing_asked()
        mock_clock.jump(0.2)
        assert await client.asked() == ("continue", "c1")


async def test_trouble_is_told_and_cleared_and_so_is_each_connection(
    database: Database, mock_clock: trio.testing.MockClock
) -> None:
    follower = Follower(database)
    async with follower.running() as client:
        assert await client.asked() == ("list", "")
        assert follower.connections == 0
        client.answer(page("c1"))
        await follower.exchange(("continue", "c1"), page("c1"))
        assert await client.asked() == ("poll", "c1")
        assert follower.connections == 1
        assert follower.feed.trouble is None
        for _ in range(3):
            client.answer(Unreachable("no route to host", doubt=False))
            await trio.testing.wait_all_tasks_blocked()
            assert follower.feed.trouble is not None
            assert "no route to host" in follower.feed.trouble
            mock_clock.jump(31)
            # After trouble it looks at once, for it may have missed something.
            assert await client.asked() == ("continue", "c1")
        assert follower.connections == 1
        client.answer(page("c2"))
        assert await client.asked() == ("poll", "c2")
        assert follower.feed.trouble is None
        assert follower.connections == 2


# ---- Whose Dropbox it is ----


async def test_another_account_is_refused_before_anything_is_applied(database: Database) -> None:
    follower = Follower(database, "dbid:another")
    with pytest.raises(WrongAccountError, match=r"somebody@example\.org"):
        with trio.fail_after(10):
            await follower.feed.run()
    assert follower.client.nothing_asked()
    assert follower.names() == set()
    assert follower.connections == 0


async def test_another_account_leaves_the_tree_of_the_first_as_it_is(database: Database) -> None:
    first = Follower(database)
    async with first.running():
        await first.follow(folder("a"))
    other = Follower(database, "dbid:another")
    with pytest.raises(WrongAccountError):
        with trio.fail_after(10):
            await other.feed.run()
    assert other.client.nothing_asked()
    assert other.names() == {"a"}
    assert other.changes.cursor == "c1"
    assert not other.changes.crawling
