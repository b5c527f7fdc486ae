"""After fsync() a power cut loses nothing: the order of syncs, and what is left of the state.

The daemon's system calls are recorded, and from the record follows what a disk has after a cut at
any moment (`disk`). A new daemon is started on just that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.durability.ambush import EXPECTED, THOROUGH, hold
from tests.durability.disk import Call, Disk, Luck, calls, tracing
from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted

LUCKS = {
    "only what was synced": Luck(),
    "all names": Luck(names=True),
    "the database and all names": Luck(database=True, names=True),
    "the database": Luck(database=True),
    "the staged bytes": Luck(staged=True),
    "the staged bytes and all names": Luck(staged=True, names=True),
}
"""From unsynced things to those that reach the disk all the same."""

MEETS = list(LUCKS.values())[: None if THOROUGH else 2]


@pytest.fixture(scope="module", autouse=True)
def strace(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where calls cannot be recorded."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    record = tmp_path_factory.mktemp("strace") / "record"
    done = subprocess.run([*tracing(record), sys.executable, "-c", ""], capture_output=True)
    if done.returncode or not record.exists() or not record.stat().st_size:
        pytest.skip(f"strace cannot trace here: {done.stderr.decode(errors='replace')[:200]}")


@dataclass(frozen=True)
class Moment:
    """A call that returned, and what it promised: file contents by path; None for a folder."""

    begun: float
    ended: float
    promised: dict[str, bytes | None]


class Recorded:
    """A mount whose daemon is recorded."""

    def __init__(self, make_mount: Callable[..., Mounted], tmp_path: Path) -> None:
        self.record = tmp_path / "record"
        self.mounted = make_mount(command=tracing(self.record))
        self.mounted.announce(*EXPECTED)
        self.state = self.mounted.state
        assert self.mounted.sync() == []
        self.moments: list[Moment] = []
        self.promised: dict[str, bytes | None] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write, fsync and close a file."""
        with (self.mounted.path / name).open("wb", buffering=0) as file:
            file.write(data)
            self.promised[name] = data
            self._sync(file.fileno())

    def sync_folder(self, name: str) -> None:
        """fsync of a folder."""
        descriptor = os.open(self.mounted.path / name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def _sync(self, descriptor: int) -> None:
        begun = time.time()
        os.fsync(descriptor)
        self.moments.append(Moment(begun, time.time(), dict(self.promised)))

    def calls(self) -> list[Call]:
        """What the daemon did, which is killed for it."""
        self.mounted.kill()
        return calls(self.record, self.state)

    def after_cut(self, done: list[Call], at: float, luck: Luck) -> None:
        """Start the daemon, unrecorded, on what a cut at that moment leaves."""
        self.mounted.kill()
        disk = Disk(self.state)
        disk.follow(done, at)
        self.mounted.state = self.state.with_name("after")
        disk.restore(luck, self.mounted.state)
        self.mounted.command = ()
        self.mounted.start()


def check(root: Path, promised: dict[str, bytes | None]) -> None:
    """What was promised is there, with these bytes."""
    for name, data in promised.items():
        if data is None:
            assert (root / name).is_dir(), name
        else:
            assert (root / name).read_bytes() == data, name


def test_fsync_brings_the_bytes_to_the_disk_and_then_the_database_that_names_them(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    recorded = Recorded(make_mount, tmp_path)
    recorded.write("file", b"what was written")
    (moment,) = recorded.moments
    done = [call for call in recorded.calls() if call.begun >= moment.begun]
    staged = next(i for i, call in enumerate(done) if call.name == "fdatasync")
    name = next(i for i, call in enumerate(done) if call.name == "fsync")
    assert done[staged].paths[0].parent.name == done[name].paths[0].name == "staging"
    logged = [i for i, call in enumerate(done) if call.paths[0].name == "tree.db-wal"]
    commits = [i for i in logged if done[i].name == "pwrite64"]
    synced = [i for i in logged if done[i].name == "fdatasync"]
    assert commits, "the bytes have no name"
    assert max(staged, name) < min(commits), "the database named bytes that could still be lost"
    assert max(commits) < min(synced), "the commit was not synced"
    assert done[min(synced)].ended <= moment.ended, "fsync returned before all was on the disk"
    assert done[max(staged, name)].ended <= done[min(commits)].begun


def test_fsync_of_a_folder_brings_its_names_to_the_disk(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    recorded = Recorded(make_mount, tmp_path)
    (recorded.mounted.path / "folder").mkdir()
    recorded.sync_folder("folder")
    (moment,) = recorded.moments
    log = [call for call in recorded.calls() if call.paths[0].name == "tree.db-wal"]
    synced = [
        call
        for call in log
        if call.name == "fdatasync" and moment.begun <= call.begun <= call.ended <= moment.ended
    ]
    assert synced
    before = [call for call in log if call.name == "pwrite64" and call.ended < moment.begun]
    assert before[-1].ended < synced[0].begun


@pytest.mark.timeout(150)
@pytest.mark.hangs_after(140)
def test_what_was_synced_survives_a_power_cut_in_any_state(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    """Nothing can be sent, so the state is all there is."""
    recorded = Recorded(make_mount, tmp_path)
    mounted, root = recorded.mounted, recorded.mounted.path
    hold(mounted, "before", ["files/upload"])
    mounted.server.faults([{"route": "*", "kind": "reset"}])
    recorded.write("first", b"first")
    (root / "folder").mkdir()
    (root / "folder" / "unsynced").write_bytes(b"nobody promised this")
    recorded.write("folder/large", bytes(range(256)) * 2000)
    recorded.write("first", b"first, again")
    os.rename(root / "first", root / "folder" / "renamed")
    (root / "folder" / "large").unlink()
    recorded.promised = {"folder": None, "folder/renamed": b"first, again"}
    recorded.sync_folder("folder")
    done = recorded.calls()
    moments = recorded.moments if THOROUGH else recorded.moments[::3]
    for moment in moments:
        for luck in MEETS:
            recorded.after_cut(done, moment.ended, luck)
            check(root, moment.promised)
    assert not (root / "first").exists()
    assert not (root / "folder" / "large").exists()


@pytest.mark.timeout(150)
@pytest.mark.hangs_after(140)
def test_a_power_cut_after_all_was_sent_sends_nothing_twice_and_holds_nothing(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    """What the database does not know any more must not stand in the way of what Dropbox has."""
    recorded = Recorded(make_mount, tmp_path)
    mounted, root = recorded.mounted, recorded.mounted.path
    (root / "folder").mkdir()
    recorded.write("folder/small", b"small")
    recorded.write("longer", bytes(range(256)) * 1000)
    recorded.write("changed", b"before")
    assert mounted.sync() == []
    recorded.write("changed", b"after")
    assert mounted.sync() == []
    (root / "temporary").write_bytes(b"saved")
    os.rename(root / "temporary", root / "folder" / "small")
    assert mounted.sync() == []
    expected = local_tree(root)
    done = recorded.calls()
    assert difference(expected, remote_tree(mounted.server)) == []
    for luck in MEETS:
        recorded.after_cut(done, time.time(), luck)
        assert mounted.sync() == [], luck
        assert difference(local_tree(root), remote_tree(mounted.server)) == [], luck
        assert difference(expected, remote_tree(mounted.server)) == [], luck
