"""Sequences that once did not end, or ended wrong."""

from __future__ import annotations

import errno
import os
import time

import pyfuse3
import pytest

from dbxfs.fs.kernel import Kernel
from dbxfs.store.inode import ROOT_INO, Entry

from .agreement import difference, local_tree, remote_tree
from .mounted import Mounted, eventually


def test_regression_a_thing_moved_into_a_new_folder_of_its_own_old_name(mounted: Mounted) -> None:
    """Each waited for the other: the folder for the name, the thing for the folder."""
    mounted.server.edit([{"op": "write", "path": "/a/f", "text": "inside"}])
    mounted.sync()
    a = mounted.path / "a"
    a.rename(mounted.path / "t")
    a.mkdir()
    (mounted.path / "t").rename(a / "b")
    mounted.sync()
    assert mounted.status()["pending"] == 0
    assert mounted.server.content("/a/b/f") == b"inside"


def test_regression_what_leaves_a_folder_for_a_new_one_of_the_same_name(mounted: Mounted) -> None:
    """The old folder waited for its file, the file for the new folder, that for the old name."""
    mounted.server.edit([{"op": "write", "path": "/d/f", "text": "inside"}])
    mounted.sync()
    d, old = mounted.path / "d", mounted.path / "d.old"
    d.rename(old)
    d.mkdir()
    (old / "f").rename(d / "f")
    old.rmdir()
    mounted.sync()
    assert mounted.status()["pending"] == 0
    assert [entry["path"] for entry in mounted.server.tree()] == ["/d", "/d/f"]
    assert mounted.server.content("/d/f") == b"inside"


def test_regression_a_page_that_comes_before_the_kernel_has_said_anything(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mount over a short list warned: there is nothing to drop yet, and no way to say it."""

    def too_early(*_: object) -> None:
        raise OSError(errno.ENOSYS, "fuse_lowlevel_notify_inval_entry")

    monkeypatch.setattr(pyfuse3, "invalidate_entry", too_early)
    kernel = Kernel()
    kernel.stale([Entry(ROOT_INO, "a", 0)])
    kernel.start()
    eventually(kernel._queue.empty)
    kernel.stop()
    assert caplog.messages == []


def test_regression_written_in_the_moment_of_its_deletion_elsewhere(mounted: Mounted) -> None:
    """The kernel had the name for a moment longer than the tree: the bytes went nowhere."""
    written = {}
    for number in range(30):
        path = mounted.path / f"f{number}"
        mounted.server.edit([{"op": "write", "path": f"/{path.name}", "text": "theirs"}])
        eventually(path.exists, 5)
        mounted.server.edit([{"op": "delete", "path": f"/{path.name}"}])
        moment = time.monotonic() + number * 0.0004
        while time.monotonic() < moment:
            pass
        path.write_text(f"mine {number}")
        written[path.name] = f"mine {number}"
    mounted.sync()
    found = {name: (mounted.path / name).read_text() for name in os.listdir(mounted.path)}
    assert found == written


def test_regression_a_removed_file_leaves_no_row_behind(mounted: Mounted) -> None:
    """The kernel had forgotten it before Dropbox had, and nobody came by again."""
    mounted.server.edit([{"op": "write", "path": "/d/f", "text": "inside"}])
    mounted.sync()
    (mounted.path / "d" / "f").unlink()
    (mounted.path / "d").rmdir()
    assert mounted.sync() == []
    assert mounted.check()["findings"] == []


def test_regression_what_was_written_and_then_deleted_while_changed_elsewhere(
    mounted: Mounted,
) -> None:
    """The version from elsewhere came back with the size of what was written here."""
    mounted.announce("cannot be sent")
    mounted.server.edit([{"op": "write", "path": "/a", "text": "before"}])
    mounted.sync()
    mounted.server.faults([{"route": "files/upload", "kind": "error", "status": 503}])
    (mounted.path / "a").write_text("mine")
    mounted.server.edit([{"op": "write", "path": "/a", "text": "theirs, and longer"}])
    mounted.server.edit([{"op": "write", "path": "/wake", "text": ""}])
    eventually((mounted.path / "wake").exists)
    (mounted.path / "a").unlink()
    mounted.server.faults()
    mounted.sync()
    assert (mounted.path / "a").read_text() == "theirs, and longer"


def test_regression_deleted_while_open_and_written_and_changed_elsewhere(mounted: Mounted) -> None:
    """The version from elsewhere, which nobody saw, stayed out of sight."""
    mounted.server.edit([{"op": "write", "path": "/d/a", "text": "before"}])
    mounted.sync()
    path = mounted.path / "d" / "a"
    with path.open("r+b", buffering=0) as file:
        file.write(b"mine")
        path.unlink()
        path.parent.rmdir()
        mounted.server.edit([{"op": "write", "path": "/d/a", "text": "theirs, and longer"}])
        mounted.sync()
        assert path.read_text() == "theirs, and longer"


def test_regression_appended_in_the_moment_of_a_change_elsewhere(mounted: Mounted) -> None:
    """The kernel appended where the file had ended before: into the middle of the new version."""
    for number in range(30):
        path = mounted.path / f"f{number}"
        mounted.server.edit([{"op": "write", "path": f"/{path.name}", "text": "short"}])
        eventually(path.exists, 5)
        mounted.server.edit([{"op": "write", "path": f"/{path.name}", "text": "longer than that"}])
        moment = time.monotonic() + number * 0.0004
        while time.monotonic() < moment:
            pass
        with path.open("a") as file:
            file.write("+mine")
    mounted.sync()
    found = {path.read_text() for path in mounted.path.iterdir()}
    assert found <= {"short+mine", "longer than that+mine", "longer than that"}


def test_regression_a_folder_and_what_is_in_it_change_places(mounted: Mounted) -> None:
    """Dropbox refused to move the outer one into itself, for as long as the inner one was there."""
    mounted.server.edit([{"op": "write", "path": "/a/b/file", "text": "inside"}])
    mounted.sync()
    a, x = mounted.path / "a", mounted.path / "x"
    a.rename(x)
    (x / "b").rename(a)
    x.rename(a / "b")
    assert mounted.sync() == []
    assert mounted.server.paths() == ["/a", "/a/b", "/a/file"]


def test_regression_who_waits_for_a_circle_of_names_is_not_moved_out_of_its_way(
    mounted: Mounted,
) -> None:
    """A new folder takes the name of one that goes into it; a third one only follows."""
    top = mounted.path
    for name in ("b", "e"):
        (top / name).mkdir()
        (top / name / "file").write_text(name)
    mounted.sync()
    # First, so that it is looked at first.
    (top / "e").rename(top / "early")
    (top / "b").rename(top / "aside")
    (top / "b" / "d").mkdir(parents=True)
    (top / "early").rename(top / "b" / "d" / "a")
    (top / "aside").rename(top / "b" / "d" / "b")
    assert mounted.sync() == []
    assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == []
    assert (top / "b" / "d" / "a" / "file").read_text() == "e"
    assert (top / "b" / "d" / "b" / "file").read_text() == "b"
