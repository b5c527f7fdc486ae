"""Attributes in the tree: what is to be sent, what follows Dropbox, what stays through it all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbxfs.core import plan
from dbxfs.core.attributes import Attributes as Kept
from dbxfs.core.attributes import encode
from dbxfs.store import attributes
from dbxfs.store.inode import Attributes, Entry
from dbxfs.store.keeping import Keeping
from dbxfs.store.tree import TreeError
from tests.fakes import SECOND, FakeDropbox

from .mount import Mount

MOMENT = 1_234_567_890_123_456_789


def there(dropbox: FakeDropbox, path: str) -> dict[str, str]:
    return dropbox.find(path).properties


def test_new_content_takes_its_attributes_along(mount: Mount, dropbox: FakeDropbox) -> None:
    ino = mount.write("/a", b"1")
    mount.tree.set_attributes(ino, mode=0o755)
    mount.tree.set_xattr(ino, b"user.x", b"1")
    assert isinstance(mount.step(ino), plan.Upload)
    mount.commit(ino)
    assert there(dropbox, "/a")["mode"] == "0755"
    assert mount.step(ino) == plan.Done()
    mount.settle()
    assert mount.step(ino) == plan.Done()


def test_what_changes_without_content_is_sent_by_itself(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.ino("/a")
    rev = dropbox.find("/a").rev
    mount.tree.set_attributes(ino, mtime_ns=MOMENT)
    assert mount.step(ino) == plan.SetAttributes(mount.tree.get(ino).id)  # type: ignore[arg-type]
    mount.settle()
    assert there(dropbox, "/a") == {"mtime_ns": str(MOMENT), "mtime_of": "1"}
    assert dropbox.find("/a").rev == rev
    assert mount.tree.get(ino).mtime_ns == MOMENT


def test_a_folder_of_the_usual_mode_needs_no_call(mount: Mount, dropbox: FakeDropbox) -> None:
    ino = mount.mkdir("/d")
    mount.tree.set_attributes(ino, mode=0o755)
    mount.settle()
    assert there(dropbox, "/d") == {}
    mount.tree.set_attributes(ino, mode=0o700)
    mount.settle()
    assert there(dropbox, "/d") == {"mode": "0700"}
    mount.tree.set_attributes(ino, mode=0o755)
    mount.settle()
    assert there(dropbox, "/d") == {}
    assert mount.tree.get(ino).mode == 0o755


def test_a_change_elsewhere_is_followed_and_told(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.ino("/a")
    dropbox.set_properties("/a", encode(Kept(mode=0o755, mtime_ns=MOMENT), SECOND))
    assert mount.follow() == [Attributes(ino)]
    assert (mount.tree.get(ino).mode, mount.tree.get(ino).mtime_ns) == (0o755, MOMENT)
    dropbox.set_properties("/a", {})
    assert mount.follow() == [Attributes(ino)]
    assert (mount.tree.get(ino).mode, mount.tree.get(ino).mtime_ns) == (None, SECOND)
    dropbox.set_properties("/a", {})
    assert mount.follow() == []


def test_a_pending_change_stays_and_the_rest_follows(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.ino("/a")
    mount.tree.set_attributes(ino, mode=0o600)
    dropbox.set_properties("/a", encode(Kept(mode=0o755, mtime_ns=MOMENT), SECOND))
    mount.settle()
    assert (mount.tree.get(ino).mode, mount.tree.get(ino).mtime_ns) == (0o600, MOMENT)
    assert there(dropbox, "/a") == encode(Kept(mode=0o600, mtime_ns=MOMENT), SECOND)


def test_other_content_brings_its_own_time(mount: Mount, dropbox: FakeDropbox) -> None:
    ino = mount.write("/a", b"1")
    mount.tree.set_attributes(ino, mode=0o755, mtime_ns=MOMENT)
    mount.settle()
    mount.tree.set_attributes(ino, mtime_ns=MOMENT + 1)
    dropbox.write("/a", b"2", mtime_ns=77 * SECOND)
    mount.settle()
    assert (mount.tree.get(ino).mode, mount.tree.get(ino).mtime_ns) == (0o755, 77 * SECOND)


def test_the_same_content_is_not_written_again_and_its_attributes_are_still_sent(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.write("/a", b"1")
    mount.tree.set_attributes(ino, mode=0o755)
    written = mount.tree.get(ino).mtime_ns
    mount.settle()
    assert there(dropbox, "/a") == encode(Kept(mode=0o755, mtime_ns=written), SECOND)


def test_what_is_sent_as_new_brings_its_attributes(mount: Mount, dropbox: FakeDropbox) -> None:
    ino = mount.mkdir("/d")
    mount.write("/d/a", b"1")
    mount.tree.set_attributes(ino, mode=0o700)
    mount.settle()
    mount.append("/d/a", b"2")
    dropbox.delete("/d")
    mount.follow()
    mount.settle()
    assert there(dropbox, "/d") == {"mode": "0700"}


def test_a_link_is_known_by_its_target(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/a", b"../b")
    dropbox.set_properties("/a", encode(Kept(link=b"../b"), SECOND))
    mount.follow()
    inode = mount.tree.get(mount.ino("/a"))
    assert inode.link == b"../b"
    dropbox.write("/a", b"a text now")
    effects = mount.follow()
    assert mount.tree.get(inode.ino).link is None
    assert Entry(1, "a") in effects


def test_a_folder_takes_no_link(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.mkdir("/d")
    dropbox.set_properties("/d", encode(Kept(link=b"../b"), None))
    mount.follow()
    assert mount.tree.get(mount.ino("/d")).link is None


def test_a_folders_time_goes_along_with_other_attributes_only(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    ino = mount.mkdir("/d")
    mount.tree.set_attributes(ino, mtime_ns=MOMENT)
    mount.settle()
    assert there(dropbox, "/d") == {}
    mount.tree.set_attributes(ino, mode=0o700)
    mount.settle()
    assert there(dropbox, "/d") == {"mode": "0700", "mtime_ns": str(MOMENT)}
    mount.write("/d/a", b"1")
    assert mount.tree.get(ino).mtime_ns != MOMENT
    mount.settle()
    assert there(dropbox, "/d") == {"mode": "0700", "mtime_ns": str(MOMENT)}
    mount.tree.set_attributes(ino, mode=0o755)
    mount.settle()
    assert there(dropbox, "/d") == {}


def test_a_folders_time_of_here_outlives_what_comes_from_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.mkdir("/d")
    mount.follow()
    ino = mount.ino("/d")
    mount.tree.set_attributes(ino, mtime_ns=MOMENT)
    mount.settle()
    dropbox.set_properties("/d", encode(Kept(mode=0o700), None))
    mount.follow()
    assert (mount.tree.get(ino).mode, mount.tree.get(ino).mtime_ns) == (0o700, MOMENT)


def test_regression_the_kernel_hears_of_the_attributes_of_a_folder_made_on_both_sides(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    ino = mount.mkdir("/d")
    dropbox.mkdir("/d")
    dropbox.set_properties("/d", encode(Kept(mode=0o700), None))
    assert Attributes(ino) in mount.follow()
    assert mount.tree.get(ino).mode == 0o700


def test_a_folder_that_comes_with_its_entries_has_the_time_that_was_set(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    dropbox.write("/d/a", b"1")
    dropbox.set_properties("/d", {"mtime_ns": str(MOMENT)})
    mount.follow()
    assert mount.tree.get(mount.ino("/d")).mtime_ns == MOMENT


def test_what_dropbox_refuses_stays_here_until_it_changes(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.ino("/a")
    mount.tree.set_attributes(ino, mode=0o755)
    Keeping(mount.tree).refused(ino)
    assert mount.step(ino) == plan.Done()
    mount.settle()
    assert mount.tree.get(ino).mode == 0o755
    mount.tree.set_attributes(ino, mode=0o600)
    assert isinstance(mount.step(ino), plan.SetAttributes)


def test_what_was_set_without_properties_is_sent_when_there_are(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.database.set_meta("templates", None)
    ino = mount.write("/a", b"1")
    mount.tree.set_attributes(ino, mode=0o755)
    mount.settle()
    assert there(dropbox, "/a") == {}
    mount.database.set_meta("templates", "a template")
    mount.changes.begin_crawl()
    mount.follow()
    mount.settle()
    assert there(dropbox, "/a")["mode"] == "0755"


def test_attributes_survive_a_restart(mount: Mount) -> None:
    ino = mount.write("/a", b"1")
    mount.tree.set_attributes(ino, mode=0o751, mtime_ns=MOMENT, owner=(7, 8))
    mount.tree.set_xattr(ino, b"user.x", b"\0\xff")
    before = attributes.to_keep(mount.tree.get(ino))
    mount.restart()
    assert attributes.to_keep(mount.tree.get(ino)) == before


def test_an_attribute_that_is_not_there_cannot_be_removed(mount: Mount) -> None:
    ino = mount.write("/a", b"1")
    with pytest.raises(TreeError):
        mount.tree.set_xattr(ino, b"user.x", None)


def test_the_mounts_own_folder_and_removed_files_are_never_pending(
    mount: Mount, tmp_path: Path
) -> None:
    mount.follow()
    mount.tree.set_attributes(1, mode=0o700, mtime_ns=MOMENT)
    assert mount.journal.count() == 0
    ino = mount.write("/a", b"1")
    mount.tree.in_use = lambda _: True
    mount.unlink("/a")
    mount.tree.set_attributes(ino, mode=0o700)
    assert mount.journal.count() == 0
    mount.tree.in_use = lambda _: False
    mount.tree.drop_unused(ino)
