"""Folders through the kernel: lookup, forget, listing with stable positions, mkdir, rmdir."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from tests.mount.folders import OpenFolder
from tests.mount.mounted import Mounted, drop_kernel_caches, refused, works

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="dropping the kernel's caches needs root")


@pytest.fixture
def big(mounted: Mounted) -> Path:
    """A folder of 3000 files that were made elsewhere."""
    mounted.server.populate("/big", folders=1, files_per_folder=3000, size=16)
    mounted.sync()
    (folder,) = (mounted.path / "big").iterdir()
    return folder


def test_a_name_is_found_in_any_case_and_any_composition(mounted: Mounted) -> None:
    (mounted.path / "Grün.txt").write_text("g")
    for spelling in ("Grün.txt", "GRÜN.TXT", "grün.txt", "Gru\u0308n.txt"):
        assert (mounted.path / spelling).read_text() == "g"
    assert os.listdir(mounted.path) == ["Grün.txt"]


def test_looking_for_what_is_not_there_says_so(mounted: Mounted) -> None:
    (mounted.path / "file").write_text("x")
    with pytest.raises(FileNotFoundError):
        os.stat(mounted.path / "nothing")
    with pytest.raises(NotADirectoryError):
        os.stat(mounted.path / "file" / "below")
    with refused(errno.ENAMETOOLONG):
        os.stat(mounted.path / ("n" * 256))
    with pytest.raises(FileNotFoundError):
        os.stat(os.fsencode(mounted.path) + b"/\xff\xfe")


@needs_root
def test_forgotten_inodes_come_back_as_they_were(mounted: Mounted, big: Path) -> None:
    before = {entry.name: entry.stat() for entry in os.scandir(big)}
    drop_kernel_caches()
    assert {entry.name: entry.stat() for entry in os.scandir(big)} == before
    drop_kernel_caches()
    assert {name: os.stat(big / name) for name in before} == before


@needs_root
def test_an_unlinked_file_leaves_the_database_once_the_kernel_forgets_it(
    mounted: Mounted,
) -> None:
    path = mounted.path / "a"
    path.write_text("a")
    mounted.sync()
    with path.open() as file:
        path.unlink()
        mounted.sync()
        assert file.read() == "a"
    drop_kernel_caches()
    mounted.sync()
    with sqlite3.connect(f"file:{mounted.state}/tree.db?mode=ro", uri=True) as database:
        assert database.execute("SELECT name FROM inode WHERE ino != 1").fetchall() == []


def test_a_listing_has_every_entry_once_with_its_inode_number(mounted: Mounted, big: Path) -> None:
    listed = [(entry.name, entry.inode()) for entry in os.scandir(big)]
    assert len({name for name, _ in listed}) == len(listed) == 3000
    assert all(os.stat(big / name).st_ino == ino for name, ino in listed[::100])


def test_what_stays_is_listed_once_whatever_comes_and_goes_meanwhile(
    mounted: Mounted, big: Path
) -> None:
    names = sorted(os.listdir(big))
    stay, go = set(names[::2]), names[1:200:2]
    seen: list[str] = []
    with OpenFolder(big) as folder:
        for name in folder:
            seen.append(name)
            if go:
                (big / go.pop()).unlink()
                (big / f"new-{len(go)}").write_text("")
    assert sorted(name for name in seen if name in stay) == sorted(stay)


def test_deleting_while_reading_leaves_nothing(mounted: Mounted, big: Path) -> None:
    removed = 0
    with OpenFolder(big) as folder:
        for name in folder:
            (big / name).unlink()
            removed += 1
    assert removed == 3000
    os.rmdir(big)


def test_a_position_in_a_folder_stays_good(mounted: Mounted, big: Path) -> None:
    with OpenFolder(big) as folder:
        entries = iter(folder)
        first = [next(entries) for _ in range(1000)]
        position = folder.tell()
        rest = list(entries)
        for name in first[:100]:
            (big / name).unlink()
        folder.seek(position)
        assert list(folder) == rest
        folder.rewind()
        assert list(folder) == first[100:] + rest


def test_rm_r_of_a_large_folder_leaves_nothing(mounted: Mounted, big: Path) -> None:
    works("rm", "-r", mounted.path / "big")
    assert os.listdir(mounted.path) == []
    mounted.sync()
    assert mounted.server.tree() == []


def test_dot_and_dot_dot_are_listed(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    assert works("ls", "-a", mounted.path / "d").split() == [".", ".."]


def test_mkdir_makes_the_folder_with_its_mode(mounted: Mounted) -> None:
    before = os.umask(0o027)
    try:
        os.mkdir(mounted.path / "d", 0o777)
    finally:
        os.umask(before)
    assert os.stat(mounted.path / "d").st_mode == 0o040750
    with pytest.raises(FileExistsError):
        os.mkdir(mounted.path / "d")
    with pytest.raises(FileExistsError):
        os.mkdir(mounted.path / "D")


def test_mkdir_keeps_the_sticky_bit_and_hands_on_set_group_id(mounted: Mounted) -> None:
    before = os.umask(0)
    try:
        os.mkdir(mounted.path / "d", 0o1777)
        (mounted.path / "d").chmod(0o3775)
        os.mkdir(mounted.path / "d" / "e", 0o755)
    finally:
        os.umask(before)
    assert os.stat(mounted.path / "d").st_mode == 0o043775
    assert os.stat(mounted.path / "d" / "e").st_mode == 0o042755


def test_making_entries_changes_the_times_of_their_folder(mounted: Mounted) -> None:
    folder = mounted.path / "d"
    folder.mkdir()
    os.utime(folder, ns=(1, 1))
    (folder / "a").write_text("")
    made = os.stat(folder).st_mtime_ns
    assert made > 1
    os.utime(folder, ns=(1, 1))
    (folder / "a").unlink()
    assert os.stat(folder).st_mtime_ns > 1


def test_rmdir_of_a_full_folder_is_refused(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    (mounted.path / "d" / "a").write_text("a")
    with refused(errno.ENOTEMPTY):
        os.rmdir(mounted.path / "d")
    with pytest.raises(NotADirectoryError):
        os.rmdir(mounted.path / "d" / "a")
    (mounted.path / "d" / "a").unlink()
    os.rmdir(mounted.path / "d")
    with pytest.raises(FileNotFoundError):
        os.rmdir(mounted.path / "d")


def test_unlink_of_a_folder_is_refused(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        os.unlink(mounted.path / "d")


def test_what_dropbox_has_no_place_for_is_refused(mounted: Mounted) -> None:
    (mounted.path / "a").write_text("a")
    with refused(errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
        os.mkfifo(mounted.path / "fifo")
    with refused(errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
        os.link(mounted.path / "a", mounted.path / "b")
    assert os.listdir(mounted.path) == ["a"]


def test_fsync_of_a_folder_works(mounted: Mounted) -> None:
    descriptor = os.open(mounted.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
