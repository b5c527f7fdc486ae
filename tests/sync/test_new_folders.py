"""A new folder is made with all that are in it: one call for a tree, however deep it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
import trio

from dbxfs.api.batches import Outcome
from dbxfs.api.client import Client, EndpointError, Unreachable
from dbxfs.api.errors import AccessDenied, BadRequest
from dbxfs.core import plan
from dbxfs.core.batching import Member
from dbxfs.core.model import RemotePath
from dbxfs.sync.steps import ChangedMeanwhileError, Outcomes, Steps
from tests.fakes import FakeDropbox, entry_of, refusal
from tests.store.mount import Mount


class Calls:
    """The client's calls for folders, over a `FakeDropbox`."""

    def __init__(self, dropbox: FakeDropbox) -> None:
        self.dropbox = dropbox
        self.asked: list[list[str]] = []
        self.refused: dict[str, EndpointError] = {}
        self.fails: Exception | None = None
        """What all calls for many fail with, or that for one of them."""
        self.loses_replies = False
        self.meanwhile: Callable[[], None] = lambda: None
        """What programs do while the call is under way."""

    async def create_folders(self, paths: Sequence[RemotePath]) -> list[Outcome]:
        await trio.lowlevel.checkpoint()
        self.asked.append(sorted(paths))
        if self.fails is not None:
            raise self.fails
        return [self._make(path) for path in paths]

    async def create_folder(self, path: RemotePath, *, patience: float) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.asked.append([path])
        made = self._make(path)
        if isinstance(made, EndpointError):
            raise made
        return made

    async def metadata(self, path: RemotePath, *, patience: float) -> object:
        await trio.lowlevel.checkpoint()
        return entry_of(self.dropbox.find(path))

    def _make(self, path: RemotePath) -> Outcome:
        self.meanwhile()
        if path in self.refused:
            return self.refused[path]
        try:
            node = self.dropbox.mkdir(path)
        except EndpointError as error:
            return error
        if self.loses_replies:
            raise Unreachable("the reply was lost", doubt=True)
        return entry_of(node)


class Maker:
    """One mount, and the steps that make its folders."""

    def __init__(self, mount: Mount) -> None:
        self.mount, self.calls = mount, Calls(mount.dropbox)
        self.steps = Steps(
            cast(Client, self.calls),
            mount.tree,
            mount.journal,
            trio.Lock(),
            mount._stale,
            self._follow,
            mount.attributes,
        )
        mount.tree.in_use = self.steps.is_committing

    async def _follow(self) -> None:
        self.mount.follow()

    async def make(self, *paths: str) -> Outcomes:
        """Carry out what is next for these."""
        members = []
        for path in paths:
            ino = self.mount.ino(path)
            call = self.mount.step(ino)
            assert isinstance(call, plan.CreateFolder)
            members.append(Member(ino, call))
        return await self.steps.carry_out(members)

    def is_made(self, path: str) -> bool:
        """Whether nothing is left to do for it."""
        return self.mount.step(self.mount.ino(path)) == plan.Done()


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    mount = Mount(tmp_path, FakeDropbox())
    mount.follow()
    return mount


@pytest.fixture
def maker(mount: Mount) -> Maker:
    for path in ("/a", "/a/b", "/a/b/c", "/a/d", "/e"):
        mount.mkdir(path)
    return Maker(mount)


def rests(maker: Maker) -> None:
    """Both sides agree, and the store is consistent."""
    maker.mount.settle()
    maker.mount.check()
    assert maker.mount.sent() == maker.mount.dropbox.tree()
    for inode in maker.mount.tree.select("ino != 1"):
        assert maker.mount.dropbox.find(str(inode.id)).name == inode.name


async def test_the_deepest_are_asked_for(maker: Maker) -> None:
    assert await maker.make("/a", "/e") == {}
    assert maker.calls.asked == [["/a/b/c", "/a/d", "/e"]]
    assert all(maker.is_made(path) for path in ("/a", "/a/b", "/a/b/c", "/a/d", "/e"))
    rests(maker)


async def test_one_way_down_is_one_call_for_one(maker: Maker) -> None:
    maker.mount.rmdir("/a/d")
    assert await maker.make("/a") == {}
    assert maker.calls.asked == [["/a/b/c"]]
    rests(maker)


async def test_files_can_be_sent_before_the_feed_has_told_of_their_folder(maker: Maker) -> None:
    maker.mount.write("/a/b/f", b"text")
    await maker.make("/a")
    step = maker.mount.step(maker.mount.ino("/a/b/f"))
    assert step == plan.Upload(RemotePath("/a/b/f"), None)
    rests(maker)


async def test_what_is_named_only_can_be_moved_and_deleted(maker: Maker) -> None:
    await maker.make("/a")
    maker.mount.rename("/a/b", "/z")
    maker.mount.rmdir("/a/d")
    maker.mount.rmdir("/a")
    maker.mount.drain()
    rests(maker)
    assert sorted(maker.mount.dropbox.tree()) == ["/e", "/z", "/z/c"]


async def test_what_programs_do_meanwhile_is_sent_afterwards(maker: Maker) -> None:
    def meanwhile() -> None:
        maker.calls.meanwhile = lambda: None
        maker.mount.rename("/a", "/z")
        maker.mount.rmdir("/z/b/c")
        maker.mount.rmdir("/z/b")

    maker.calls.meanwhile = meanwhile
    await maker.make("/a")
    rests(maker)
    assert sorted(maker.mount.dropbox.tree()) == ["/e", "/z", "/z/d"]


async def test_what_is_refused_keeps_what_it_is_in_from_nothing(maker: Maker) -> None:
    error = maker.calls.refused["/a/b/c"] = refusal("path", "no_write_permission")
    ino = maker.mount.ino
    failed = await maker.make("/a")
    assert failed.pop(ino("/a/b/c")) is error
    assert [type(error) for error in failed.values()] == [ChangedMeanwhileError]
    assert maker.is_made("/a/d")
    assert maker.is_made("/a")
    assert list(failed) == [ino("/a/b")]
    maker.mount.journal.refused(ino("/a/b/c"), str(error))
    assert await maker.make("/a/b") == {}
    assert maker.calls.asked[1:] == [["/a/b"]]


@pytest.mark.parametrize("lost", ["", "rename", "remove", "child first"])
async def test_a_lost_reply_makes_nothing_twice(maker: Maker, lost: str) -> None:
    maker.mount.rmdir("/a/d")
    maker.calls.loses_replies = True
    with pytest.raises(Unreachable):
        await maker.make("/a")
    maker.calls.loses_replies = False
    if lost == "rename":
        maker.mount.rename("/a", "/z")
    elif lost == "remove":
        maker.mount.rmdir("/a/b/c")
        maker.mount.rmdir("/a/b")
    elif lost == "child first":
        maker.mount.rename("/a", "/z")
        # Touched since, the folders come last.
        for path in ("/a/b", "/a"):
            maker.mount.dropbox.update_properties(path, {"mode": "0755"}, [])
    maker.steps.doubt()
    await maker.make("/e")
    rests(maker)
    expected = {
        "": ["/a", "/a/b", "/a/b/c", "/e"],
        "remove": ["/a", "/e"],
    }.get(lost, ["/e", "/z", "/z/b", "/z/b/c"])
    assert sorted(maker.mount.dropbox.tree()) == expected


@pytest.mark.parametrize(
    "error", [AccessDenied(("route_access_denied",), "denied"), BadRequest("unknown function")]
)
async def test_level_by_level_where_dropbox_does_not_take_it(
    maker: Maker, error: Exception
) -> None:
    maker.calls.fails = error
    with pytest.raises(ChangedMeanwhileError):
        await maker.make("/a", "/e")
    maker.calls.fails = None
    await maker.make("/a", "/e")
    assert maker.calls.asked[1:] == [["/a", "/e"]]
    rests(maker)


async def test_while_a_crawl_goes_on_each_is_made_by_itself(maker: Maker) -> None:
    maker.mount.changes.begin_crawl()
    await maker.make("/a")
    assert maker.calls.asked == [["/a"]]
    rests(maker)
