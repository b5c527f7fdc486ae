"""Staged content: what was written is there, and nothing else, whatever happens in between."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.content_hash import content_hash, hash_blocks
from dbxfs.core.model import Rev
from dbxfs.core.ranges import Ranges
from dbxfs.store.database import Database
from dbxfs.store.inode import ROOT_INO
from dbxfs.store.journal import Journal
from dbxfs.store.staging import StagedFile, Staging
from dbxfs.store.tree import Tree

BASE = bytes(range(1, 101))


@dataclass
class Store:
    """A database with its staging folder."""

    tree: Tree
    staging: Staging
    folder: Path

    def reopen(self) -> Store:
        """The same after a kill: nothing was closed."""
        return open_store(self.folder)


def open_store(folder: Path) -> Store:
    ticks = itertools.count(1)
    tree = Tree(Database(folder / "tree.db"), lambda: next(ticks))
    (folder / "staging").mkdir(exist_ok=True)
    return Store(tree, Staging(tree, folder / "staging"), folder)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.staging.close()


def clean_file(store: Store, name: str = "f") -> int:
    """A file that Dropbox has."""
    ino = store.tree.create_file(ROOT_INO, name, None).ino
    store.tree.update(
        ino,
        id=f"id:{name}",
        base_parent=ROOT_INO,
        base_name=name,
        base_key=name,
        rev="1",
        hash=content_hash(BASE),
        base_size=len(BASE),
        size=len(BASE),
    )
    Journal(store.tree).done(ino)
    return ino


def files(store: Store) -> list[Path]:
    return sorted((store.folder / "staging").iterdir())


def test_a_partial_write_leaves_the_rest_to_the_version_below(store: Store) -> None:
    staged = store.staging.begin(store.tree.get(clean_file(store)))
    staged.write(10, b"xxxx", 1)
    assert staged.size == len(BASE)
    assert staged.missing(0, 100) == [(0, 10), (14, 100)]
    staged.fill(0, BASE)
    assert staged.missing(0, 100) == []
    assert staged.read(0, 200) == BASE[:10] + b"xxxx" + BASE[14:]


def test_a_cut_hides_the_version_below_for_good(store: Store) -> None:
    staged = store.staging.begin(store.tree.get(clean_file(store)))
    staged.truncate(5, 1)
    staged.truncate(20, 2)
    assert staged.missing(0, 20) == [(0, 5)]
    staged.fill(0, BASE)
    assert staged.read(0, 20) == BASE[:5] + bytes(15)


def test_what_was_recorded_survives_a_kill(store: Store) -> None:
    ino = clean_file(store)
    staged = store.staging.begin(store.tree.get(ino))
    staged.write(0, b"new", 7)
    store.staging.record(staged)
    staged.write(50, b"lost", 8)

    after = store.reopen()
    again = after.staging.get(ino)
    assert again is not None
    assert again.read(0, 3) == b"new"
    assert (again.from_rev, again.missing(0, 100)) == (Rev("1"), [(3, 100)])
    assert [row.ino for row in Journal(after.tree).rows()] == [ino]


def test_a_write_after_the_recording_is_dirty_again(store: Store) -> None:
    staged = store.staging.begin(store.tree.get(clean_file(store)))
    assert not staged.dirty
    staged.write(0, b"a", 1)
    assert staged.dirty
    store.staging.record(staged)
    assert not staged.dirty
    staged.truncate(1, 2)
    assert staged.dirty


def test_removing_the_inode_removes_its_bytes_only_when_that_is_committed(store: Store) -> None:
    tree = store.tree
    ino = tree.create_file(ROOT_INO, "f", None).ino
    staged = store.staging.begin(tree.get(ino))
    staged.write(0, b"precious", 1)
    store.staging.record(staged)

    def fail_after_unlink() -> None:
        with tree.database.transaction():
            tree.unlink(ROOT_INO, "f")
            assert len(files(store)) == 1
            raise LookupError

    with pytest.raises(LookupError):
        fail_after_unlink()
    assert len(files(store)) == 1
    tree.forget_hot()
    tree.unlink(ROOT_INO, "f")
    assert files(store) == []


def test_what_a_dead_daemon_left_is_kept_unless_dropbox_has_it(store: Store) -> None:
    clean_file(store)
    folder = store.folder / "staging"
    (folder / "known").write_bytes(BASE)
    (folder / "unknown").write_bytes(b"nobody else has this")
    (folder / "empty").touch()
    (moved,) = store.staging.recover_strays(store.folder / "recovered")
    assert moved.read_bytes() == b"nobody else has this"
    assert files(store) == []
    assert (store.folder / "recovered").stat().st_mode & 0o077 == 0


def test_one_staged_file_serves_all_while_it_is_in_use(store: Store) -> None:
    ino = clean_file(store)
    staged = store.staging.begin(store.tree.get(ino))
    staged.write(0, b"x", 1)
    store.staging.record(staged)
    with staged.reading():
        store.staging.abandon(ino)
        store.staging.let_go(ino)
        assert store.staging.get(ino) is staged
    store.staging.let_go(ino)
    again = store.staging.get(ino)
    assert again is not None
    assert again is not staged
    assert again.read(0, 1) == b"x"


def test_what_is_begun_and_never_written_leaves_nothing(store: Store) -> None:
    ino = clean_file(store)
    store.staging.begin(store.tree.get(ino))
    store.staging.abandon(ino)
    assert files(store) == []
    assert store.staging.get(ino) is None


changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 120), st.binary(min_size=1, max_size=30)),
        st.tuples(st.just("truncate"), st.integers(0, 150), st.just(b"")),
        st.tuples(st.just("fill"), st.integers(0, 99), st.just(b"")),
    ),
    max_size=12,
)


@given(changes)
def test_any_order_of_changes_gives_what_a_plain_buffer_gives(
    tmp_path_factory: pytest.TempPathFactory, todo: list[tuple[str, int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("staged") / "file"
    staged = StagedFile(
        2,
        path,
        size=100,
        mtime_ns=0,
        from_rev=Rev("1"),
        from_size=100,
        base_limit=100,
        extents=Ranges(),
    )
    buffer = bytearray(BASE)
    for kind, offset, data in todo:
        if kind == "write":
            staged.write(offset, data, 1)
            buffer.extend(bytes(max(0, offset + len(data) - len(buffer))))
            buffer[offset : offset + len(data)] = data
        elif kind == "truncate":
            staged.truncate(offset, 1)
            buffer = buffer[:offset] + bytes(max(0, offset - len(buffer)))
        else:
            staged.fill(offset, BASE[offset:])
    for start, end in staged.missing(0, staged.size):
        staged.fill(start, BASE[start:end])
    assert staged.read(0, 1000) == bytes(buffer)
    assert hash_blocks(staged.block_digests()) == content_hash(bytes(buffer))
    staged.retire()


def test_regression_a_file_that_was_not_made_leaves_its_number_no_content(store: Store) -> None:
    """With the disk full, the next file with that number had the empty content of this one."""
    made: list[int] = []

    def fails() -> None:
        with store.tree.database.transaction():
            unmade = store.tree.create_file(ROOT_INO, "a", None)
            store.staging.begin(unmade)
            made.append(store.tree.get(unmade.ino).ino)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert store.tree.find(made[0]) is None
    assert list((store.folder / "staging").iterdir()) == []
    made.append(store.tree.create_file(ROOT_INO, "b", None).ino)
    assert made[0] == made[1]
    assert store.staging.get(made[1]) is None


def test_there_is_no_room_for_what_would_use_up_the_reserve(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.staging.check_room(1)
    monkeypatch.setattr("dbxfs.store.staging.RESERVE", 1 << 60)
    with pytest.raises(OSError, match="No space left"):
        store.staging.check_room(1)


def test_regression_the_file_is_as_long_as_what_it_holds(store: Store) -> None:
    """It becomes a clean copy as it is, under the hash of what was read of it."""
    staged = store.staging.begin(store.tree.create_file(ROOT_INO, "a", None))
    staged.truncate(100, 1)
    staged.write(0, b"begun", 2)
    assert staged.path.read_bytes() == staged.read(0, 100) == b"begun" + bytes(95)
    staged.truncate(0, 3)
    staged.truncate(50, 4)
    store.staging.record(staged)
    store.staging.let_go(staged.ino)
    again = store.staging.get(staged.ino)
    assert again is not None
    again.truncate(20, 5)
    assert again.path.read_bytes() == again.read(0, 50) == bytes(20)


def test_regression_what_was_written_last_before_a_kill_does_not_come_to_light(
    store: Store,
) -> None:
    """It lay behind the recorded end, came into the cache with the rest, and into later growth."""
    staged = store.staging.begin(store.tree.create_file(ROOT_INO, "a", None))
    staged.write(0, b"recorded", 1)
    store.staging.record(staged)
    staged.write(8, b"lost" * 100, 2)
    after = store.reopen()
    again = after.staging.get(staged.ino)
    assert again is not None
    assert again.path.read_bytes() == b"recorded"
    again.truncate(100, 3)
    assert again.read(0, 100) == b"recorded" + bytes(92)


def test_regression_what_could_not_be_written_in_full_does_not_come_to_light(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = store.staging.begin(store.tree.create_file(ROOT_INO, "a", None))
    staged.write(0, b"whole", 1)
    pwritev = os.pwritev

    def full(descriptor: int, pieces: Sequence[bytes], offset: int) -> int:
        pwritev(descriptor, [pieces[0][:3]], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space"):
        staged.write(5, b"in part", 2)
    assert staged.path.read_bytes() == staged.read(0, 100) == b"whole"


def test_a_file_that_nothing_was_written_to_needs_none_on_the_disk(store: Store) -> None:
    ino = store.tree.create_file(ROOT_INO, "a", None).ino
    store.staging.record(store.staging.begin(store.tree.get(ino)))
    assert files(store) == []
    after = store.reopen()
    staged = after.staging.get(ino)
    assert staged is not None
    assert staged.read(0, 10) == b""
    staged.write(0, b"now", 1)
    assert [path.read_bytes() for path in files(after)] == [b"now"]


@given(st.lists(st.tuples(st.sampled_from("wtd"), st.integers(0, 40), st.integers(1, 30))))
def test_digests_that_were_kept_are_those_of_the_content(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dbxfs.store.staged.BLOCK", 8)
        staged = StagedFile(1, Path(folder) / "staged", size=0, mtime_ns=0)
        for number, (step, offset, length) in enumerate(steps):
            if step == "w":
                staged.write(offset, bytes([number % 256]) * length, number)
            elif step == "t":
                staged.truncate(offset, number)
            else:
                content = staged.read(0, staged.size)
                pieces = (content[at : at + 8] for at in range(0, len(content), 8))
                expected = [hashlib.sha256(piece).digest() for piece in pieces]
                assert staged.block_digests() == expected
                assert staged.block_digests(staged.size // 8 * 8) == expected[: staged.size // 8]
        staged.retire()


def test_blocks_are_hashed_once_unless_they_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbxfs.store.staged.BLOCK", 8)
    staged = store.staging.begin(store.tree.create_file(ROOT_INO, "a", None))
    staged.write(0, bytes(30), 1)
    hashed: list[int] = []
    chunks = staged.chunks

    def noted(start: int, end: int) -> Iterator[bytes]:
        hashed.append(start)
        return chunks(start, end)

    monkeypatch.setattr(staged, "chunks", noted)
    staged.block_digests()
    staged.write(30, bytes(10), 2)
    staged.block_digests()
    staged.write(17, b"x", 3)
    staged.block_digests()
    assert hashed == [0, 8, 16, 24, 24, 32, 16, 24, 32]


def test_a_block_that_changes_while_it_is_hashed_is_hashed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbxfs.store.staged.BLOCK", 8)
    staged = store.staging.begin(store.tree.create_file(ROOT_INO, "a", None))
    staged.write(0, bytes(16), 1)
    chunks = staged.chunks

    def meanwhile(start: int, end: int) -> Iterator[bytes]:
        yield from chunks(start, end)
        if start == 8:
            staged.write(3, b"new", 2)

    monkeypatch.setattr(staged, "chunks", meanwhile)
    staged.block_digests()
    monkeypatch.undo()
    assert staged.block_digests()[0] != hashlib.sha256(bytes(8)).digest()


def test_what_was_given_back_is_not_read_as_zeros(tmp_path: Path) -> None:
    staged = StagedFile(2, tmp_path / "staged", size=0, mtime_ns=0)
    staged.write(0, b"content", 1)
    staged.retire()
    for read in (staged.read, staged.read_cached):
        with pytest.raises(OSError, match="given back"):
            read(0, 7)
