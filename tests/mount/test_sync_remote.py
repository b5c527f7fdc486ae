"""`-o sync=remote`: who closes or syncs a file learns whether Dropbox has it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

import pytest

from .conftest import finish
from .mounted import Mounted, refused, works

TROUBLE = r"stays here for now|cannot be (followed|sent)|(flush|fsync|fsyncdir) failed"


@pytest.fixture
def remote(make_mount: Callable[..., Mounted]) -> Iterator[Mounted]:
    mounted = make_mount(options=["sync=remote"])
    mounted.sync()
    yield mounted
    mounted.announce(TROUBLE)
    finish(mounted)


def test_dropbox_has_it_when_close_returns(remote: Mounted) -> None:
    (remote.path / "f").write_text("here")
    assert remote.server.content("/f") == b"here"
    (remote.folder / "tree").mkdir()
    for number in range(20):
        (remote.folder / "tree" / f"f{number}").write_text(str(number))
    works("cp", "-r", remote.folder / "tree", remote.path)
    assert remote.server.content("/tree/f19") == b"19"
    assert remote.status()["pending"] == 0


def test_dropbox_has_it_when_fsync_returns(remote: Mounted) -> None:
    with (remote.path / "f").open("w") as file:
        file.write("synced")
        file.flush()
        os.fsync(file.fileno())
        assert remote.server.content("/f") == b"synced"


def test_dropbox_has_the_names_when_the_folder_is_synced(remote: Mounted) -> None:
    (remote.path / "a").write_text("a")
    (remote.path / "old").write_text("old")
    (remote.path / "a").rename(remote.path / "b")
    (remote.path / "old").unlink()
    (remote.path / "d").mkdir()
    folder = os.open(remote.path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    assert remote.server.paths() == ["/b", "/d"]


def test_close_says_that_dropbox_is_full(remote: Mounted) -> None:
    remote.server.control("quota", {"allocated": 1000})
    with refused(errno.ENOSPC):
        (remote.path / "large").write_bytes(bytes(5000))
    assert (remote.path / "large").read_bytes() == bytes(5000)
    remote.server.control("quota", {"allocated": 10**9})
    assert remote.sync() == []
    assert remote.server.content("/large") == bytes(5000)


def test_close_says_that_dropbox_is_away_and_nothing_is_lost(remote: Mounted) -> None:
    remote.server.stop()
    with refused(errno.ENETUNREACH):
        (remote.path / "f").write_text("later")
    remote.server.start()
    assert remote.sync() == []
    assert remote.server.content("/f") == b"later"
