"""What watchers are told of a page: where inodes were and are, not how they got there."""

from __future__ import annotations

import pytest

from dbxfs.store.inode import ROOT_INO, Effect, Moved
from tests.fakes import FakeDropbox

from .mount import Mount


def moves(effects: list[Effect]) -> list[Moved]:
    """What came, went or moved."""
    return [effect for effect in effects if isinstance(effect, Moved)]


@pytest.fixture
def followed(mount: Mount, dropbox: FakeDropbox) -> Mount:
    """A mount that knows a small tree."""
    dropbox.write("/d/one", b"1")
    dropbox.write("/d/sub/two", b"22")
    dropbox.write("/top", b"333")
    # It was there before anybody could look.
    assert moves(mount.follow()) == []
    return mount


def test_what_is_added_comes_in_the_order_in_which_it_can_be_made(
    followed: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/new/inside", b"i")
    told = moves(followed.follow())
    folder, file = followed.ino("/new"), followed.ino("/new/inside")
    assert told == [
        Moved(folder, True, None, (ROOT_INO, "new")),
        Moved(file, False, None, (folder, "inside")),
    ]


def test_what_is_removed_goes(followed: Mount, dropbox: FakeDropbox) -> None:
    ino = followed.ino("/top")
    dropbox.delete("/top")
    assert moves(followed.follow()) == [Moved(ino, False, (ROOT_INO, "top"), None)]


def test_a_change_of_content_moves_nothing(followed: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/top", b"other")
    assert moves(followed.follow()) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 2000])
@pytest.mark.parametrize(("source", "target"), [("/d", "/e"), ("/top", "/d/top")])
def test_a_move_is_told_as_one_however_the_pages_fall(
    followed: Mount, dropbox: FakeDropbox, limit: int, source: str, target: str
) -> None:
    ino, folder = followed.ino(source), source == "/d"
    into = followed.ino("/d") if target.startswith("/d/") else ROOT_INO
    dropbox.move(source, target)
    told = moves(followed.follow(limit))
    places = (ROOT_INO, source[1:]), (into, target.rpartition("/")[2])
    assert told == [Moved(ino, folder, *places)]


def test_another_spelling_is_a_move(followed: Mount, dropbox: FakeDropbox) -> None:
    ino = followed.ino("/top")
    dropbox.move("/top", "/passing")
    dropbox.move("/passing", "/TOP")
    told = moves(followed.follow())
    assert told == [Moved(ino, False, (ROOT_INO, "top"), (ROOT_INO, "TOP"))]


def test_what_went_and_came_back_to_its_place_is_not_told(
    followed: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.move("/top", "/passing")
    dropbox.move("/passing", "/top")
    assert moves(followed.follow()) == []


def test_a_file_that_steps_aside_for_another_is_told_as_moved_first(
    followed: Mount, dropbox: FakeDropbox
) -> None:
    followed.write("/mine", b"mine")
    mine = followed.ino("/mine")
    dropbox.write("/mine", b"yours")
    aside, came = moves(followed.follow())
    assert (aside.ino, aside.source) == (mine, (ROOT_INO, "mine"))
    assert came.source is None
    assert came.target == (ROOT_INO, "mine")


def test_what_programs_do_is_not_told(followed: Mount, dropbox: FakeDropbox) -> None:
    followed.write("/mine", b"mine")
    followed.rename("/top", "/renamed")
    followed.settle()
    assert moves(followed.follow()) == []
