"""Pages of the feed and of crawls, applied to the tree: what follows, what stays, what is told."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from dbxfs.core.content_hash import content_hash
from dbxfs.core.model import Cursor, DeletedEntry, FileEntry, FileId, Page, RemotePath, Rev
from dbxfs.store.inode import ROOT_INO, Attributes, Content, Entry
from dbxfs.store.tree import TreeError
from tests.fakes import SECOND, FakeDropbox, entry_of

from .mount import Mount, contents, entries


def page(*changes: object, more: bool = False) -> Page:
    """A page as the API layer hands it on."""
    return Page(entries=list(changes), cursor=Cursor("a position"), has_more=more)  # type: ignore[arg-type]


def gone(path: str) -> DeletedEntry:
    return DeletedEntry(name=path.rpartition("/")[2], path=RemotePath(path))


def a_tree(dropbox: FakeDropbox) -> None:
    dropbox.write("/d/one", b"1")
    dropbox.write("/d/sub/two", b"22")
    dropbox.write("/top", b"333")


# ---- The crawl ----


def test_a_crawl_shows_the_whole_tree(mount: Mount, dropbox: FakeDropbox) -> None:
    a_tree(dropbox)
    dropbox.mkdir("/empty")
    assert mount.changes.crawling
    mount.follow()
    assert mount.paths() == dropbox.tree()
    assert mount.changes.complete
    assert not mount.changes.crawling


def test_a_crawl_goes_on_where_a_kill_stopped_it(mount: Mount, dropbox: FakeDropbox) -> None:
    a_tree(dropbox)
    listed = 0
    while mount.page(limit=1):
        listed += 1
        known = mount.paths()
        mount.restart()
        assert mount.paths() == known
    assert listed == 4
    assert mount.paths() == dropbox.tree()


def test_a_page_that_is_broken_off_comes_again(mount: Mount, dropbox: FakeDropbox) -> None:
    a_tree(dropbox)
    mount.page(limit=2)
    cursor = mount.changes.cursor
    mount.database.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON inode WHEN NEW.name = 'two'"
        " BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    )
    with pytest.raises(Exception, match="disk full"):
        mount.page()
    assert mount.changes.cursor == cursor
    assert "/d/sub/two" not in mount.paths()
    mount.database.execute("DROP TRIGGER full")
    mount.follow()
    assert mount.paths() == dropbox.tree()


def test_regression_what_went_after_a_broken_off_listing_is_gone(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    """It counted as listed by the crawl that began anew and had it no more."""
    a_tree(dropbox)
    mount.page(broken_off_after=2)
    (gone,) = mount.paths().keys() - {"/d"}
    dropbox.delete(gone)
    mount.follow()
    assert mount.paths() == dropbox.tree()


def test_folders_named_only_in_paths_are_made_and_later_take_their_own_entry(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/Some/Where/file", b"1")
    file, some, where = (
        entry_of(dropbox.find(p)) for p in ("/some/where/file", "/some", "/some/where")
    )
    mount.changes.begin_crawl()
    mount.changes.apply_page(page(file, more=True))
    inos = mount.ino("/some"), mount.ino("/some/where")
    mount.changes.apply_page(page(some, where))
    assert (mount.ino("/Some"), mount.ino("/Some/Where")) == inos
    assert mount.paths() == dropbox.tree()
    assert mount.tree.get(inos[0]).id == some.id


def test_a_crawl_after_a_reset_costs_a_difference_not_the_tree(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    one, sub, two = mount.ino("/d/one"), mount.ino("/d/sub"), mount.ino("/d/sub/two")
    dropbox.reset_cursors()
    dropbox.delete("/top")
    dropbox.move("/d/sub", "/moved")
    dropbox.write("/d/one", b"changed")
    dropbox.write("/new", b"n")
    effects = mount.follow(limit=2)
    assert mount.paths() == dropbox.tree()
    assert (mount.ino("/d/one"), mount.ino("/moved"), mount.ino("/moved/two")) == (one, sub, two)
    assert contents(effects) == {one}
    assert entries(effects) == {
        (ROOT_INO, "top"),
        (ROOT_INO, "moved"),
        (ROOT_INO, "new"),
        (mount.ino("/d"), "sub"),
    }


def test_an_unchanged_tree_crawled_again_makes_nothing_stale(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    before = {i.ino: i for i in mount.tree.select("1")}
    dropbox.reset_cursors()
    assert mount.follow(limit=1) == []
    after = {i.ino: i for i in mount.tree.select("1")}
    assert [(i.mtime_ns, i.ctime_ns) for i in before.values()] == [
        (i.mtime_ns, i.ctime_ns) for i in after.values()
    ]


def test_a_cursor_that_is_reset_in_the_middle_of_a_crawl_loses_nothing(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.page(limit=2)
    dropbox.reset_cursors()
    dropbox.delete("/d/one")
    mount.follow(limit=2)
    assert mount.paths() == dropbox.tree()


def test_regression_made_before_a_crawl_began_to_walk_and_removed_elsewhere_goes(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    dropbox.reset_cursors()
    assert mount.page()
    mount.mkdir("/a")
    mount.drain()
    dropbox.delete("/a")
    mount.follow()
    assert mount.paths() == {}


def test_what_is_committed_while_a_crawl_walks_stays(mount: Mount, dropbox: FakeDropbox) -> None:
    a_tree(dropbox)
    mount.page(limit=3)
    mount.mkdir("/aa")
    mount.write("/aa/new", b"n")
    mount.drain()
    mount.follow(limit=1)
    assert mount.paths() == dropbox.tree()
    assert "/aa/new" in mount.paths()


def test_a_superseded_revision_that_a_crawl_brings_late_is_not_believed(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    old = entry_of(dropbox.write("/f", b"old"))
    mount.changes.begin_crawl()
    mount.changes.apply_page(page(old, more=True))
    mount.write("/f", b"ours")
    mount.drain()
    effects = mount.changes.apply_page(page(old, more=True))
    assert effects == []
    assert mount.read("/f") == b"ours"
    mount.changes.apply_page(page())
    assert mount.read("/f") == b"ours"


# ---- Moves ----


@pytest.mark.parametrize("limit", [1, 2, 2000])
def test_a_move_keeps_the_inode_also_across_pages(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    a_tree(dropbox)
    mount.follow()
    top = mount.ino("/top")
    dropbox.move("/top", "/d/sub/renamed")
    effects = mount.follow(limit)
    assert mount.ino("/d/sub/renamed") == top
    assert entries(effects) == {(ROOT_INO, "top"), (mount.ino("/d/sub"), "renamed")}
    assert contents(effects) == set()
    assert mount.paths() == dropbox.tree()


@pytest.mark.parametrize("limit", [1, 2, 3, 2000])
def test_a_moved_folder_keeps_its_inode_and_those_of_all_below(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    a_tree(dropbox)
    mount.follow()
    inos = [mount.ino(path) for path in ("/d", "/d/one", "/d/sub", "/d/sub/two")]
    dropbox.move("/d", "/e")
    effects = mount.follow(limit)
    assert [mount.ino(p) for p in ("/e", "/e/one", "/e/sub", "/e/sub/two")] == inos
    assert entries(effects) == {(ROOT_INO, "d"), (ROOT_INO, "e")}
    assert mount.paths() == dropbox.tree()


def test_a_move_is_not_told_to_the_kernel_as_a_removal(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.ino("/a")
    dropbox.move("/a", "/b")
    moved = mount.follow()
    assert Entry(ROOT_INO, "a") in moved
    dropbox.delete("/b")
    removed = mount.follow()
    assert Entry(ROOT_INO, "b", ino) in removed


def test_two_names_swapped_elsewhere_keep_their_inodes(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/a", b"A")
    dropbox.write("/b", b"B")
    mount.follow()
    a, b = mount.ino("/a"), mount.ino("/b")
    dropbox.move("/a", "/t")
    dropbox.move("/b", "/a")
    dropbox.move("/t", "/b")
    mount.follow(limit=1)
    assert (mount.ino("/b"), mount.ino("/a")) == (a, b)
    assert mount.paths() == {"/a": b"B", "/b": b"A"}


def test_a_name_re_created_in_another_case_is_shown_in_that_case(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/readme", b"1")
    mount.follow()
    dropbox.move("/readme", "/passing")
    dropbox.move("/passing", "/README")
    effects = mount.follow()
    assert mount.paths() == {"/README": b"1"}
    assert {(ROOT_INO, "readme"), (ROOT_INO, "README")} <= entries(effects)


def test_restart_between_the_pages_of_a_move_keeps_the_inode(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    inos = [mount.ino(path) for path in ("/d", "/d/one", "/d/sub/two")]
    dropbox.move("/d", "/e")
    assert mount.page(limit=1)
    mount.restart()
    mount.follow(limit=1)
    assert [mount.ino(p) for p in ("/e", "/e/one", "/e/sub/two")] == inos


def test_pending_content_goes_with_a_file_that_is_moved_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/d/f", b"old")
    mount.follow()
    ino = mount.write("/d/f", b"edited here")
    dropbox.move("/d/f", "/renamed")
    mount.follow()
    assert mount.ino("/renamed") == ino
    assert mount.paths() == {"/d": None, "/renamed": b"edited here"}
    mount.settle()
    assert dropbox.tree() == {"/d": None, "/renamed": b"edited here"}


def test_pending_work_below_goes_with_a_folder_that_is_moved_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    mount.write("/d/one", b"edited here")
    mount.write("/d/sub/new", b"new here")
    mount.mkdir("/d/folder")
    dropbox.move("/d", "/e")
    mount.follow(limit=1)
    mount.settle()
    assert mount.paths() == dropbox.tree()
    assert dropbox.tree() == {
        "/e": None,
        "/e/folder": None,
        "/e/one": b"edited here",
        "/e/sub": None,
        "/e/sub/new": b"new here",
        "/e/sub/two": b"22",
        "/top": b"333",
    }


@pytest.mark.parametrize("limit", [1, 2000])
def test_a_pending_rename_keeps_its_local_place_when_moved_elsewhere_too(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    dropbox.write("/a", b"1")
    mount.follow()
    ino = mount.ino("/a")
    mount.rename("/a", "/here")
    dropbox.move("/a", "/there")
    mount.follow(limit)
    assert mount.ino("/here") == ino
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/here": b"1"}


# ---- Changes ----


def test_changed_content_follows_and_drops_the_pages(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    ino = mount.ino("/f")
    dropbox.write("/f", b"newer", mtime_ns=7_000_000_000)
    assert mount.follow() == [Content(ino)]
    inode = mount.tree.get(ino)
    assert (inode.size, inode.mtime_ns) == (5, 7_000_000_000)
    assert mount.read("/f") == b"newer"


def test_a_file_replaced_by_a_folder_is_another_inode(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/x", b"1")
    mount.follow()
    ino = mount.ino("/x")
    dropbox.delete("/x")
    dropbox.write("/x/inside", b"2")
    effects = mount.follow()
    assert mount.paths() == {"/x": None, "/x/inside": b"2"}
    assert mount.ino("/x") != ino
    assert (ROOT_INO, "x") in entries(effects)


def test_our_own_echo_makes_nothing_stale(mount: Mount, dropbox: FakeDropbox) -> None:
    mount.follow()
    mount.mkdir("/d")
    mount.write("/d/f", b"1")
    mount.write("/g", b"2")
    mount.drain()
    mount.rename("/g", "/d/h")
    mount.drain()
    assert mount.follow() == []
    assert mount.paths() == dropbox.tree()


def test_a_new_entry_is_told_with_its_folder_whose_times_change(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.mkdir("/d")
    mount.follow()
    d, before = mount.ino("/d"), mount.tree.get(mount.ino("/d"))
    dropbox.write("/d/new", b"1")
    effects = mount.follow()
    assert entries(effects) == {(d, "new")}
    assert Attributes(d) in effects
    assert mount.tree.get(d).mtime_ns > before.mtime_ns


# ---- Deletions ----


def test_a_deletion_takes_what_is_below_though_nobody_lists_it(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    inos = [mount.ino(path) for path in ("/d", "/d/one", "/d/sub", "/d/sub/two")]
    dropbox.delete("/d")
    effects = mount.follow()
    assert mount.paths() == {"/top": b"333"}
    assert (ROOT_INO, "d") in entries(effects)
    assert [mount.tree.find(ino) for ino in inos] == [None] * 4


def test_what_is_held_open_keeps_its_row_when_it_is_deleted_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"1")
    mount.follow()
    ino = mount.ino("/f")
    mount.tree.in_use = lambda held: held == ino
    dropbox.delete("/f")
    mount.follow()
    assert mount.look("/f") is None
    inode = mount.tree.get(ino)
    assert mount.dropbox.contents[str(inode.rev)] == b"1"
    mount.tree.in_use = lambda held: False
    assert mount.tree.drop_unused(ino)


def test_an_unknown_path_deleted_is_nothing(mount: Mount) -> None:
    mount.follow()
    assert mount.changes.apply_page(page(gone("/no/such"), gone("/none"))) == []


def test_pending_content_survives_the_deletion_of_its_file_and_is_sent_as_new(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    ino = mount.write("/f", b"edited")
    dropbox.delete("/f")
    assert (ROOT_INO, "f") not in entries(mount.follow())
    assert mount.ino("/f") == ino
    mount.settle()
    assert dropbox.tree() == {"/f": b"edited"}


def test_regression_what_is_written_and_not_closed_survives_a_deletion_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"old")
    mount.follow()
    inode = mount.tree.get(mount.ino("/f"))
    staged = mount.staging.begin(inode)
    staged.write(0, b"OLD", mount.clock())
    dropbox.delete("/f")
    mount.follow()
    mount.staging.write_down(inode.ino)
    assert mount.paths() == {"/f": b"OLD"}
    mount.settle()
    assert dropbox.tree() == {"/f": b"OLD"}


def test_regression_what_is_written_between_the_pages_of_a_deletion_survives(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    dropbox.delete("/d")
    dropbox.write("/later", b"1")
    inode = mount.tree.get(mount.ino("/d/one"))
    staged = mount.staging.begin(inode)
    assert mount.page(limit=1)
    staged.write(1, b"+", mount.clock())
    mount.staging.record(staged)
    mount.follow()
    mount.settle()
    assert mount.paths() == dropbox.tree()
    assert dropbox.tree() == {"/d": None, "/d/one": b"1+", "/later": b"1", "/top": b"333"}


def test_a_folder_deleted_elsewhere_stays_with_what_is_pending_in_it(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    sub = mount.ino("/d/sub")
    mount.write("/d/sub/new", b"pending")
    dropbox.delete("/d")
    mount.follow()
    assert mount.paths() == {"/d": None, "/d/sub": None, "/d/sub/new": b"pending", "/top": b"333"}
    assert mount.ino("/d/sub") == sub
    mount.settle()
    assert mount.paths() == dropbox.tree()


def test_a_folder_deleted_and_made_again_elsewhere_takes_in_what_is_pending(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    mount.write("/d/new", b"pending")
    dropbox.delete("/d")
    dropbox.write("/d/other", b"o")
    mount.follow()
    assert mount.paths() == {"/d": None, "/d/new": b"pending", "/d/other": b"o", "/top": b"333"}
    mount.settle()
    assert mount.paths() == dropbox.tree()


def test_a_local_deletion_and_a_remote_one_are_one(mount: Mount, dropbox: FakeDropbox) -> None:
    a_tree(dropbox)
    mount.follow()
    mount.rmtree("/d")
    dropbox.delete("/d")
    mount.follow()
    assert mount.journal.count() == 0
    assert mount.paths() == {"/top": b"333"}


def test_a_local_deletion_is_given_up_when_the_content_changed_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"1")
    mount.follow()
    ino = mount.ino("/f")
    mount.unlink("/f")
    dropbox.write("/f", b"newer")
    effects = mount.follow()
    assert mount.paths() == {"/f": b"newer"}
    assert mount.ino("/f") == ino
    assert (ROOT_INO, "f") in entries(effects)
    assert mount.journal.count() == 0


def test_something_new_revives_the_folder_that_was_removed_here(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    d = mount.ino("/d")
    mount.rmtree("/d")
    dropbox.write("/d/sub/unseen", b"u")
    effects = mount.follow()
    assert mount.ino("/d") == d
    assert mount.paths() == {"/d": None, "/d/sub": None, "/d/sub/unseen": b"u", "/top": b"333"}
    assert (ROOT_INO, "d") in entries(effects)
    mount.settle()
    assert mount.paths() == dropbox.tree()


@pytest.mark.parametrize("limit", [1, 2000])
def test_regression_a_deletion_told_by_the_path_before_our_own_move_takes_effect(
    mount: Mount, dropbox: FakeDropbox, limit: int
) -> None:
    a_tree(dropbox)
    mount.follow()
    mount.rename("/d", "/e")
    dropbox.delete("/d/sub")
    mount.drain()
    assert dropbox.at("/e/one")
    mount.restart()
    mount.follow(limit)
    assert mount.paths() == dropbox.tree() == {"/e": None, "/e/one": b"1", "/top": b"333"}


def test_a_deletion_at_the_old_path_of_our_move_means_what_is_there_since(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    a_tree(dropbox)
    mount.follow()
    mount.rename("/d", "/e")
    mount.drain()
    dropbox.write("/d/one", b"another")
    dropbox.delete("/d/one")
    mount.follow(limit=1)
    assert mount.paths() == dropbox.tree()
    assert mount.read("/e/one") == b"1"


# ---- Collisions ----


def test_a_pending_file_steps_aside_for_one_that_came_from_elsewhere(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    ino = mount.write("/A.txt", b"ours")
    dropbox.write("/a.txt", b"theirs")
    effects = mount.follow()
    assert mount.paths() == {"/a.txt": b"theirs", "/A (conflicted copy).txt": b"ours"}
    assert mount.ino("/A (conflicted copy).txt") == ino
    assert entries(effects) >= {
        (ROOT_INO, "A.txt"),
        (ROOT_INO, "a.txt"),
        (ROOT_INO, "A (conflicted copy).txt"),
    }
    mount.settle()
    assert mount.paths() == dropbox.tree()


def test_two_folders_of_one_name_become_one_spelled_as_others_see_it(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    ino = mount.mkdir("/photos")
    mount.write("/photos/ours", b"o")
    dropbox.write("/Photos/theirs", b"t")
    effects = mount.follow()
    assert mount.ino("/Photos") == ino
    assert mount.paths() == {"/Photos": None, "/Photos/ours": b"o", "/Photos/theirs": b"t"}
    assert entries(effects) >= {(ROOT_INO, "photos"), (ROOT_INO, "Photos")}
    mount.settle()
    assert mount.paths() == dropbox.tree()


def test_a_pending_folder_steps_aside_for_a_file(mount: Mount, dropbox: FakeDropbox) -> None:
    mount.follow()
    mount.mkdir("/x")
    mount.write("/x/inside", b"1")
    dropbox.write("/x", b"a file")
    mount.follow()
    mount.settle()
    assert mount.paths() == dropbox.tree()
    assert dropbox.tree() == {
        "/x": b"a file",
        "/x (conflicted copy)": None,
        "/x (conflicted copy)/inside": b"1",
    }


def test_both_changed_both_exist_afterwards(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/f.txt", b"base")
    mount.follow()
    ino = mount.write("/f.txt", b"ours")
    dropbox.write("/f.txt", b"theirs")
    assert contents(mount.follow()) == set()
    assert mount.read("/f.txt") == b"ours"
    mount.settle()
    assert dropbox.tree() == {"/f.txt": b"theirs", "/f (conflicted copy).txt": b"ours"}
    assert mount.paths() == dropbox.tree()
    assert mount.ino("/f (conflicted copy).txt") == ino


def test_regression_deleting_an_edited_file_leaves_the_version_nobody_saw(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"base")
    mount.follow()
    mount.write("/f", b"ours")
    dropbox.write("/f", b"unseen")
    mount.follow()
    mount.unlink("/f")
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/f": b"unseen"}


def test_regression_replacing_an_edited_file_leaves_the_version_nobody_saw(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"base")
    mount.follow()
    mount.write("/f", b"ours")
    dropbox.write("/f", b"unseen")
    mount.follow()
    mount.write("/tmp", b"saved by way of another name")
    mount.rename("/tmp", "/f")
    mount.settle()
    assert mount.paths() == dropbox.tree()
    assert set(dropbox.tree().values()) == {b"unseen", b"saved by way of another name"}


def test_what_was_renamed_here_and_deleted_elsewhere_is_sent_as_new(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"file")
    dropbox.write("/d/sub/g", b"deep")
    mount.follow()
    mount.rename("/f", "/f2")
    mount.rename("/d", "/d2")
    dropbox.delete("/f")
    dropbox.delete("/d")
    mount.follow()
    expected = {"/f2": b"file", "/d2": None, "/d2/sub": None, "/d2/sub/g": b"deep"}
    assert mount.paths() == expected
    mount.settle()
    assert mount.paths() == dropbox.tree() == expected


# ---- On demand ----


def test_a_folder_listed_on_demand_is_complete_before_the_crawl_is(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/a", b"1")
    dropbox.write("/z/one", b"1")
    dropbox.write("/z/sub/deep", b"2")
    mount.page(limit=1)
    mount.listing("")
    z = mount.ino("/z")
    assert not mount.tree.children_known(mount.tree.get(z))
    mount.listing("/z")
    assert mount.tree.children_known(mount.tree.get(z))
    assert set(mount.paths()) == {"/a", "/z", "/z/one", "/z/sub"}
    one = mount.ino("/z/one")
    mount.follow(limit=1)
    assert mount.ino("/z/one") == one
    assert mount.paths() == dropbox.tree()


def test_a_listing_that_comes_late_does_not_turn_back_what_the_crawl_told_since(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/a", b"old")
    dropbox.write("/b", b"b")
    dropbox.mkdir("/z")
    mount.changes.begin_crawl()
    late = dropbox.list_folder("", recursive=False)
    dropbox.write("/a", b"newer")
    dropbox.move("/b", "/z/b")
    while "/z/b" not in mount.paths():
        mount.page(limit=1)
    list(mount.changes.apply_listing(ROOT_INO, RemotePath(""), late.entries))
    assert mount.paths()["/a"] == b"newer"
    assert "/b" not in mount.paths()
    mount.follow(limit=1)
    assert mount.paths() == dropbox.tree()


@pytest.mark.parametrize("slices", [0, 1])
@pytest.mark.parametrize("where", ["here", "elsewhere", "deleted"])
def test_regression_a_folder_that_goes_while_it_is_listed(
    mount: Mount, dropbox: FakeDropbox, where: str, slices: int
) -> None:
    """What was still to be applied made a second folder where it had been."""
    for number in range(9):
        dropbox.write(f"/{number}", b"x")
    for number in range(6):
        dropbox.write(f"/folder/{number}", b"%d" % number)
    mount.page(limit=1)
    mount.listing("")
    folder = mount.ino("/folder")
    page = dropbox.list_folder("/folder", recursive=False)
    rest = mount.changes.apply_listing(folder, RemotePath("/folder"), page.entries, size=2)
    for _ in range(slices):
        next(rest)
    if where == "here":
        mount.rename("/folder", "/moved")
        mount.commit(folder)
    elif where == "elsewhere":
        dropbox.move("/folder", "/00")
    else:
        dropbox.delete("/folder")
    while where != "here" and "/folder" in mount.paths():
        mount.page(limit=1)
    list(rest)
    assert "/folder" not in mount.paths()
    found = mount.tree.find(folder)
    assert found is None or found.listed != 1 or where == "deleted"
    mount.follow(limit=1)
    mount.settle()
    assert mount.paths() == dropbox.tree()


def test_what_only_a_listing_told_goes_when_the_crawl_does_not_find_it(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/a", b"a")
    dropbox.write("/gone", b"1")
    mount.changes.begin_crawl()
    mount.listing("")
    assert "/gone" in mount.paths()
    dropbox.delete("/gone")
    page = dropbox.list_folder("")
    known = [entry for entry in page.entries if entry.name != "gone"]
    mount.changes.apply_page(msgspec.structs.replace(page, entries=known))
    assert mount.paths() == dropbox.tree() == {"/a": b"a"}


def test_a_listing_does_not_touch_what_is_pending(mount: Mount, dropbox: FakeDropbox) -> None:
    dropbox.write("/f", b"theirs")
    dropbox.write("/g", b"g")
    mount.changes.begin_crawl()
    mount.write("/f", b"ours")
    mount.listing("")
    assert mount.paths() == {"/f": b"ours", "/g": b"g"}
    mount.follow()
    mount.settle()
    assert set(dropbox.tree().values()) == {b"ours", b"theirs", b"g"}
    assert mount.paths() == dropbox.tree()


# ---- Mounted below the root ----


@pytest.fixture
def below(tmp_path: Path, dropbox: FakeDropbox) -> Mount:
    """A mount of the folder "/Team/Ours" alone."""
    dropbox.write("/Team/Ours/f", b"1")
    dropbox.write("/Team/Ours/sub/g", b"2")
    dropbox.write("/elsewhere", b"3")
    folder = tmp_path / "below"
    folder.mkdir()
    return Mount(folder, dropbox, RemotePath("/Team/Ours"))


def test_a_mounted_folder_is_the_root_and_nothing_else_is_seen(
    below: Mount, dropbox: FakeDropbox
) -> None:
    below.follow()
    assert below.paths() == {"/f": b"1", "/sub": None, "/sub/g": b"2"}
    dropbox.write("/team/ours/sub/new", b"4")
    dropbox.write("/team/other", b"5")
    below.follow()
    below.write("/sub/mine", b"6")
    below.rename("/f", "/sub/f")
    below.settle()
    assert dropbox.tree() == {
        "/Team": None,
        "/Team/Ours": None,
        "/Team/Ours/sub": None,
        "/Team/Ours/sub/f": b"1",
        "/Team/Ours/sub/g": b"2",
        "/Team/Ours/sub/mine": b"6",
        "/Team/Ours/sub/new": b"4",
        "/Team/other": b"5",
        "/elsewhere": b"3",
    }
    below.close()


def test_the_mounted_folder_deleted_elsewhere_is_empty(below: Mount, dropbox: FakeDropbox) -> None:
    below.follow()
    below.write("/pending", b"p")
    below.changes.apply_page(page(gone("/team/ours")))
    assert below.paths() == {"/pending": b"p"}
    below.close()


# ---- What Dropbox does not tell ----


def test_regression_a_document_is_no_source_of_the_content_that_its_hash_names(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    """A copy of it would be another document, not the file that a program wrote."""
    mount.follow()
    ino = mount.write("/f", b"content")
    mount.settle()
    digest = content_hash(b"content")
    assert mount.journal.source_of(digest) == mount.tree.get(ino).id
    mount.tree.update(ino, downloadable=0)
    assert mount.journal.source_of(digest) is None


def test_a_document_without_a_hash_changes_by_its_revision(mount: Mount) -> None:
    def document(rev: str, size: int) -> FileEntry:
        return FileEntry(
            id=FileId("id:doc"),
            name="doc.paper",
            path=RemotePath("/doc.paper"),
            rev=Rev(rev),
            size=size,
            content_hash=None,
            client_modified_ns=0,
            server_modified_ns=0,
            downloadable=False,
            export_as="markdown",
        )

    mount.changes.begin_crawl()
    mount.changes.apply_page(page(document("1", 10)))
    ino = mount.ino("/doc.paper")
    assert (mount.tree.get(ino).downloadable, mount.tree.get(ino).writable) == (0, False)
    assert mount.tree.get(ino).export_as == "markdown"
    assert mount.changes.apply_page(page(document("1", 10))) == []
    assert mount.changes.apply_page(page(document("2", 12))) == [Content(ino)]
    assert mount.tree.get(ino).size == 12
    mount.write("/new", b"saved over it")
    with pytest.raises(TreeError) as caught:
        mount.tree.rename(ROOT_INO, "new", ROOT_INO, "doc.paper", replace=True)
    assert caught.value.errno == errno.EACCES


def test_a_lost_reply_is_recognised_in_the_feed(mount: Mount, dropbox: FakeDropbox) -> None:
    mount.follow()
    ino = mount.write("/f", b"sent")
    mount.journal.sending(ino, content_hash(b"sent"))
    dropbox.write("/f", b"sent")
    mount.follow()
    assert mount.paths() == {"/f": b"sent"}
    assert mount.ino("/f") == ino
    mount.settle()
    assert dropbox.tree() == {"/f": b"sent"}


def test_regression_a_save_by_rename_whose_reply_was_lost_is_recognised_in_the_feed(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    """It came back as somebody's change of the file that was renamed over, and made a copy."""
    dropbox.write("/f", b"before")
    mount.follow()
    mount.write("/temporary", b"saved")
    mount.rename("/temporary", "/f")
    ino = mount.ino("/f")
    mount.journal.sending(ino, content_hash(b"saved"))
    dropbox.write("/f", b"saved")
    mount.restart()
    mount.follow()
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/f": b"saved"}
    assert mount.ino("/f") == ino


@pytest.fixture
def unanswered(mount: Mount, dropbox: FakeDropbox) -> Mount:
    """A new file, a changed one and a new folder, all on Dropbox, whose replies never came."""
    dropbox.write("/old", b"before")
    dropbox.mkdir("/d")
    mount.follow()
    for path in ("/new", "/d/new", "/old"):
        ino = mount.write(path, b"sent")
        mount.journal.sending(ino, content_hash(b"sent"))
        dropbox.write(path, b"sent")
    mount.journal.sending(mount.mkdir("/folder"), None)
    dropbox.mkdir("/folder")
    return mount


def test_regression_what_was_renamed_before_its_reply_came_is_not_there_twice(
    unanswered: Mount, dropbox: FakeDropbox
) -> None:
    unanswered.rename("/new", "/renamed")
    unanswered.rename("/d/new", "/old")
    unanswered.rename("/folder", "/d/folder")
    unanswered.write("/d/folder/within", b"w")
    unanswered.restart()
    unanswered.follow()
    unanswered.settle()
    assert unanswered.paths() == dropbox.tree()
    assert dropbox.tree() == {
        "/renamed": b"sent",
        "/old": b"sent",
        "/d": None,
        "/d/folder": None,
        "/d/folder/within": b"w",
    }


def test_regression_what_was_respelled_before_its_reply_came_keeps_its_spelling(
    unanswered: Mount, dropbox: FakeDropbox
) -> None:
    """Its own echo took the new spelling back."""
    for name in ("new", "old", "folder", "d/new"):
        path = f"/{name}"
        unanswered.rename(path, path[:-1] + path[-1].upper())
    unanswered.restart()
    unanswered.follow()
    assert sorted(unanswered.paths()) == ["/d", "/d/neW", "/foldeR", "/neW", "/olD"]
    unanswered.settle()
    assert unanswered.paths() == dropbox.tree()
    assert sorted(dropbox.tree()) == ["/d", "/d/neW", "/foldeR", "/neW", "/olD"]


def test_regression_what_was_removed_before_its_reply_came_does_not_come_back(
    unanswered: Mount, dropbox: FakeDropbox
) -> None:
    unanswered.unlink("/new")
    unanswered.unlink("/old")
    unanswered.rmtree("/d")
    unanswered.rmdir("/folder")
    unanswered.restart()
    unanswered.follow()
    unanswered.settle()
    assert unanswered.paths() == dropbox.tree() == {}
    assert unanswered.tree.unused() == []


def test_regression_what_replaced_it_before_its_reply_came_is_what_is_there(
    unanswered: Mount, dropbox: FakeDropbox
) -> None:
    unanswered.unlink("/new")
    unanswered.write("/new", b"another")
    unanswered.rename("/d/new", "/moved")
    unanswered.write("/d/new", b"third")
    unanswered.restart()
    unanswered.follow()
    unanswered.settle()
    assert unanswered.paths() == dropbox.tree()
    assert dropbox.tree() == {
        "/new": b"another",
        "/moved": b"sent",
        "/old": b"sent",
        "/folder": None,
        "/d": None,
        "/d/new": b"third",
    }


def test_what_was_removed_and_never_made_is_forgotten_in_time(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    mount.journal.sending(mount.write("/f", b"never arrived"), content_hash(b"never arrived"))
    mount.unlink("/f")
    assert mount.tree.unused() != []
    mount.clock.now += 61 * SECOND
    dropbox.write("/other", b"so that the feed has something")
    mount.follow()
    assert mount.tree.unused() == []


def test_after_a_lost_reply_a_later_edit_is_made_from_our_own_commit(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    dropbox.write("/f", b"base")
    mount.follow()
    ino = mount.write("/f", b"sent")
    mount.journal.sending(ino, content_hash(b"sent"))
    dropbox.write("/f", b"sent")
    mount.append("/f", b" and more")
    mount.follow()
    mount.restart()
    assert mount.read("/f") == b"sent and more"
    mount.settle()
    assert dropbox.tree() == {"/f": b"sent and more"}


def test_regression_a_folder_waits_for_the_one_in_it_that_it_is_to_go_into(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    """Dropbox refused to move it into itself, which is where its new folder still was."""
    dropbox.write("/outer/between/inner/file", b"f")
    mount.follow()
    mount.rename("/outer", "/other")
    mount.rename("/other/between/inner", "/inner")
    mount.rename("/other", "/inner/outer")
    mount.settle()
    assert mount.paths() == dropbox.tree()
    assert sorted(dropbox.tree()) == [
        "/inner",
        "/inner/file",
        "/inner/outer",
        "/inner/outer/between",
    ]


def test_regression_two_folders_that_go_into_each_others_places(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    """The one is to go where the other still holds it, and the other has to wait for the name."""
    dropbox.write("/a/b/file", b"f")
    mount.follow()
    mount.rename("/a", "/x")
    mount.rename("/x/b", "/a")
    mount.rename("/x", "/a/b")
    mount.settle()
    assert mount.paths() == dropbox.tree() == {"/a": None, "/a/b": None, "/a/file": b"f"}


def test_a_folder_that_only_a_path_has_named_can_be_removed(
    mount: Mount, dropbox: FakeDropbox
) -> None:
    mount.follow()
    position = mount.changes.cursor
    assert position is not None
    dropbox.write("/a/f", b"text")
    entries = [entry_of(dropbox.find("/a/f"))]
    mount.changes.apply_page(Page(entries=entries, cursor=position, has_more=True))
    mount.rename("/a/f", "/f")
    mount.rmdir("/a")
    mount.settle()
    assert dropbox.tree() == mount.paths() == {"/f": b"text"}
