"""Watchers are found where the kernel lists them."""

from __future__ import annotations

import os
from pathlib import Path

from dbxfs.fs.watches import marks, watched_inodes
from tests.mount.notices import watching

INFO = b"""pos:\t0
flags:\t02004000
mnt_id:\t17
ino:\t1038
inotify wd:2 ino:1f sdev:28 mask:fce ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:00
inotify wd:1 ino:2 sdev:28 mask:fce ignored_mask:0
inotify wd:3 ino:5 sdev:800013 mask:fce ignored_mask:0 fhandle-bytes:8
fanotify flags:10 event-flags:0
fanotify ino:4f sdev:28 mflags:0 mask:3b ignored_mask:0
fanotify mnt_id:12 mflags:0 mask:3b ignored_mask:40000000
"""


def test_the_marks_of_one_file_system_are_found() -> None:
    assert marks(INFO, os.makedev(0, 0x28)) == {0x1F, 2, 0x4F}
    assert marks(INFO, os.makedev(8, 0x13)) == {5}
    assert marks(INFO, os.makedev(0, 0x29)) == set()
    assert marks(b"", os.makedev(0, 0x28)) == set()


def test_a_watched_folder_is_found_while_it_is_watched(tmp_path: Path) -> None:
    found = os.stat(tmp_path)
    assert found.st_ino not in watched_inodes(found.st_dev)
    with watching(tmp_path):
        assert found.st_ino in watched_inodes(found.st_dev)
    assert found.st_ino not in watched_inodes(found.st_dev)


def test_processes_that_end_meanwhile_or_hide_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2" / "fd").mkdir(parents=True)
    (tmp_path / "2" / "fd" / "3").symlink_to("anon_inode:inotify")
    (tmp_path / "self").mkdir()
    assert watched_inodes(1, str(tmp_path)) == frozenset()
