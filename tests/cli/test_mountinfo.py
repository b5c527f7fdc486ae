"""The kernel's table of mounts, and mount points that must not be asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbxfs.cli.mountinfo import mounted_device, mounted_type, place

TABLE = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/a\040b\134c rw,nosuid shared:7 - fuse.dbxfs dbxfs:demo rw,user_id=0
31 22 0:41 / /mnt/twice rw - fuse.dbxfs dbxfs:default rw
32 31 0:42 / /mnt/twice rw shared:1 master:2 - tmpfs tmpfs rw
33 22 0:43 / /mnt/Größe rw - fuse.dbxfs dbxfs:default rw
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("/", "ext4"),
        ("/mnt/a b\\c", "fuse.dbxfs"),
        ("/mnt/twice", "tmpfs"),
        ("/mnt/Größe", "fuse.dbxfs"),
        ("/mnt", None),
    ],
)
def test_the_uppermost_mount_is_found(table: Path, where: str, found: str | None) -> None:
    assert mounted_type(Path(where), table) == found


def test_the_real_table_can_be_read() -> None:
    assert mounted_type(Path("/proc")) == "proc"
    assert mounted_type(Path("/proc/self")) is None


def test_the_device_of_a_mount_is_the_one_that_stat_gives() -> None:
    assert mounted_device(Path("/proc")) == os.stat("/proc").st_dev
    assert mounted_device(Path("/proc/self")) is None


def test_links_lead_to_the_mount_point(tmp_path: Path) -> None:
    (tmp_path / "folder" / "mount").mkdir(parents=True)
    (tmp_path / "there").symlink_to("folder/mount")
    (tmp_path / "again").symlink_to(tmp_path / "there")
    (tmp_path / "in").symlink_to("folder")
    real = tmp_path / "folder" / "mount"
    for way in ("there", "again", "in/mount", "folder/mount/", "folder/mount/."):
        assert place(tmp_path / way) == real
    assert place(real / "..") == real.parent


def test_a_mount_point_that_is_not_there_has_a_place_too(tmp_path: Path) -> None:
    assert place(tmp_path / "none") == tmp_path / "none"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        place(tmp_path / "circle")
