"""Local changes of the tree: the rules of POSIX, and the journal row that goes with each."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbxfs.store.database import Database
from dbxfs.store.inode import ROOT_INO
from dbxfs.store.journal import Journal
from dbxfs.store.tree import Tree, TreeError


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    ticks = itertools.count(1)
    database = Database(tmp_path / "tree.db")
    yield Tree(database, lambda: next(ticks))
    database.close()


def refused(tree: Tree, number: int) -> pytest.RaisesExc[TreeError]:
    return pytest.raises(TreeError, check=lambda error: error.errno == number)


def names(tree: Tree, folder: int = ROOT_INO) -> list[str]:
    return [inode.name for inode in tree.children(folder)]


def make(tree: Tree, path: str) -> int:
    """A file, or with a slash at the end a folder; gives its inode number."""
    parent = ROOT_INO
    *folders, name = path.rstrip("/").split("/")
    for folder in folders:
        found = tree.child(parent, folder)
        assert found is not None
        parent = found.ino
    create = tree.create_folder if path.endswith("/") else tree.create_file
    return create(parent, name, None).ino


def test_a_name_in_another_case_is_the_same_entry(tree: Tree) -> None:
    ino = make(tree, "Readme")
    for spelling in ("Readme", "README", "readme"):
        found = tree.child(ROOT_INO, spelling)
        assert found is not None
        assert found.ino == ino
    with refused(tree, errno.EEXIST):
        make(tree, "README")
    with refused(tree, errno.EEXIST):
        make(tree, "readme/")
    assert names(tree) == ["Readme"]


def test_composed_and_decomposed_names_are_the_same_entry(tree: Tree) -> None:
    make(tree, "ä")
    assert tree.child(ROOT_INO, "a\u0308") is not None


def test_a_full_folder_is_not_removed(tree: Tree) -> None:
    make(tree, "d/")
    make(tree, "d/f")
    with refused(tree, errno.ENOTEMPTY):
        tree.rmdir(ROOT_INO, "d")
    with refused(tree, errno.EISDIR):
        tree.unlink(ROOT_INO, "d")
    with refused(tree, errno.ENOENT):
        tree.rmdir(ROOT_INO, "e")


@pytest.mark.parametrize(
    ("source", "target", "number"),
    [
        ("file", "folder", errno.EISDIR),
        ("folder", "file", errno.ENOTDIR),
        ("folder", "full", errno.ENOTEMPTY),
        ("absent", "new", errno.ENOENT),
    ],
)
def test_rename_says_what_rename_2_says(tree: Tree, source: str, target: str, number: int) -> None:
    for path in ("file", "folder/", "full/", "full/f"):
        make(tree, path)
    with refused(tree, number):
        tree.rename(ROOT_INO, source, ROOT_INO, target, replace=True)
    assert names(tree) == ["file", "folder", "full"]


def test_a_folder_cannot_be_moved_into_itself(tree: Tree) -> None:
    outer = make(tree, "a/")
    inner = make(tree, "a/b/")
    for into in (outer, inner):
        with refused(tree, errno.EINVAL):
            tree.rename(ROOT_INO, "a", into, "c", replace=True)


def test_a_rename_replaces_or_refuses_as_it_was_asked(tree: Tree) -> None:
    old, new = make(tree, "old"), make(tree, "new")
    with refused(tree, errno.EEXIST):
        tree.rename(ROOT_INO, "old", ROOT_INO, "new", replace=False)
    moved, replaced = tree.rename(ROOT_INO, "old", ROOT_INO, "new", replace=True)
    assert moved.ino == old
    assert replaced is not None
    assert replaced.ino == new
    assert names(tree) == ["new"]
    assert tree.find(new) is None


def test_a_change_of_case_alone_changes_the_spelling(tree: Tree) -> None:
    ino = make(tree, "readme")
    tree.rename(ROOT_INO, "readme", ROOT_INO, "README", replace=True)
    assert names(tree) == ["README"]
    assert tree.get(ino).name == "README"


def test_a_removed_file_stays_while_it_is_in_use(tree: Tree) -> None:
    ino = make(tree, "f")
    tree.in_use = lambda asked: asked == ino
    tree.unlink(ROOT_INO, "f")
    assert tree.get(ino).parent is None
    tree.in_use = lambda asked: False
    assert tree.drop_unused(ino)
    assert tree.find(ino) is None


def test_nothing_is_made_in_a_removed_folder(tree: Tree) -> None:
    folder = make(tree, "d/")
    tree.in_use = lambda asked: True
    tree.rmdir(ROOT_INO, "d")
    with refused(tree, errno.ENOENT):
        tree.create_file(folder, "f", None)


def test_a_read_only_folder_takes_nothing(tree: Tree) -> None:
    folder = make(tree, "shared/")
    make(tree, "shared/f")
    tree.update(folder, read_only=1)
    with refused(tree, errno.EACCES):
        tree.create_file(folder, "g", None)
    with refused(tree, errno.EACCES):
        tree.unlink(folder, "f")


def test_a_position_in_a_listing_outlives_what_comes_and_goes(tree: Tree) -> None:
    inos = [make(tree, f"f{number}") for number in range(10)]
    first = tree.children(ROOT_INO, 0, 5)
    for number in (0, 4, 5):
        tree.unlink(ROOT_INO, f"f{number}")
    make(tree, "new")
    rest = tree.children(ROOT_INO, first[-1].ino)
    assert [inode.name for inode in rest] == ["f6", "f7", "f8", "f9", "new"]
    assert first[-1].ino == inos[4]


def test_every_change_has_its_journal_row_and_none_is_left_of_what_never_was(tree: Tree) -> None:
    journal = Journal(tree)
    told: list[int] = []
    tree.on_pending = told.append
    ino = make(tree, "f")
    assert [row.ino for row in journal.rows()] == [ino]
    assert told == [ino]
    tree.unlink(ROOT_INO, "f")
    assert journal.count() == 0


def test_a_refused_change_leaves_no_journal_row(tree: Tree) -> None:
    make(tree, "f")
    before = Journal(tree).count()
    with refused(tree, errno.EEXIST):
        make(tree, "f")
    assert Journal(tree).count() == before


def test_folders_are_touched_by_what_happens_in_them(tree: Tree) -> None:
    folder = make(tree, "d/")
    before = tree.get(folder).mtime_ns
    make(tree, "d/f")
    after = tree.get(folder).mtime_ns
    assert after > before
    tree.unlink(folder, "f")
    assert tree.get(folder).mtime_ns > after
