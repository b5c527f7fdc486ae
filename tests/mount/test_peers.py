"""Where other programs that mount a Dropbox lose data or surprise, this one does not.

The list is of what was reproduced with rclone mount and with the older program called dbxfs, and of
what users of such programs ask for most. What is tested elsewhere is named here and not repeated.

Lost data:
- an edit made elsewhere between open and upload, also over a crash: covered in
  `test_conflicts` (edited_here_and_elsewhere, edited_while_the_daemon_was_dead);
- a crash in the middle of a rename over a file: covered in `durability/test_kills`
  ("rename over another", "rename over another, then");
- a rename of case alone: covered in `durability/test_kills` ("rename of case", "…, then") and
  `test_files` (a_name_changes_its_case_by_way_of_another);
- fsync that does nothing: covered in `test_restart` (fsync_of_an_open_file) and
  `durability/test_power_cut`;
- rmdir of a full folder: covered in `test_folders` and, before the crawl, in `test_requests`;
- success told on a full Dropbox: covered in `test_faults` (a_full_dropbox_is_told…,
  what_cannot_fit_is_refused…) and `test_sync_remote`;
- unmount or kill during an upload: here, and `test_unmount`, `test_restart` for the bytes.

Surprises:
- touch taken back, cp -p and rsync -a refused: covered in `test_attributes` (a_time_set_on_a_
  synced_file_stays) and `test_programs`;
- no chmod: covered in `test_attributes`; no locks, no SQLite: covered in `test_files`;
- changes made elsewhere late, after a reset of the cursor too: covered in `test_freshness`;
- a rate limit on uploads that stops listings: covered in `test_faults`;
- offline: no mount, no read of what is cached: here; wrong errno: covered in `test_outages`;
- names in another case: here; the cache's size: here; metadata forgotten at unmount: covered in
  `test_restart` (a_known_tree_is_there_at_once_without_a_request).

Asked for:
- an unmount that waits and shows progress: covered in `test_unmount`; is this file uploaded:
  covered in `test_xattrs`; a dead mount that goes away: covered in `test_restart` (a_dead_mount_is_
  replaced); temporary and lock files kept here: covered in `test_faults` and
  `store/test_local_only`; fstab, read-only shared folders: covered in `test_users` and
  `test_attributes`; a quick mount of a large account: covered in `test_requests`;
- a cp that returns at once, browsing that downloads nothing, a cap on the cache: here.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.embedded import HOME
from tests.mount.mounted import Mounted, eventually, works

MIB = 1024 * 1024


def disk_usage(folder: Path) -> int:
    """Bytes that the files below take; what goes away meanwhile takes none."""
    taken = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                taken += os.lstat(os.path.join(path, name)).st_blocks * 512
    return taken


def test_writing_under_another_spelling_is_a_new_version_of_the_one_file(mounted: Mounted) -> None:
    (before,) = mounted.server.edit([{"op": "write", "path": "/HELLO.txt", "text": "theirs"}])
    mounted.sync()
    with (mounted.path / "hello.txt").open("w") as file:
        file.write("ours")
    assert os.listdir(mounted.path) == ["HELLO.txt"]
    assert mounted.sync() == []
    assert mounted.server.paths() == ["/HELLO.txt"]
    assert mounted.server.content("/HELLO.txt") == b"ours"
    (after,) = mounted.server.tree()
    assert after["id"] == before["id"]
    assert after["rev"] != before["rev"]


@pytest.mark.parametrize("end", ["unmount", "kill", "terminate"])
def test_an_upload_that_is_cut_off_leaves_neither_an_empty_nor_a_half_file_on_dropbox(
    mounted: Mounted, end: str
) -> None:
    old, new = os.urandom(1000), os.urandom(20 * MIB)
    (mounted.path / "old").write_bytes(old)
    mounted.sync()
    mounted.server.network(total_mbit=100)
    (mounted.path / "old").write_bytes(new)
    (mounted.path / "new").write_bytes(new[::-1])
    eventually(lambda: (mounted.status()["uploading"] or {}).get("sent"), 10, "the upload")
    getattr(mounted, end)()
    assert mounted.server.paths() == ["/old"]
    assert mounted.server.content("/old") == old
    mounted.server.network()
    mounted.start()
    assert mounted.sync() == []
    assert mounted.server.content("/old") == new
    assert mounted.server.content("/new") == new[::-1]


def test_a_mount_that_starts_offline_reads_what_is_cached_and_takes_what_is_written(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    content = os.urandom(3 * MIB)
    (mounted.path / "written").write_bytes(content)
    mounted.server.edit([{"op": "write", "path": "/read", "text": "read once"}])
    mounted.sync()
    assert (mounted.path / "read").read_text() == "read once"
    mounted.unmount()
    mounted.server.stop()
    began = time.monotonic()
    mounted.start()
    assert (mounted.path / "read").read_text() == "read once"
    assert (mounted.path / "written").read_bytes() == content
    (mounted.path / "later").write_text("written offline")
    assert time.monotonic() - began < 5
    mounted.server.start()
    assert mounted.sync() == []
    assert mounted.server.content("/later") == b"written offline"


def test_the_cache_stays_within_the_size_that_was_given(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(options=["cache_size=24M"])
    contents = {f"{number}.txt": os.urandom(MIB // 2).hex() for number in range(40)}
    for name, text in contents.items():
        mounted.server.edit([{"op": "write", "path": f"/{name}", "text": text}])
    mounted.sync()
    largest = 0
    for name, text in contents.items():
        assert (mounted.path / name).read_text() == text
        largest = max(largest, disk_usage(mounted.cache))
    assert disk_usage(mounted.state / "staging") == 0
    print(f"the cache took {largest / MIB:.1f} MiB at most")
    assert 12 * MIB <= largest <= 24 * MIB


def test_browsing_downloads_nothing(mounted: Mounted) -> None:
    mounted.server.populate("/photos", folders=10, files_per_folder=20, size=100_000)
    mounted.sync()
    mounted.server.reset_counters()
    for command in (["ls", "-lR"], ["find", ".", "-newer", "/", "-size", "+1k"], ["du", "-s"]):
        works(*command, cwd=mounted.path)
    works("find", ".", "-type", "f", "-exec", "stat", "{}", "+", cwd=mounted.path)
    counters = mounted.server.counters()
    assert "files/download" not in counters["requests"]
    assert "files/list_folder" not in counters["requests"]


def test_cp_returns_at_once_over_a_slow_line_and_dropbox_has_all_in_the_end(
    mounted: Mounted, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for number in range(40):
        (source / f"{number % 4}").mkdir(parents=True, exist_ok=True)
        (source / f"{number % 4}" / f"{number}").write_bytes(os.urandom(8192))
    mounted.server.network(**HOME)
    began = time.monotonic()
    works("cp", "-r", source, mounted.path / "copy")
    works("cp", "-r", mounted.path / "copy", mounted.path / "again")
    works("mv", mounted.path / "again", mounted.path / "moved")
    works("diff", "-r", source, mounted.path / "moved")
    took = time.monotonic() - began
    print(f"two copies, a move and a comparison of 40 files: {took:.2f} s")
    assert took < 3
    mounted.server.network()
    assert mounted.sync() == []
    assert len(mounted.server.paths("/moved")) == 44
