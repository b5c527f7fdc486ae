"""The block cache: plain bytes only, and never worse than a miss."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest
from diskcache.core import MODE_PICKLE

from dbxfs.core.content_hash import content_hash
from dbxfs.store.blocks import BLOCK, UNIT, BlockCache, PlainDisk
from dbxfs.store.scrubbing import Scrub

HASH = "ab" * 32


class Poison:
    """What runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path, 64 * 1024 * 1024)


def rows(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "blocks" / "cache.db")


def test_a_block_survives_the_daemon(tmp_path: Path, cache: BlockCache) -> None:
    cache.put(HASH, 0, b"x" * BLOCK)
    cache.put(HASH, 1, b"tail")
    cache.close()
    again = BlockCache(tmp_path, 64 * 1024 * 1024)
    assert again.get(HASH, 0) == b"x" * BLOCK
    assert again.get(HASH, 1) == b"tail"
    assert again.get(HASH, 2) is None
    again.close()


def test_a_pickle_in_the_cache_is_a_miss_and_is_not_run(tmp_path: Path, cache: BlockCache) -> None:
    cache.put(HASH, 0, b"clean")
    cache.close()
    trace = tmp_path / "it ran"
    connection = rows(tmp_path)
    connection.execute(
        "UPDATE Cache SET mode = ?, value = ?", (MODE_PICKLE, pickle.dumps(Poison(trace)))
    )
    connection.commit()
    connection.close()
    again = BlockCache(tmp_path, 64 * 1024 * 1024)
    assert again.get(HASH, 0) is None
    assert not trace.exists()
    again.close()


def test_nothing_but_text_and_bytes_goes_in(tmp_path: Path) -> None:
    disk = PlainDisk(str(tmp_path))
    with pytest.raises(ValueError, match="text"):
        disk.put(("a", 1))
    with pytest.raises(ValueError, match="bytes"):
        disk.store({"a": 1}, False)
    with pytest.raises(ValueError, match="pickled"):
        disk.get(pickle.dumps(("a", 1)), False)


def test_a_cache_of_something_else_is_put_aside(tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    folder.mkdir()
    (folder / "cache.db").write_bytes(b"no database" * 1000)
    cache = BlockCache(tmp_path, 64 * 1024 * 1024)
    cache.put(HASH, 0, b"fresh")
    assert cache.get(HASH, 0) == b"fresh"
    assert (tmp_path / "blocks.broken" / "cache.db").exists()
    cache.close()


def test_a_file_goes_in_block_by_block(tmp_path: Path, cache: BlockCache) -> None:
    content = bytes(range(256)) * 2000
    file = tmp_path / "file"
    file.write_bytes(content)
    cache.put_file(HASH, file)
    blocks = [cache.get(HASH, number) for number in range(-(-len(content) // BLOCK))]
    assert b"".join(block or b"" for block in blocks) == content
    cache.close()


def test_a_file_that_arrives_is_read_where_it_lies(tmp_path: Path, cache: BlockCache) -> None:
    content = bytes(range(256)) * 5000
    file = tmp_path / "file"
    file.write_bytes(content)
    cache.arrives(HASH, file)
    assert cache.get(HASH, 0) == content[:BLOCK]
    assert cache.get(HASH, 1) == content[BLOCK:]
    file.unlink()
    assert cache.get(HASH, 0) is None
    file.write_bytes(b"another file")
    cache.arrived(HASH)
    assert cache.get(HASH, 0) is None
    cache.close()


@pytest.mark.parametrize("size", [BLOCK, UNIT, 1000])
def test_the_limit_is_never_exceeded(tmp_path: Path, size: int) -> None:
    limit = 16 * 1024 * 1024
    cache = BlockCache(tmp_path, limit)
    for number in range(min(3000, 3 * limit // size)):
        cache.put_unit(HASH, number, bytes(size))
        if number % 10 == 0:
            held = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
            assert held <= limit
    cache.close()


def test_what_was_used_lately_stays(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 16 * 1024 * 1024)
    for number in range(40):
        cache.put(HASH, number, b"x" * BLOCK)
        assert cache.get(HASH, 0) is not None or number > 6
        cache._write_down_uses()
    assert cache.get(HASH, 0) == b"x" * BLOCK
    assert cache.get(HASH, 1) is None
    cache.close()


def test_a_flipped_bit_on_the_disk_is_a_miss_and_the_block_goes(
    tmp_path: Path, cache: BlockCache
) -> None:
    cache.put(HASH, 0, b"x" * BLOCK)
    cache.put(HASH, 1, b"small")
    (file,) = (tmp_path / "blocks").rglob("*.val")
    with file.open("r+b") as opened:
        opened.seek(12345)
        opened.write(b"y")
    with rows(tmp_path) as connection:
        connection.execute(
            "UPDATE Cache SET value = cast('smell' || substr(value, 6) AS BLOB) WHERE size < 100"
        )
    assert cache.get(HASH, 0) is None
    assert cache.get(HASH, 1) is None
    assert cache.cached(HASH, BLOCK + 5) == 0
    cache.close()


def test_what_is_here_of_a_content_is_counted_once(cache: BlockCache) -> None:
    cache.put(HASH, 0, b"x" * BLOCK)
    cache.put_unit(HASH, 3, b"x" * UNIT)
    cache.put_unit(HASH, BLOCK // UNIT, b"tail")
    assert cache.cached(HASH, BLOCK + 4) == BLOCK + 4
    cache.forget(HASH)
    assert cache.cached(HASH, BLOCK + 4) == 0
    cache.close()


def test_files_that_a_kill_left_behind_are_swept_away(tmp_path: Path, cache: BlockCache) -> None:
    cache.put(HASH, 0, b"x" * BLOCK)
    (kept,) = (tmp_path / "blocks").rglob("*.val")
    stray = kept.parent / "stray.val"
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))
    cache.sweep()
    assert not stray.exists()
    assert cache.get(HASH, 0) == b"x" * BLOCK
    cache.close()


# ---- Scrubbing ----


def filled(cache: BlockCache, data: bytes) -> str:
    """All blocks of a content; gives its hash."""
    name = content_hash(data)
    for block in range(-(-len(data) // BLOCK)):
        cache.put(name, block, data[block * BLOCK : (block + 1) * BLOCK])
    return name


def test_scrubbing_passes_what_is_right_and_what_cannot_be_judged(cache: BlockCache) -> None:
    filled(cache, b"small")
    filled(cache, bytes(BLOCK))
    filled(cache, b"x" * (11 * BLOCK + 5))
    lacking = filled(cache, b"y" * (3 * BLOCK + 5))
    cache.drop(lacking, [1])
    unfinished = filled(cache, b"z" * (3 * BLOCK + 5))
    cache.drop(unfinished, [3])
    cache.put("rev-0123", 0, b"who knows")
    scrub = Scrub(cache, None)
    scrubbed = scrub.run()
    assert scrubbed.bad == {}
    assert scrubbed.unsure == {unfinished: [0, 1, 2]}
    assert scrub.checked == 5 + BLOCK + 11 * BLOCK + 5 + 3 * BLOCK


def test_scrubbing_finds_a_flipped_byte_a_swapped_and_a_short_block(cache: BlockCache) -> None:
    flipped = filled(cache, b"small")
    cache.put(flipped, 0, b"smell")
    swapped = filled(cache, b"a" * BLOCK + b"b" * BLOCK + b"end")
    cache.put(swapped, 0, b"b" * BLOCK)
    cache.put(swapped, 1, b"a" * BLOCK)
    short = filled(cache, b"c" * BLOCK + b"end")
    cache.put(short, 0, b"c")
    right = filled(cache, b"right")
    assert set(Scrub(cache, None).run().bad) == {flipped, swapped, short}
    for content, blocks in Scrub(cache, None).run().bad.items():
        cache.drop(content, blocks)
    assert [name for name, _ in cache.contents()] == [right]


def test_scrubbing_a_sample_reads_no_more_than_about_that(cache: BlockCache) -> None:
    for number in range(200):
        filled(cache, bytes([number]) * 40_000)
    volume = cache.volume()
    scrub = Scrub(cache, volume // 4)
    scrub.run()
    assert 0 < scrub.checked < volume // 2


def test_scrubbing_can_be_interrupted(cache: BlockCache) -> None:
    filled(cache, b"small")
    scrub = Scrub(cache, None)
    scrub.interrupt()
    scrub.run()
    assert scrub.checked == 0


def test_scrubbing_tells_of_a_block_that_the_disk_has_changed(
    tmp_path: Path, cache: BlockCache
) -> None:
    name = filled(cache, b"x" * (BLOCK + 5))
    with rows(tmp_path) as connection:
        query = "SELECT filename FROM Cache WHERE key = ?"
        ((file,),) = connection.execute(query, (f"{name}/0",)).fetchall()
    path = tmp_path / "blocks" / file
    path.write_bytes(b"y" + path.read_bytes()[1:])
    assert Scrub(cache, None).run().bad == {name: [0, 1]}
    assert Scrub(cache, None).run().bad == {}
