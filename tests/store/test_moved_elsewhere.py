"""Folders that are moved elsewhere and changed before the feed tells of it, in whatever pages."""

from __future__ import annotations

import pytest

from tests.fakes import FakeDropbox

from .mount import Mount

pages = pytest.mark.parametrize("limit", [1, 100])


@pages
def test_regression_a_moved_folder_that_is_told_of_after_its_entries_keeps_them(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    """It came out empty: what had been put into a folder known by its path alone went with that."""
    dropbox.write("/a/x", b"1")
    mount.follow()
    ino = mount.ino("/a")
    dropbox.move("/a", "/b")
    dropbox.write("/b/new/z", b"3")
    dropbox.write("/b/x", b"7")
    dropbox.set_properties("/b", {})
    mount.follow(limit)
    assert mount.paths() == dropbox.tree()
    assert mount.ino("/b") == ino
    mount.check()


@pages
def test_regression_what_is_new_here_is_sent_into_the_moved_folder(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    dropbox.write("/a/x", b"1")
    mount.follow()
    ino = mount.ino("/a")
    mount.write("/a/ours", b"ours")
    dropbox.move("/a", "/b")
    dropbox.delete("/b/x")
    dropbox.write("/b/x", b"7")
    dropbox.set_properties("/b", {})
    mount.follow(limit)
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/b": None, "/b/x": b"7", "/b/ours": b"ours"}
    assert mount.ino("/b") == ino
    mount.check()


@pages
def test_regression_what_was_replaced_in_a_moved_folder_leaves_no_copy(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    """The old file was taken for one that programs had moved, and sent under another name."""
    dropbox.write("/a/x", b"1")
    mount.follow()
    dropbox.move("/a", "/b")
    dropbox.delete("/b/x")
    dropbox.write("/b/x", b"7")
    mount.follow(limit)
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/b": None, "/b/x": b"7"}
