"""Edits made elsewhere, seen through whatever the kernel has cached, within a second and a half.

Each test first makes the kernel hold what will be stale: attributes, listings, pages, entries that
are not there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.mount.mounted import Mounted, eventually


@pytest.fixture
def warm(mounted: Mounted) -> Mounted:
    """A small tree that the kernel knows all of, and a feed that is waiting."""
    mounted.server.edit(
        [
            write("/a.txt", "first"),
            write("/docs/b.txt", "bee"),
            write("/docs/deep/c.txt", "sea"),
            {"op": "mkdir", "path": "/empty"},
        ]
    )
    mounted.sync()
    warm_up(mounted.path)
    return mounted


def write(path: str, text: str) -> dict[str, Any]:
    """An edit that writes."""
    return {"op": "write", "path": path, "text": text}


def warm_up(folder: Path) -> None:
    """Look at everything as programs do."""
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.stat(Path(top) / name)
        for name in files:
            (Path(top) / name).read_bytes()


def missing(path: Path) -> bool:
    """Whether the kernel says that nothing is there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    return False


def test_a_file_added_elsewhere_appears(warm: Mounted) -> None:
    path = warm.path / "docs" / "new.txt"
    assert missing(path)
    warm.server.edit([write("/docs/new.txt", "new")])
    eventually(lambda: path.read_text() == "new")
    assert sorted(os.listdir(warm.path / "docs")) == ["b.txt", "deep", "new.txt"]


def test_a_file_added_elsewhere_appears_under_every_spelling_that_was_missed(
    warm: Mounted,
) -> None:
    spellings = [warm.path / name for name in ("HELLO.txt", "Hello.TXT", "hello.txt")]
    assert all(missing(path) for path in spellings)
    warm.server.edit([write("/hello.txt", "hello")])
    for path in spellings:
        eventually(lambda path=path: path.read_text() == "hello", what=path.name)
    assert "hello.txt" in os.listdir(warm.path)


def test_a_listing_shows_what_was_added_elsewhere(warm: Mounted) -> None:
    assert os.listdir(warm.path / "empty") == []
    warm.server.edit([write(f"/empty/{n}", str(n)) for n in range(10)])
    eventually(lambda: len(os.listdir(warm.path / "empty")) == 10)


def test_a_folder_that_is_being_watched_by_an_open_handle_shows_what_was_added(
    warm: Mounted,
) -> None:
    descriptor = os.open(warm.path / "empty", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.listdir(descriptor) == []
        warm.server.edit([write("/empty/x", "x")])
        eventually(lambda: os.listdir(descriptor) == ["x"])
    finally:
        os.close(descriptor)


def test_a_file_changed_elsewhere_has_its_new_content_size_and_time(warm: Mounted) -> None:
    path = warm.path / "a.txt"
    before = os.stat(path)
    warm.server.edit(
        [{**write("/a.txt", "second, longer"), "client_modified": "2021-01-01T00:00:00Z"}]
    )
    eventually(lambda: path.read_text() == "second, longer")
    after = os.stat(path)
    assert after.st_size == 14
    assert after.st_mtime == 1609459200
    assert after.st_ino == before.st_ino


def test_content_of_the_same_size_changed_elsewhere_is_read_anew(warm: Mounted) -> None:
    path = warm.path / "a.txt"
    warm.server.edit([write("/a.txt", "other")])
    eventually(lambda: path.read_text() == "other")


def test_a_file_open_for_reading_sees_the_change_when_it_reads_again(warm: Mounted) -> None:
    with (warm.path / "a.txt").open("rb", buffering=0) as file:
        assert file.read() == b"first"
        warm.server.edit([write("/a.txt", "second, longer")])
        eventually(lambda: os.pread(file.fileno(), 100, 0) == b"second, longer")


def test_a_file_removed_elsewhere_disappears(warm: Mounted) -> None:
    warm.server.edit([{"op": "delete", "path": "/docs/b.txt"}])
    eventually(lambda: missing(warm.path / "docs" / "b.txt"))
    assert os.listdir(warm.path / "docs") == ["deep"]


def test_a_file_removed_elsewhere_can_be_read_by_who_has_it_open(warm: Mounted) -> None:
    with (warm.path / "a.txt").open("rb", buffering=0) as file:
        warm.server.edit([{"op": "delete", "path": "/a.txt"}])
        eventually(lambda: missing(warm.path / "a.txt"))
        assert file.read() == b"first"


def test_a_file_moved_elsewhere_keeps_its_inode_number(warm: Mounted) -> None:
    number = os.stat(warm.path / "a.txt").st_ino
    warm.server.edit([{"op": "move", "from": "/a.txt", "to": "/docs/deep/moved.txt"}])
    moved = warm.path / "docs" / "deep" / "moved.txt"
    eventually(lambda: os.stat(moved).st_ino == number)
    eventually(lambda: missing(warm.path / "a.txt"))
    assert moved.read_text() == "first"


def test_a_folder_moved_elsewhere_keeps_the_inode_numbers_below(warm: Mounted) -> None:
    names = ("", "b.txt", "deep", "deep/c.txt")
    numbers = [os.stat(warm.path / "docs" / name).st_ino for name in names]
    warm.server.edit([{"op": "move", "from": "/docs", "to": "/empty/papers"}])
    new = warm.path / "empty" / "papers"
    eventually(lambda: [os.stat(new / name).st_ino for name in names] == numbers)
    eventually(lambda: missing(warm.path / "docs"))
    assert (new / "deep" / "c.txt").read_text() == "sea"


def test_who_stands_in_a_folder_moved_elsewhere_goes_with_it(warm: Mounted) -> None:
    descriptor = os.open(warm.path / "docs", os.O_RDONLY | os.O_DIRECTORY)
    try:
        warm.server.edit([{"op": "move", "from": "/docs", "to": "/papers"}])
        eventually(lambda: os.stat(warm.path / "papers"))
        assert sorted(os.listdir(descriptor)) == ["b.txt", "deep"]
        found = os.open("b.txt", os.O_RDONLY, dir_fd=descriptor)
        assert os.read(found, 10) == b"bee"
        os.close(found)
    finally:
        os.close(descriptor)


def test_who_writes_to_a_file_moved_elsewhere_goes_on_with_it(warm: Mounted) -> None:
    with (warm.path / "a.txt").open("r+b", buffering=0) as file:
        warm.server.edit([{"op": "move", "from": "/a.txt", "to": "/moved.txt"}])
        eventually(lambda: os.stat(warm.path / "moved.txt"))
        assert os.fstat(file.fileno()).st_nlink == 1
        file.write(b"FIRST")
    warm.sync()
    assert warm.server.content("/moved.txt") == b"FIRST"
    assert "/a.txt" not in warm.server.paths()


def test_a_folder_removed_elsewhere_disappears_with_all_below(warm: Mounted) -> None:
    warm.server.edit([{"op": "delete", "path": "/docs"}])
    eventually(lambda: missing(warm.path / "docs"))
    assert missing(warm.path / "docs" / "deep" / "c.txt")
    assert sorted(os.listdir(warm.path)) == ["a.txt", "empty"]


def test_a_name_recreated_in_another_case_is_shown_in_that(warm: Mounted) -> None:
    assert (warm.path / "A.TXT").read_text() == "first"
    warm.server.edit([{"op": "delete", "path": "/a.txt"}, write("/A.TXT", "shouted")])
    eventually(lambda: "A.TXT" in os.listdir(warm.path))
    assert "a.txt" not in os.listdir(warm.path)
    for spelling in ("a.txt", "A.TXT", "A.txt"):
        assert (warm.path / spelling).read_text() == "shouted"


def test_a_folder_recreated_in_another_case_is_shown_in_that(warm: Mounted) -> None:
    warm.server.edit([{"op": "delete", "path": "/docs"}, write("/Docs/other.txt", "o")])
    eventually(lambda: sorted(os.listdir(warm.path)) == ["Docs", "a.txt", "empty"])
    assert os.listdir(warm.path / "Docs") == ["other.txt"]
    assert os.listdir(warm.path / "docs") == ["other.txt"]


def test_a_file_that_became_a_folder_elsewhere_is_one(warm: Mounted) -> None:
    warm.server.edit([{"op": "delete", "path": "/a.txt"}, write("/a.txt/inside", "i")])
    eventually(lambda: (warm.path / "a.txt" / "inside").read_text() == "i")


def test_a_file_that_is_back_elsewhere_is_back_here(warm: Mounted) -> None:
    for number in range(3):
        warm.server.edit([{"op": "delete", "path": "/a.txt"}])
        eventually(lambda: missing(warm.path / "a.txt"))
        warm.server.edit([write("/a.txt", f"again {number}")])
        eventually(lambda number=number: (warm.path / "a.txt").read_text() == f"again {number}")


def test_a_file_swapped_with_another_elsewhere_has_the_others_content(warm: Mounted) -> None:
    warm.server.edit(
        [
            {"op": "move", "from": "/a.txt", "to": "/passing"},
            {"op": "move", "from": "/docs/b.txt", "to": "/a.txt"},
            {"op": "move", "from": "/passing", "to": "/docs/b.txt"},
        ]
    )
    eventually(lambda: (warm.path / "a.txt").read_text() == "bee")
    eventually(lambda: (warm.path / "docs" / "b.txt").read_text() == "first")


def test_many_edits_made_elsewhere_all_arrive(warm: Mounted) -> None:
    warm.server.edit([write(f"/many/{n % 7}/{n}", str(n)) for n in range(300)])
    eventually(lambda: sum(len(files) for _, _, files in os.walk(warm.path / "many")) == 300, 5)
    warm_up(warm.path / "many")
    warm.server.edit([write(f"/many/{n % 7}/{n}", f"{n} again") for n in range(300)])
    eventually(
        lambda: all(
            (warm.path / "many" / str(n % 7) / str(n)).read_text() == f"{n} again"
            for n in range(300)
        ),
        5,
    )


def test_a_reset_of_the_cursor_costs_nothing_that_can_be_seen(warm: Mounted) -> None:
    numbers = {path: os.stat(path).st_ino for path in warm.path.rglob("*")}
    warm.server.control("reset_cursors", {})
    warm.server.edit([write("/docs/after.txt", "after"), {"op": "delete", "path": "/a.txt"}])
    eventually(lambda: (warm.path / "docs" / "after.txt").read_text() == "after", 3)
    eventually(lambda: missing(warm.path / "a.txt"), 3)
    del numbers[warm.path / "a.txt"]
    assert {path: os.stat(path).st_ino for path in numbers} == numbers


def test_an_edit_made_elsewhere_during_a_network_failure_is_seen_after_it(warm: Mounted) -> None:
    warm.announce("cannot be followed")
    warm.server.faults([{"route": "*", "kind": "reset"}])
    warm.server.edit([write("/a.txt", "meanwhile")])
    assert (warm.path / "a.txt").read_text() in ("first", "meanwhile")
    warm.server.faults()
    eventually(lambda: (warm.path / "a.txt").read_text() == "meanwhile", 10)
