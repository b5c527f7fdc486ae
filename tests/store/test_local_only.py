"""What has a name that Dropbox does not take: it works here, and never leaves."""

from __future__ import annotations

import errno

import pytest

from dbxfs.core.names import decode_name
from dbxfs.store.tree import TreeError
from tests.fakes import FakeDropbox

from .mount import Mount

NAMES = [".DS_Store", "~$report.docx", ".~lock.a.odt#", "end ", "back\\slash", decode_name(b"\xff")]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_never_sent_and_outlives_a_restart(
    mount: Mount, dropbox: FakeDropbox, name: str
) -> None:
    mount.follow()
    mount.write(f"/{name}", b"here")
    mount.settle()
    assert mount.journal.count() == 0
    assert dropbox.tree() == {}
    mount.restart()
    mount.follow()
    assert mount.paths() == {f"/{name}": b"here"}
    mount.unlink(f"/{name}")
    mount.settle()
    assert mount.paths() == {}


def test_all_that_is_in_such_a_folder_stays_here(mount: Mount, dropbox: FakeDropbox) -> None:
    mount.follow()
    mount.mkdir("/.dropbox.cache")
    mount.mkdir("/.dropbox.cache/sub")
    mount.write("/.dropbox.cache/sub/f", b"f")
    mount.settle()
    assert mount.journal.count() == 0
    assert dropbox.tree() == {}


def test_with_a_good_name_it_is_sent_with_all_that_is_in_it(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    mount.mkdir("/.dropbox.cache")
    mount.write("/.dropbox.cache/f", b"f")
    mount.write("/~x.tmp", b"x")
    mount.settle()
    mount.rename("/.dropbox.cache", "/good")
    mount.rename("/~x.tmp", "/x")
    mount.settle()
    assert dropbox.tree() == mount.paths() == {"/good": None, "/good/f": b"f", "/x": b"x"}


def test_a_file_that_dropbox_has_is_brought_here_and_deleted_there(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"content")
    mount.follow()
    mount.rename("/f", "/.~f")
    mount.settle()
    assert dropbox.tree() == {}
    dropbox.contents.clear()
    mount.restart()
    mount.follow()
    assert mount.paths() == {"/.~f": b"content"}


def test_a_save_by_way_of_two_such_names_is_one_new_revision(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    """As word processors do it: the original aside, the new one into its place."""
    dropbox.write("/a.docx", b"first")
    mount.follow()
    same = dropbox.find("/a.docx").id
    mount.write("/~WRD1.tmp", b"second")
    mount.rename("/a.docx", "/~WRL2.tmp")
    mount.rename("/~WRD1.tmp", "/a.docx")
    mount.settle()
    mount.unlink("/~WRL2.tmp")
    mount.settle()
    assert dropbox.tree() == mount.paths() == {"/a.docx": b"second"}
    assert dropbox.find("/a.docx").id == same


def test_what_changed_elsewhere_meanwhile_stays_there_and_the_old_one_here(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    mount.rename("/f", "/.~f")
    dropbox.write("/f", b"newer")
    mount.settle()
    mount.follow()
    mount.settle()
    assert dropbox.tree() == {"/f": b"newer"}
    assert mount.paths() == {"/f": b"newer", "/.~f": b"old"}


def test_a_folder_that_dropbox_has_is_copied_not_moved_there(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/d/f", b"f")
    mount.follow()
    with pytest.raises(TreeError) as refusal:
        mount.rename("/d", "/.dropbox.cache")
    assert refusal.value.errno == errno.EXDEV
    assert mount.paths() == {"/d": None, "/d/f": b"f"}
    assert mount.journal.count() == 0


def test_what_dropbox_has_under_such_a_name_all_the_same_stays_there(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/desktop.ini", b"theirs")
    mount.follow()
    mount.write("/desktop.ini", b"ours")
    mount.settle()
    assert dropbox.tree() == {"/desktop.ini": b"ours"}
