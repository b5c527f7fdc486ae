"""The program that carries out operations, on an ordinary folder, and how the daemon holds it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbxfs.fs.player import FAILURES, Player
from dbxfs.fs.replay import Message, carry_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"content")
    return tmp_path


def message(do: str, at: Path, name: str, **more: object) -> Message:
    return {"do": do, "folder": [os.stat(at).st_ino, ""], "name": name, **more}


def perform(folder: Path, do: str, name: str, **more: object) -> None:
    below = message(do, folder / "sub", name, **more)
    below["folder"][1] = "sub"
    carry_out(below, os.fsencode(folder), os.stat(folder).st_dev)


def test_each_operation_is_the_one_that_watchers_are_told_of(folder: Path) -> None:
    sub = folder / "sub"
    perform(folder, "create", "new", size=3)
    assert (sub / "new").read_bytes() == bytes(3)
    perform(folder, "mkdir", "made")
    perform(folder, "symlink", "link", link="new")
    assert os.readlink(sub / "link") == "new"
    perform(folder, "touch", "file", mtime_ns=10**18)
    assert os.stat(sub / "file").st_mtime_ns == 10**18
    perform(folder, "write", "file", size=7, mtime_ns=0)
    assert (sub / "file").read_bytes() == b"content"
    perform(folder, "unlink", "new")
    perform(folder, "rmdir", "made")
    into = [os.stat(folder).st_ino, ""]
    number = os.stat(sub / "file").st_ino
    perform(folder, "move", "file", ino=number, into=into, **{"as": "m\xc3\xbcsli"})
    assert (folder / "müsli").read_bytes() == b"content"
    assert os.listdir(sub) == ["link"]


def test_a_link_is_never_followed(folder: Path) -> None:
    (folder / "sub" / "link").symlink_to("file")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        perform(folder, "write", "link", size=0, mtime_ns=0)
    assert (folder / "sub" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("wrong", ["folder", "file", "device"])
def test_nothing_is_done_to_what_is_not_meant(folder: Path, wrong: str) -> None:
    number = os.stat(folder / "sub" / "file").st_ino
    into = [os.stat(folder).st_ino + (wrong == "folder"), ""]
    asked = message("move", folder / "sub", "file", ino=number + (wrong == "file"), into=into)
    asked["folder"][1] = "sub"
    asked["as"] = "moved"
    device = os.stat(folder).st_dev + (wrong == "device")
    with pytest.raises(OSError, match="another one is there") as caught:
        carry_out(asked, os.fsencode(folder), device)
    assert caught.value.errno == errno.ESTALE
    assert os.listdir(folder / "sub") == ["file"]


@pytest.fixture
def started() -> list[int]:
    """The process ids that it had."""
    return []


@pytest.fixture
def player(folder: Path, started: list[int]) -> Iterator[Player]:
    player = Player(folder, lambda pid: None if pid is None else started.append(pid))
    yield player
    player.end()
    player.reap()


def test_an_operation_ends_with_its_errno(player: Player, folder: Path, started: list[int]) -> None:
    device = os.stat(folder).st_dev
    assert player.perform(message("mkdir", folder, "made"), device, 20) == 0
    assert player.perform(message("mkdir", folder, "made"), device, 20) == errno.EEXIST
    assert player.perform(message("unlink", folder, "none"), device, 20) == errno.ENOENT
    assert len(started) == 1
    assert sorted(os.listdir(folder)) == ["made", "sub"]


def test_who_does_not_answer_is_asked_for_nothing_more_until_it_does(
    player: Player, folder: Path, started: list[int]
) -> None:
    device = os.stat(folder).st_dev
    assert player.perform(message("mkdir", folder, "one"), device, 20) == 0
    os.kill(started[0], signal.SIGSTOP)
    assert player.perform(message("mkdir", folder, "two"), device, 0.1) is None
    assert not player.usable
    os.kill(started[0], signal.SIGCONT)
    while not player.usable:
        os.sched_yield()
    assert player.perform(message("mkdir", folder, "three"), device, 20) == 0
    assert sorted(os.listdir(folder)) == ["one", "sub", "three", "two"]


def test_who_ends_again_and_again_is_not_started_for_ever(
    player: Player, folder: Path, started: list[int]
) -> None:
    device = os.stat(folder).st_dev
    for _ in range(FAILURES):
        assert player.usable
        assert player.perform(message("mkdir", folder, "made"), device, 20) is not None
        os.kill(started[-1], signal.SIGKILL)
        assert player.perform(message("mkdir", folder, "made"), device, 20) is None
    assert not player.usable
    assert len(started) == FAILURES
