"""What programs do while contents are on their way: the real steps and uploads, over a fake.

`Calls` is Dropbox as the tasks see it; a test says what happens in the moment of a call.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from dbxfs.api.batches import Finish, Outcome, Part
from dbxfs.api.client import Client, EndpointError, SessionId, Unreachable
from dbxfs.api.errors import AccessDenied, ServerTrouble
from dbxfs.core import plan
from dbxfs.core.batching import Member
from dbxfs.core.content_hash import BLOCK, content_hash
from dbxfs.core.model import FileEntry
from dbxfs.store.blocks import BlockCache
from dbxfs.store.sessions import Sessions
from dbxfs.store.staged import StagedFile
from dbxfs.sync import uploader as uploading
from dbxfs.sync.fetcher import Fetcher
from dbxfs.sync.programs import Programs
from dbxfs.sync.replicator import Replicator
from dbxfs.sync.steps import ChangedMeanwhileError, GoesOnError, Outcomes, Steps
from dbxfs.sync.switch import Switch
from dbxfs.sync.timetable import CEILING, Timetable
from dbxfs.sync.uploader import Uploader
from dbxfs.sync.uploads import Uploads
from dbxfs.sync.version import Version
from tests.fakes import FakeDropbox, entry_of, refusal
from tests.store.mount import Mount

MANY = 30
"""More than are noted without a pause for programs."""


class Calls:
    """The client's calls for contents and deletions, over a `FakeDropbox`."""

    def __init__(self, dropbox: FakeDropbox) -> None:
        self.dropbox = dropbox
        self.bytes: dict[str, bytearray] = {}
        self.bodies: list[int] = []
        """How many files were in each body with others'."""
        self.refusal: EndpointError | None = None
        """The answer to all of the next batch that is finished."""
        self.closed: set[str] = set()

    async def session_start(self, *, concurrent: bool = False) -> SessionId:
        await trio.lowlevel.checkpoint()
        ident = f"session {len(self.bytes)}"
        self.bytes[ident] = bytearray()
        return SessionId(ident)

    async def start_sessions(self, count: int) -> list[SessionId]:
        return [await self.session_start() for _ in range(count)]

    async def append_batch(
        self, parts: Sequence[Part], chunks: bytes, content_hash: str
    ) -> list[EndpointError | None]:
        await trio.lowlevel.checkpoint()
        at = 0
        for part in parts:
            self.bytes[part.session] += chunks[at : at + part.length]
            at += part.length
        self.bodies.append(len(parts))
        return [None for _ in parts]

    async def session_append(
        self, session: str, offset: int, chunks: Any, *, size: int, content_hash: str, close: bool
    ) -> None:
        body = self.bytes[session]
        body.extend(bytes(max(0, offset + size - len(body))))
        at = offset
        async for piece in chunks():
            body[at : at + len(piece)] = piece
            at += len(piece)
        if close:
            self.closed.add(session)

    async def session_finish(
        self, session: str, offset: int, path: str, *, mode: Any, **_: Any
    ) -> FileEntry:
        if session not in self.closed:
            raise refusal("concurrent_session_not_closed")
        node = self.dropbox.upload(path, bytes(self.bytes[session]), mode)
        return cast(FileEntry, entry_of(node))

    async def finish_batch(self, entries: Sequence[Finish]) -> list[Outcome]:
        if self.refusal is not None:
            refused, self.refusal = self.refusal, None
            return [refused for _ in entries]
        return [
            entry_of(self.dropbox.upload(e.path, bytes(self.bytes[e.session]), e.mode))
            for e in entries
        ]

    async def upload(
        self, path: str, chunks: bytes, *, mode: Any, patience: float, **_: Any
    ) -> FileEntry:
        return cast(FileEntry, entry_of(self.dropbox.upload(path, chunks, mode)))

    async def delete_batch(self, entries: Sequence[tuple[str, str | None]]) -> list[Outcome]:
        raise NotImplementedError

    async def delete(self, path: str, parent_rev: str | None, *, patience: float) -> Any:
        return entry_of(self.dropbox.delete(path, parent_rev))


class Reader:
    """The fetcher's part in filling in what nobody wrote."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self.meanwhile: Callable[[], None] = lambda: None
        self.beginnings: set[bytes] = set()

    async def read(self, version: Version, start: int, length: int, _: object) -> bytes:
        await trio.lowlevel.checkpoint()
        self.meanwhile()
        return self._mount.dropbox.contents[version.rev][start : start + length]

    def note(self, version: Version) -> None:
        pass

    async def begins_something(self, digest: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        return digest in self.beginnings

    def forget(self, reader: object) -> None:
        """Nothing is kept."""


class Sender:
    """One mount with its steps and uploads."""

    def __init__(self, mount: Mount, cache: BlockCache) -> None:
        self.mount, self.cache = mount, cache
        self.calls = Calls(mount.dropbox)
        self.reader = Reader(mount)
        client = cast(Client, self.calls)
        switch = Switch(mount.database)
        self.uploader = Uploader(
            client, cast(Fetcher, self.reader), Sessions(mount.database), switch
        )
        self.caught_up: Callable[[], Any] = self._follow
        self.steps = Steps(
            client,
            mount.tree,
            mount.journal,
            trio.Lock(),
            mount._stale,
            lambda: self.caught_up(),
            mount.attributes,
        )
        self.uploads = Uploads(
            client,
            mount.tree,
            mount.journal,
            mount.staging,
            self.uploader,
            self.steps,
            cache,
            mount.attributes,
        )
        mount.tree.in_use = self.steps.is_committing
        mount.tree.on_pending = lambda ino: self.times.changed(ino) if self.runs else None
        self.runs = False
        self.times = Timetable(switch)
        self.replicator = Replicator(
            mount.tree,
            mount.journal,
            mount.staging,
            self.steps,
            self.uploads,
            switch,
            Programs(),
            self.times,
        )

    async def _follow(self) -> None:
        self.mount.follow()

    def member(self, ino: int) -> Member:
        call = self.mount.step(ino)
        assert not isinstance(call, plan.Done | plan.After | plan.Hold)
        return Member(ino, call)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The replicator at work; what it does beside contents is done by the mount itself."""

        async def carry_out(members: Sequence[Member]) -> Outcomes:
            await trio.lowlevel.checkpoint()
            for member in members:
                self.mount._carry_out(member.ino, member.call)
            return {}

        self.steps.carry_out = carry_out  # type: ignore[method-assign]
        self.runs = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.replicator.run)
            yield
            nursery.cancel_scope.cancel()
        self.runs = False

    async def send(self, inos: Sequence[int]) -> Outcomes:
        return await self.uploads.send([self.member(ino) for ino in inos])

    async def carry_out(self, ino: int) -> Outcomes:
        return await self.steps.carry_out([self.member(ino)])


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    mount = Mount(tmp_path, FakeDropbox())
    mount.follow()
    (tmp_path / "cache").mkdir()
    cache = BlockCache(tmp_path / "cache", 1 << 24)
    yield Sender(mount, cache)
    mount.tree.in_use = lambda ino: False
    mount.check()
    cache.close()
    mount.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What threads do takes no time, so that a clock that jumps does not overtake them."""

    async def run_sync(do: Callable[..., object], *args: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return do(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


def growing(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> StagedFile:
    """A file of five blocks that a program still writes to."""
    monkeypatch.setattr(uploading, "EARLY_PART", 2 * BLOCK)
    ino = mount.write("/growing", b"")
    staged = mount.staging.begin(mount.tree.get(ino))
    staged.write(0, bytes(5 * BLOCK), mount.clock())
    return staged


def _meanwhile(sender: Sender, action: Callable[[], None]) -> None:
    """Do something between the first notes of what is about to be sent and the last ones."""
    note, noted = sender.mount.journal.sending, 0

    def sending(ino: int, content_hash: str | None) -> None:
        nonlocal noted
        note(ino, content_hash)
        noted += 1
        if noted == 1:
            sender.mount.database.after_commit(action)

    sender.mount.journal.sending = sending  # type: ignore[method-assign]


async def test_regression_renamed_while_a_large_batch_is_about_to_be_committed(
    sender: Sender,
) -> None:
    mount = sender.mount
    mount.write("/report", b"old")
    mount.settle()
    inos = [mount.write(f"/{number}.tmp", b"%d" % number) for number in range(MANY)]
    _meanwhile(sender, lambda: mount.rename(f"/{MANY - 1}.tmp", "/report"))
    await sender.send(inos)
    mount.settle()
    wanted: dict[str, bytes | None] = {f"/{n}.tmp": b"%d" % n for n in range(MANY - 1)}
    wanted["/report"] = b"%d" % (MANY - 1)
    assert mount.paths() == mount.dropbox.tree() == wanted


async def test_regression_removed_while_a_large_batch_is_about_to_be_committed(
    sender: Sender,
) -> None:
    mount = sender.mount
    inos = [mount.write(f"/{number}", b"%d" % number) for number in range(MANY)]
    _meanwhile(sender, lambda: void(mount.unlink(f"/{MANY - 1}")))
    failed = await sender.send(inos)
    assert not failed.keys() - inos[-1:], "the others have nothing to do with it"
    mount.settle()
    assert mount.paths() == mount.dropbox.tree() == {f"/{n}": b"%d" % n for n in range(MANY - 1)}


def void(_: object) -> None:
    """An action's result is not wanted."""


async def test_regression_answers_that_could_not_be_stored_keep_their_bytes(
    sender: Sender,
) -> None:
    mount = sender.mount
    inos = [mount.write(f"/{number}", b"%d" % number) for number in range(4)]
    confirm = mount.journal.confirm_upload

    def full(ino: int, *args: Any, **kwargs: Any) -> Any:
        if ino == inos[-1]:
            raise OSError(28, "No space left on device")
        return confirm(ino, *args, **kwargs)

    mount.journal.confirm_upload = full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space"):
        await sender.send(inos)
    mount.journal.confirm_upload = confirm  # type: ignore[method-assign]
    mount.restart()
    mount.settle()
    assert mount.paths() == mount.dropbox.tree() == {f"/{n}": b"%d" % n for n in range(4)}


@pytest.mark.parametrize(
    ("reason", "bodies"),
    [("too_many_write_operations", [MANY, 3]), ("lookup_failed", [MANY, MANY])],
)
async def test_only_the_commit_is_repeated_where_that_was_refused(
    sender: Sender, reason: str, bodies: list[int]
) -> None:
    mount = sender.mount
    inos = [mount.write(f"/{number}", b"%d" % number) for number in range(MANY)]
    sender.calls.refusal = refusal(reason)
    assert set(await sender.send(inos)) == set(inos)
    for number in range(3):
        mount.write(f"/{number}", b"changed %d" % number)
    assert await sender.send(inos) == {}
    assert sender.calls.bodies == bodies
    mount.settle()
    wanted = {f"/{n}": b"%d" % n if n > 2 else b"changed %d" % n for n in range(MANY)}
    assert mount.paths() == mount.dropbox.tree() == wanted


async def test_regression_what_was_just_committed_is_not_fetched_before_it_is_in_the_cache(
    sender: Sender,
) -> None:
    mount, cache = sender.mount, sender.cache
    contents = [b"one", b"two"]
    inos = [mount.write(f"/{content.decode()}", content) for content in contents]
    put, found = cache.put_file, []

    def put_file(content: str, path: Path, *, pinned: bool = False) -> None:
        found.append([cache.get(content_hash(each), 0) for each in contents])
        put(content, path, pinned=pinned)

    cache.put_file = put_file  # type: ignore[method-assign]
    assert await sender.send(inos) == {}
    assert found == [contents, contents]
    cache.drop(content_hash(b"one"), [0])
    assert [cache.get(content_hash(each), 0) for each in contents] == [None, b"two"]


async def test_regression_where_sessions_cannot_be_committed_the_bytes_go_with_the_commit(
    sender: Sender,
) -> None:
    mount = sender.mount
    inos = [mount.write(f"/{number}", b"%d" % number) for number in range(5)]

    async def refuse(*_: Any, **__: Any) -> None:
        raise AccessDenied(("route_access_denied",), "")

    sender.calls.finish_batch = refuse  # type: ignore[assignment]
    sender.calls.session_finish = refuse  # type: ignore[assignment]
    with pytest.raises(AccessDenied):
        await sender.send(inos)
    for ino in inos:
        assert await sender.send([ino]) == {}
    mount.settle()
    assert mount.paths() == mount.dropbox.tree() == {f"/{n}": b"%d" % n for n in range(5)}


async def test_regression_removed_while_it_is_brought_here(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row came back and named a file that was gone."""
    mount = sender.mount
    mount.dropbox.write("/f", b"first version")
    mount.follow()
    ino = mount.ino("/f")
    mount.rename("/f", "/.~f")
    staged = mount.staging.begin(mount.tree.get(ino))
    sync, synced = staged.sync, 0

    def remove_after_the_second() -> None:
        nonlocal synced
        sync()
        synced += 1
        if synced == 2:
            trio.from_thread.run_sync(mount.unlink, "/.~f")

    monkeypatch.setattr(staged, "sync", remove_after_the_second)
    with pytest.raises(ChangedMeanwhileError):
        await sender.uploads.bring(ino)
    assert mount.staging.get(ino) is None
    mount.settle()
    assert mount.dropbox.tree() == {}


async def test_regression_cut_to_what_was_sent_before_it_was_closed(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = sender.mount
    staged = growing(mount, monkeypatch)
    ino = staged.ino
    await sender.uploader.send_early(staged, lambda: False)
    staged.truncate(2 * BLOCK, mount.clock())
    mount.staging.record(staged)
    assert isinstance((await sender.send([ino]))[ino], ChangedMeanwhileError)
    assert await sender.send([ino]) == {}
    assert mount.dropbox.tree() == {"/growing": bytes(2 * BLOCK)}


async def test_regression_changed_elsewhere_while_it_is_brought_here_to_stay(
    sender: Sender,
) -> None:
    mount, dropbox = sender.mount, sender.mount.dropbox
    dropbox.write("/f", b"first version")
    mount.follow()
    ino = mount.ino("/f")
    mount.rename("/f", "/.~f")

    def meanwhile() -> None:
        dropbox.write("/f", b"theirs")
        mount.follow()

    sender.reader.meanwhile = meanwhile
    await sender.uploads.bring(ino)
    await sender.carry_out(ino)
    mount.settle()
    assert dropbox.tree() == {"/f": b"theirs"}
    assert mount.paths() == {"/f": b"theirs", "/.~f": b"first version"}


async def test_regression_deleted_revived_and_written_again_while_it_waited_for_its_turn(
    sender: Sender,
) -> None:
    mount, dropbox = sender.mount, sender.mount.dropbox
    dropbox.write("/f", b"first")
    mount.follow()
    ino = mount.write("/f", b"ours, soon deleted")

    async def feed() -> None:
        mount.unlink("/f")
        dropbox.write("/f", b"theirs")
        mount.follow()
        mount.write("/f", b"ours, to stay")

    sender.caught_up = feed
    sender.steps.doubt()
    assert isinstance((await sender.send([ino]))[ino], ChangedMeanwhileError)
    sender.caught_up = sender._follow
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/f": b"ours, to stay"}


async def test_regression_who_comes_while_the_feed_is_awaited_waits_for_it_too(
    sender: Sender,
) -> None:
    mount = sender.mount
    told = trio.Event()
    sender.caught_up = told.wait
    members = [sender.member(mount.write(name, b"")) for name in ("/a", "/b")]
    began: list[int] = []

    async def take_turn(member: Member) -> None:
        async with sender.steps.turn([member]):
            began.append(member.ino)

    sender.steps.doubt()
    async with trio.open_nursery() as nursery:
        for member in members:
            nursery.start_soon(take_turn, member)
            await trio.testing.wait_all_tasks_blocked()
        assert not began, "what is in doubt would be done twice"
        told.set()
    assert len(began) == 2


async def test_a_feed_that_is_not_reached_stays_wanted(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    member = sender.member(sender.mount.write("/a", b""))
    sender.caught_up = trio.sleep_forever
    sender.steps.doubt()
    for _ in range(2):
        with pytest.raises(ChangedMeanwhileError):
            async with sender.steps.turn([member]):
                raise Unreachable("it was not to come so far", doubt=True)


async def test_regression_many_that_met_a_busy_dropbox_make_one_pause(
    sender: Sender,
    at_once: None,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mount, replicator = sender.mount, sender.replicator
    members = [sender.member(mount.write(f"/{number}", b"")) for number in range(MANY)]
    busy = refusal("too_many_write_operations")

    async def call(batch: list[Member]) -> Outcomes:
        await trio.lowlevel.checkpoint()
        return {member.ino: busy for member in batch[1:]}

    monkeypatch.setattr(replicator, "_call", call)
    await replicator._carry_out(members)
    began = trio.current_time()
    assert len(await sender.times.due(MANY)) == MANY
    assert trio.current_time() - began <= 0.5
    # It asked for a moment's patience, once.
    assert replicator.trouble is None


async def test_regression_moves_that_turn_out_to_lie_in_each_other_go_alone(
    sender: Sender,
    at_once: None,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their folder was moved by another batch of the same round."""
    mount, replicator = sender.mount, sender.replicator
    members = [sender.member(mount.write(f"/{name}", b"")) for name in "ab"]
    together: list[int] = []

    async def call(batch: list[Member]) -> Outcomes:
        await trio.lowlevel.checkpoint()
        together.append(len(batch))
        nested = refusal("duplicated_or_nested_paths")
        return {} if len(batch) == 1 else {member.ino: nested for member in batch}

    monkeypatch.setattr(replicator, "_call", call)
    await replicator._carry_out(members)
    assert mount.journal.held() == []
    async with trio.open_nursery() as nursery:
        await trio.sleep(1)
        due = await sender.times.due(10)
        assert set(due) == {member.ino for member in members}
        await replicator._round(due, nursery)
    assert together == [2, 1, 1]


async def test_a_long_burst_goes_in_full_batches_and_all_at_its_end(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    mount, sender.replicator._together = sender.mount, 10
    async with sender.running():
        for number in range(173):
            if number % 20 == 0:
                mount.mkdir(f"/{number // 20}")
            mount.write(f"/{number // 20}/{number}", b"%d" % number)
            await trio.sleep(0.2)
        while_it_lasted = list(sender.calls.bodies)
        await trio.sleep(3)
        assert mount.paths() == mount.dropbox.tree()
    # It was sent after 8 and 24 seconds, and no more than one was not full each time.
    assert len([files for files in while_it_lasted if files < 10]) <= 2
    assert sum(while_it_lasted) >= 100
    assert sum(sender.calls.bodies) == 173


async def test_what_is_written_to_all_the_time_holds_up_no_other(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    sender.mount.write("/log", b"")
    async with sender.running():
        for number in range(20):
            if number == 5:
                sender.mount.write("/document", b"text")
            sender.mount.append("/log", b"line")
            await trio.sleep(0.2)
        assert sender.mount.dropbox.tree()["/document"] == b"text"


async def test_what_is_saved_again_and_again_by_renaming_is_sent_now_and_then(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    mount = sender.mount
    mount.tree.on_replace = sender.times.replaced
    async with sender.running():
        await trio.sleep(1)
        began = trio.current_time()
        while "/document" not in mount.dropbox.tree():
            mount.write("/saving", b"%f" % trio.current_time())
            mount.rename("/saving", "/document")
            await trio.sleep(0.9)
            assert trio.current_time() - began < CEILING + 2
        assert trio.current_time() - began >= CEILING


async def test_regression_what_was_refused_in_a_burst_does_not_wait_for_its_end(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    sender.calls.refusal = refusal("too_many_write_operations")
    async with sender.running():
        for number in range(120):
            sender.mount.write(f"/{number}", b"%d" % number)
            await trio.sleep(0.1)
        assert sender.calls.refusal is None
        assert len(sender.mount.dropbox.tree()) >= 20


async def test_a_large_file_is_begun_with_while_it_is_written(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = growing(sender.mount, monkeypatch)
    assert isinstance((await sender.send([staged.ino]))[staged.ino], GoesOnError)
    assert len(Sessions(sender.mount.database).parts(staged.ino)) == 1
    assert type((await sender.send([staged.ino]))[staged.ino]) is ChangedMeanwhileError


async def test_what_begins_like_what_was_just_read_may_be_a_copy_and_waits(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = growing(sender.mount, monkeypatch)
    sender.reader.beginnings.add(hashlib.sha256(bytes(BLOCK)).digest())
    assert type((await sender.send([staged.ino]))[staged.ino]) is ChangedMeanwhileError
    assert Sessions(sender.mount.database).parts(staged.ino) == {}
    monkeypatch.setattr("dbxfs.sync.uploads.EARLY", -1.0)
    assert isinstance((await sender.send([staged.ino]))[staged.ino], GoesOnError)


async def test_the_end_of_a_file_that_was_closed_meanwhile_goes_with_the_rest(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = growing(sender.mount, monkeypatch)
    append, appended = sender.calls.session_append, 0

    async def count(*args: Any, **kwargs: Any) -> None:
        nonlocal appended
        await append(*args, **kwargs)
        appended += 1
        if appended == 1:
            sender.mount.staging.record(staged)

    sender.calls.session_append = count  # type: ignore[method-assign]
    assert await sender.uploader.send_early(staged, lambda: not staged.dirty)
    assert (appended, len(sender.calls.closed)) == (3, 1)
    assert await sender.send([staged.ino]) == {}
    assert appended == 3
    assert sender.mount.dropbox.tree() == {"/growing": bytes(5 * BLOCK)}


async def test_a_file_that_grows_large_is_begun_without_waiting_until_it_settles(
    sender: Sender,
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
    mock_clock: trio.testing.MockClock,
) -> None:
    nursery.start_soon(sender.replicator.run)
    await trio.testing.wait_all_tasks_blocked()
    staged = growing(sender.mount, monkeypatch)
    sender.times.changed(staged.ino)
    mock_clock.jump(0.9)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert sender.calls.bytes == {}
    sender.replicator.grows_large(staged.ino)
    while not sender.calls.bytes:
        await trio.lowlevel.checkpoint()


async def test_regression_what_comes_into_a_folder_before_its_deletion_has_its_turn_stays(
    sender: Sender,
) -> None:
    mount, dropbox = sender.mount, sender.mount.dropbox
    dropbox.mkdir("/dir")
    mount.follow()
    gone = mount.rmdir("/dir").ino
    looked = trio.Event()

    async def catch_up() -> None:
        mount.follow()
        looked.set()

    async def commit_long() -> None:
        async with sender.steps._turn:
            await looked.wait()
            await trio.testing.wait_all_tasks_blocked()
            dropbox.write("/dir/theirs", b"of somebody else")

    sender.caught_up = catch_up
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit_long)
        await trio.testing.wait_all_tasks_blocked()
        await sender.carry_out(gone)
    assert dropbox.tree() == {"/dir": None, "/dir/theirs": b"of somebody else"}


async def test_regression_who_waits_in_a_lane_of_which_nothing_comes_is_sent_all_the_same(
    sender: Sender,
    at_once: None,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dbxfs.sync.replicator.ROUND", 20)
    mount, replicator = sender.mount, sender.replicator
    replicator._together = 10
    finish = sender.calls.finish_batch

    async def finish_slowly(entries: Sequence[Finish]) -> list[Outcome]:
        await trio.sleep(5)
        return await finish(entries)

    monkeypatch.setattr(sender.calls, "finish_batch", finish_slowly)
    async with sender.running(), trio.open_nursery() as nursery:
        for number in range(100):
            mount.write(f"/{number}", b"%d" % number)
        await trio.sleep(2)
        nursery.start_soon(replicator.drained)
        await trio.sleep(1)
        while mount.journal.count() > 20:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.5)
        mount.write("/late", b"late")
        with trio.fail_after(600):
            await replicator.drained()
    assert len(mount.dropbox.tree()) == 101


@pytest.mark.parametrize(
    "error", [Unreachable("the reply was lost", doubt=True), ServerTrouble(500)]
)
async def test_a_batch_that_dropbox_breaks_off_is_smaller_the_next_time(
    error: Exception,
    sender: Sender,
    at_once: None,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mount, sizes = sender.mount, list[int]()
    finish = sender.calls.finish_batch

    async def finish_few(entries: Sequence[Finish]) -> list[Outcome]:
        sizes.append(len(entries))
        if len(entries) > 30:
            raise error
        return await finish(entries)

    monkeypatch.setattr(sender.calls, "finish_batch", finish_few)
    async with sender.running():
        for number in range(200):
            mount.write(f"/{number}", b"%d" % number)
        with trio.fail_after(3600):
            await sender.replicator.drained()
    assert len(mount.dropbox.tree()) == 200
    assert sizes[0] == 200


async def test_a_log_that_never_rests_is_sent_now_and_then(
    sender: Sender,
    at_once: None,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mount, states, uploads = sender.mount, [b"begun "], list[bytes]()
    mount.tree.clock = lambda: int((trio.current_time() + 1_000_000) * 1e9)
    mount.write("/log", states[0])
    upload = sender.calls.upload

    async def upload_slowly(path: str, chunks: bytes, **of: Any) -> FileEntry:
        uploads.append(chunks)
        return await upload(path, chunks, **of)

    monkeypatch.setattr(sender.calls, "upload", upload_slowly)
    bytes_sent = sender.uploads._send_bytes

    async def send_bytes(drafts: Any, failed: Outcomes) -> None:
        await bytes_sent(drafts, failed)
        await trio.sleep(0.5)

    monkeypatch.setattr(sender.uploads, "_send_bytes", send_bytes)
    async with sender.running():
        for number in range(600):
            mount.append("/log", b"line %d " % number)
            states.append(states[-1] + b"line %d " % number)
            await trio.sleep(0.2)
        assert mount.dropbox.tree()["/log"] in states
        assert 3 <= len(uploads) <= 10
    assert set(uploads) <= set(states)


async def test_what_is_between_two_pages_of_a_move_waits_for_the_second(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    mount, dropbox = sender.mount, sender.mount.dropbox
    node = dropbox.write("/old", b"text")
    mount.follow()
    mount.write("/old", b"text, edited here")
    (row,) = mount.journal.rows()
    member = sender.member(row.ino)
    mount.tree.update(row.ino, base_key=None, seen=-1)
    async with sender.steps.turn([member]) as current:
        assert current == []
    sender.replicator._decisions.begin_round()
    sender.replicator._decisions.decide(row.ino)
    assert sender.replicator._decisions.ready == {}
    mount.tree.update(row.ino, base_key="old", seen=0)
    began = trio.current_time()
    assert await sender.times.due(10) == [row.ino]
    assert trio.current_time() > began
    assert node.rev == member.call.replaces  # type: ignore[union-attr]


async def test_who_is_refused_among_others_is_tried_alone(
    sender: Sender, at_once: None, autojump_clock: trio.testing.MockClock
) -> None:
    sender.calls.refusal = refusal("too_many_shared_folder_targets")
    async with sender.running():
        for number in range(10):
            sender.mount.write(f"/{number}", b"%d" % number)
        with trio.fail_after(60):
            await sender.replicator.drained()
    assert len(sender.mount.dropbox.tree()) == 10
