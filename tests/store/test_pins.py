"""Pins and pinned blocks: what they cover, what they survive, and what cannot push them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbxfs.store.blocks import BLOCK, MARGIN
from dbxfs.store.inode import ROOT_INO
from dbxfs.store.pinned import PinningCache
from dbxfs.store.pins import Pins, files_below
from dbxfs.store.tree import TreeError
from tests.fakes import FakeDropbox

from .mount import Mount


@pytest.fixture
def pins(mount: Mount) -> Pins:
    return Pins(mount.tree)


def pinned_paths(mount: Mount) -> set[str]:
    """What `files_below` gives for all pins, as paths."""
    return {mount.tree.path(file.ino) for file in files_below(mount.folder / "tree.db")}


# ---- Pins ----


def test_a_pin_covers_all_that_is_in_the_folder_and_what_comes_later(
    mount: Mount, dropbox: FakeDropbox, pins: Pins
) -> None:
    dropbox.write("/d/e/f", b"f")
    dropbox.write("/other", b"o")
    mount.follow()
    pins.add(mount.ino("/d"))
    dropbox.write("/d/e/later", b"l")
    mount.follow()
    assert pins.covers(mount.ino("/d/e/later"))
    assert pins.holder(mount.ino("/d/e/f")) == mount.ino("/d")
    assert not pins.covers(mount.ino("/other"))
    assert pinned_paths(mount) == {"/d/e/f", "/d/e/later"}


def test_a_pin_goes_with_a_move_also_one_that_was_made_elsewhere(
    mount: Mount, dropbox: FakeDropbox, pins: Pins
) -> None:
    dropbox.write("/d/f", b"f")
    mount.follow()
    pins.add(mount.ino("/d"))
    dropbox.move("/d", "/e")
    mount.follow()
    assert pins.is_set(mount.ino("/e"))
    assert pinned_paths(mount) == {"/e/f"}


def test_what_takes_the_place_of_a_pinned_file_is_pinned(
    mount: Mount, dropbox: FakeDropbox, pins: Pins
) -> None:
    dropbox.write("/f", b"one")
    mount.follow()
    pins.add(mount.ino("/f"))
    dropbox.delete("/f")
    dropbox.write("/f", b"two")
    mount.follow()
    assert pins.is_set(mount.ino("/f"))
    mount.write("/f.new", b"three")
    mount.rename("/f.new", "/f")
    assert pins.is_set(mount.ino("/f"))
    dropbox.delete("/f")


def test_a_pin_ends_with_its_file(mount: Mount, dropbox: FakeDropbox, pins: Pins) -> None:
    dropbox.write("/f", b"one")
    mount.follow()
    pins.add(mount.ino("/f"))
    dropbox.delete("/f")
    mount.follow()
    assert not pins.any()
    with pytest.raises(TreeError):
        pins.add(4711)
    assert not pins.any()


def test_unpinning_a_folder_takes_the_pins_in_it_and_no_others(
    mount: Mount, dropbox: FakeDropbox, pins: Pins
) -> None:
    for path in ("/d/e/f", "/d/g", "/h"):
        dropbox.write(path, b"x")
    mount.follow()
    for path in ("/d", "/d/e/f", "/h"):
        pins.add(mount.ino(path))
    assert pins.remove_below(mount.ino("/d")) == 2
    assert not pins.covers(mount.ino("/d/e/f"))
    assert pins.is_set(mount.ino("/h"))
    pins.add(ROOT_INO)
    assert pins.holder(mount.ino("/d/g")) == ROOT_INO


def test_nested_pins_count_a_file_once(mount: Mount, dropbox: FakeDropbox, pins: Pins) -> None:
    dropbox.write("/d/e/f", b"x")
    mount.follow()
    for path in ("/d", "/d/e", "/d/e/f"):
        pins.add(mount.ino(path))
    assert len(files_below(mount.folder / "tree.db")) == 1


def test_of_a_changed_file_the_version_below_is_wanted_and_what_shows_through_is_known(
    mount: Mount, dropbox: FakeDropbox, pins: Pins
) -> None:
    dropbox.write("/f", b"0123456789")
    mount.follow()
    rev = mount.tree.get(mount.ino("/f")).rev
    pins.add(mount.ino("/f"))
    staged = mount.staging.begin(mount.tree.get(mount.ino("/f")))
    staged.write(2, b"ab", 1)
    mount.staging.record(staged)
    (file,) = files_below(mount.folder / "tree.db")
    assert file.staged
    assert file.unwritten == 8
    assert [content[0] for content in file.contents] == [rev]
    dropbox.write("/f", b"another")
    mount.follow()
    (file,) = files_below(mount.folder / "tree.db")
    assert {size for _, _, size in file.contents} == {10, 7}


# ---- Blocks ----


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[PinningCache]:
    cache = opened(tmp_path)
    yield cache
    cache.close()


def opened(folder: Path) -> PinningCache:
    (folder / "pinned").mkdir(exist_ok=True)
    return PinningCache(folder, MARGIN + 8 * BLOCK, folder / "pinned")


def test_no_flood_pushes_a_pinned_block_out_nor_do_pins_push_the_limit(
    cache: PinningCache, tmp_path: Path
) -> None:
    cache.kept = {"pinned"}
    kept = [os.urandom(BLOCK) for _ in range(12)]
    for number, data in enumerate(kept):
        assert cache.put("pinned", number, data)
    for number in range(40):
        cache.put(f"flood {number}", 0, os.urandom(BLOCK))
    assert [bytes(cache.get("pinned", n) or b"") for n in range(12)] == kept
    sizes = [path.stat().st_size for path in (tmp_path / "blocks").rglob("*.val")]
    assert sum(sizes) < MARGIN + 8 * BLOCK


def test_pinned_blocks_are_known_after_a_restart(cache: PinningCache, tmp_path: Path) -> None:
    cache.keep_block("a", 0, b"data")
    cache.put("b", 0, b"other")
    cache.close()
    again = opened(tmp_path)
    assert again.kept == {"a"}
    assert again.get("a", 0) == b"data"
    assert again.get("b", 0) == b"other"
    again.close()


def test_evicting_leaves_what_is_pinned(cache: PinningCache) -> None:
    cache.put("a", 0, b"x" * BLOCK)
    cache.put_unit("a", 16, b"y" * 1000)
    assert cache.evict("a", BLOCK + 1000) == BLOCK + 1000
    assert cache.get("a", 0) is None
    cache.kept = {"a"}
    cache.put("a", 0, b"x" * BLOCK)
    assert cache.evict("a", BLOCK) == 0
    assert cache.cached("a", BLOCK) == BLOCK


def test_what_is_in_both_parts_counts_once_and_can_be_forgotten(cache: PinningCache) -> None:
    cache.put("a", 0, b"x" * 100)
    cache.kept = {"a"}
    cache.put("a", 0, b"x" * 100)
    assert cache.cached("a", 100) == 100
    cache.forget("a")
    assert cache.cached("a", 100) == 0


def test_without_room_nothing_is_kept_and_it_is_told(
    cache: PinningCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbxfs.store.pinned.RESERVE", 1 << 62)
    cache.kept = {"a"}
    assert not cache.keep_block("a", 0, b"data")
    assert cache.put("a", 0, b"data")
    assert cache.get("a", 0) == b"data"
    assert cache.pinned.counts() == {}


def test_a_large_file_that_was_sent_stays_when_it_is_pinned(
    cache: PinningCache, tmp_path: Path
) -> None:
    path = tmp_path / "staged"
    path.write_bytes(os.urandom(9 * BLOCK))
    cache.put_file("not pinned", path)
    cache.put_file("pinned", path, pinned=True)
    assert cache.cached("not pinned", 9 * BLOCK) == 0
    assert cache.cached("pinned", 9 * BLOCK) == 9 * BLOCK
