"""Where state is kept: private, one daemon at a time, found again by mount point."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbxfs.cli.folders import (
    Folders,
    InUseError,
    NotPrivateError,
    daemon_of,
    locked,
    mounts,
    private,
    registered,
    socket_of,
)
from dbxfs.cli.options import MountOptions
from dbxfs.core.model import RemotePath
from tests.cli.commands import Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0, 0o022, 0o077, 0o777])
def any_umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def options(**fields: object) -> MountOptions:
    return MountOptions(mountpoint=Path("/mnt"), **fields)  # type: ignore[arg-type]


def test_made_folders_are_private_whatever_the_umask(tmp_path: Path, any_umask: int) -> None:
    private(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_folders_that_are_there_already_are_left_alone_above(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open" / "ours").mkdir(mode=0o755)
    private(tmp_path / "open" / "ours")
    assert (mode(tmp_path / "open"), mode(tmp_path / "open" / "ours")) == (0o755, 0o700)


def test_all_folders_of_a_mount_are_private(own_home: Home, any_umask: int) -> None:
    folders = Folders.of(options())
    for folder in (folders.state, folders.cache, folders.staging, folders.state.parent):
        assert mode(folder) == 0o700
    assert folders.state == own_home.state / "default"


def test_accounts_folders_and_the_demo_have_each_their_own_state(own_home: Home) -> None:
    kinds = [
        options(),
        options(account="work"),
        options(demo=True),
        options(folder=RemotePath("/a")),
        options(folder=RemotePath("/b")),
    ]
    assert len({Folders.of(kind).state for kind in kinds}) == len(kinds)
    assert len({Folders.of(kind).cache for kind in kinds}) == len(kinds)


def test_a_folder_spelled_otherwise_is_the_same_state(own_home: Home) -> None:
    one, other = (Folders.of(options(folder=RemotePath(name))) for name in ("/Photos", "/photos"))
    assert one == other


def test_named_folders_are_used_as_they_are(own_home: Home, tmp_path: Path) -> None:
    folders = Folders.of(options(state_dir=tmp_path / "s", cache_dir=tmp_path / "c"))
    assert (folders.state, folders.cache) == (tmp_path / "s", tmp_path / "c")
    assert mode(folders.state) == 0o700
    assert not own_home.state.exists()


def test_a_named_folder_that_others_use_is_refused_and_unharmed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "theirs").touch()
    with pytest.raises(NotPrivateError, match="shared is open to others"):
        Folders.of(options(state_dir=shared, cache_dir=tmp_path / "c"))
    assert mode(shared) == 0o755


def test_a_state_has_one_daemon_and_the_other_is_told_which(tmp_path: Path) -> None:
    with locked(tmp_path):
        second = locked(tmp_path, patience=0)
        with pytest.raises(InUseError, match=f"process {os.getpid()}"):
            second.__enter__()
    with locked(tmp_path):
        assert mode(tmp_path / "lock") == 0o600


def test_a_daemon_that_ends_is_waited_for(tmp_path: Path) -> None:
    with contextlib.ExitStack() as first:
        first.enter_context(locked(tmp_path))
        threading.Timer(0.2, first.pop_all().close).start()
        with locked(tmp_path):
            assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_mount_is_found_while_it_lasts(own_home: Home, tmp_path: Path) -> None:
    mountpoint, socket = tmp_path / "a mount", tmp_path / "socket"
    assert socket_of(mountpoint) is None
    with registered(mountpoint, socket):
        assert socket_of(mountpoint) == socket
        assert mounts() == [(mountpoint, socket)]
        (record,) = (own_home.state / "mounts").iterdir()
        assert mode(record) == 0o600
    assert socket_of(mountpoint) is None
    assert mounts() == []


def test_a_broken_record_hides_no_other_mount(own_home: Home, tmp_path: Path) -> None:
    with registered(tmp_path / "m", tmp_path / "s"):
        for name, text in (("0", "{"), ("1", "[]"), ("2", '{"mountpoint": "/x"}')):
            (own_home.state / "mounts" / f"{name}.json").write_text(text)
        assert mounts() == [(tmp_path / "m", tmp_path / "s")]


def test_the_daemon_is_found_by_its_lock(own_home: Home, tmp_path: Path) -> None:
    assert daemon_of(tmp_path / "m") is None
    with registered(tmp_path / "m", tmp_path / "socket"):
        assert daemon_of(tmp_path / "m") is None
        with locked(tmp_path):
            daemon = daemon_of(tmp_path / "m")
        assert daemon is not None
        os.close(daemon)
