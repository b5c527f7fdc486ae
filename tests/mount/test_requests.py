"""What the network is asked for: exact numbers, and a listing that does not wait for the crawl."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.mounted import Mounted, drop_kernel_caches, eventually, run_in_background, works


@pytest.fixture
def thousand(mounted: Mounted) -> Mounted:
    """A mount whose 1000 files and 20 folders are known."""
    mounted.server.populate("/p", folders=20, files_per_folder=50, size=300)
    mounted.sync()
    return mounted


def test_find_over_a_known_tree_costs_nothing(thousand: Mounted) -> None:
    with thousand.requests(ignoring=frozenset()) as made:
        assert len(works("find", thousand.path, "-ls").splitlines()) == 1022
        if os.getuid() == 0:
            drop_kernel_caches()
        assert len(works("find", thousand.path, "-ls").splitlines()) == 1022
    assert made == {}


def test_copying_one_small_file_costs_one_upload(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "small").write_text("small")
    with mounted.requests() as made:
        works("cp", tmp_path / "small", mounted.path / "small")
        mounted.sync()
    assert made == {"files/upload": 1}


def test_reading_what_was_just_written_costs_nothing(mounted: Mounted) -> None:
    (mounted.path / "a").write_bytes(bytes(1_000_000))
    mounted.sync()
    if os.getuid() == 0:
        drop_kernel_caches()
    with mounted.requests() as made:
        assert (mounted.path / "a").read_bytes() == bytes(1_000_000)
    assert made == {}


def test_making_nested_folders_costs_one_request_each(mounted: Mounted) -> None:
    with mounted.requests() as made:
        works("mkdir", "-p", mounted.path / "a" / "b" / "c")
        mounted.sync()
    assert made == {"files/create_folder_v2": 3}


def test_removing_a_tree_costs_one_request(mounted: Mounted) -> None:
    mounted.server.populate("/p", folders=10, files_per_folder=15, size=300)
    mounted.sync()
    with mounted.requests() as made:
        works("rm", "-r", mounted.path / "p")
        mounted.sync()
    assert made == {"files/delete_v2": 1}


def test_what_is_made_and_removed_before_it_is_sent_costs_nothing(mounted: Mounted) -> None:
    with mounted.requests() as made:
        works("mkdir", "-p", mounted.path / "a" / "b")
        (mounted.path / "a" / "b" / "c").write_text("c")
        works("rm", "-r", mounted.path / "a")
        mounted.sync()
    assert made == {}


def test_a_chain_of_renames_costs_one_move(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "a"}])
    mounted.sync()
    with mounted.requests() as made:
        for old, new in ("ab", "bc", "cd"):
            os.rename(mounted.path / old, mounted.path / new)
        mounted.sync()
    assert made == {"files/move_v2": 1}


def test_a_rename_there_and_back_costs_nothing(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "a"}])
    mounted.sync()
    with mounted.requests() as made:
        os.rename(mounted.path / "a", mounted.path / "b")
        os.rename(mounted.path / "b", mounted.path / "a")
        mounted.sync()
    assert made == {}


def test_saving_many_times_within_a_moment_costs_one_upload(mounted: Mounted) -> None:
    with mounted.requests() as made:
        for number in range(20):
            (mounted.path / "a").write_text(str(number))
        mounted.sync()
    assert made == {"files/upload": 1}


def test_without_a_sync_what_was_written_arrives_within_a_few_seconds(mounted: Mounted) -> None:
    began = time.monotonic()
    (mounted.path / "a").write_text("a")
    eventually(mounted.server.paths, 5, "the upload")
    assert time.monotonic() - began > 0.5, "a temporary file should have had its chance"


def test_opening_and_closing_for_writing_without_a_write_sends_nothing(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "a"}])
    mounted.sync()
    with mounted.requests() as made:
        (mounted.path / "a").open("r+b").close()
        (mounted.path / "a").open("ab").close()
        mounted.sync()
    assert made == {}


def test_touch_of_an_existing_file_sends_no_content(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "a"}])
    mounted.sync()
    with mounted.requests() as made:
        works("touch", mounted.path / "a")
        mounted.sync()
    assert made == {"file_properties/properties/overwrite": 1}


def test_an_idle_mount_is_quiet(mounted: Mounted) -> None:
    """One longpoll stays open; nothing else is asked."""
    mounted.sync()
    mounted.server.edit([{"op": "write", "path": "/wake", "text": ""}])
    eventually(lambda: os.stat(mounted.path / "wake"))
    eventually(lambda: "files/list_folder/longpoll" in mounted.server.counters()["requests"])
    mounted.server.reset_counters()
    deadline = time.monotonic() + 1
    eventually(lambda: time.monotonic() > deadline, 2)
    assert mounted.server.counters()["total"] <= 1


# ---- Before the crawl is over ----


@pytest.fixture
def crawling(make_mount: Callable[..., Mounted]) -> Mounted:
    """A mount that has only begun to crawl 20 000 files over a slow line."""
    mounted = make_mount(start=False)
    mounted.server.populate("/p", folders=100, files_per_folder=200, size=100)
    mounted.server.edit(
        [{"op": "write", "path": "/zoo/deep/folder/animal.txt", "text": "elephant"}]
    )
    mounted.server.network(round_trip_ms=300)
    mounted.start()
    return mounted


def test_a_folder_is_listed_before_the_crawl_reaches_it(crawling: Mounted) -> None:
    assert works("ls", crawling.path / "zoo" / "deep" / "folder") == "animal.txt\n"
    assert crawling.status()["listing"] == "under way"
    assert (crawling.path / "zoo" / "deep" / "folder" / "animal.txt").read_text() == "elephant"
    assert crawling.status()["listing"] == "under way"
    crawling.server.network()
    crawling.sync()
    assert crawling.status()["entries"] == len(crawling.server.tree())
    assert crawling.trouble() == []


def test_what_is_written_before_the_crawl_reaches_it_arrives(crawling: Mounted) -> None:
    folder = crawling.path / "zoo" / "deep" / "folder"
    (folder / "new.txt").write_text("new")
    (folder / "animal.txt").write_text("giraffe")
    (crawling.path / "zoo" / "other").mkdir()
    os.rename(crawling.path / "zoo" / "deep" / "folder", crawling.path / "zoo" / "renamed")
    assert crawling.status()["listing"] == "under way"
    crawling.server.network()
    crawling.sync()
    assert crawling.server.paths("/zoo") == [
        "/zoo/deep",
        "/zoo/other",
        "/zoo/renamed",
        "/zoo/renamed/animal.txt",
        "/zoo/renamed/new.txt",
    ]
    assert crawling.server.content("/zoo/renamed/animal.txt") == b"giraffe"
    assert sorted(os.listdir(crawling.path / "zoo" / "renamed")) == ["animal.txt", "new.txt"]
    assert crawling.trouble() == []


def test_rmdir_of_a_full_folder_is_refused_before_the_crawl_reaches_it(crawling: Mounted) -> None:
    with pytest.raises(OSError, match="not empty"):
        os.rmdir(crawling.path / "zoo" / "deep" / "folder")
    assert crawling.status()["listing"] == "under way"


def test_removing_a_folder_before_the_crawl_reaches_it_removes_all_of_it(
    crawling: Mounted,
) -> None:
    works("rm", "-r", crawling.path / "zoo")
    assert crawling.status()["listing"] == "under way"
    crawling.server.network()
    crawling.sync()
    assert "/zoo" not in crawling.server.paths()
    assert os.listdir(crawling.path) == ["p"]
    assert crawling.trouble() == []


def test_an_edit_made_elsewhere_in_a_listed_folder_is_there_after_the_crawl(
    crawling: Mounted,
) -> None:
    folder = crawling.path / "zoo" / "deep" / "folder"
    assert os.listdir(folder) == ["animal.txt"]
    crawling.server.edit(
        [
            {"op": "write", "path": "/zoo/deep/folder/second.txt", "text": "2"},
            {"op": "delete", "path": "/zoo/deep/folder/animal.txt"},
        ]
    )
    crawling.server.network()
    crawling.sync()
    eventually(lambda: os.listdir(folder) == ["second.txt"])
    assert crawling.trouble() == []


@pytest.mark.timeout(180)
@pytest.mark.hangs_after(160)
def test_100_000_files_are_crawled_within_a_minute_in_little_memory(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(start=False)
    mounted.server.populate("/p", folders=100, files_per_folder=1000, size=10)
    mounted.start()
    slowest = 0.0
    finished = run_in_background(lambda: mounted.sync(150))
    while mounted.status()["listing"] != "complete":
        asked = time.monotonic()
        assert os.listdir(mounted.path) == ["p"]
        slowest = max(slowest, time.monotonic() - asked)
    assert finished() == []
    assert mounted.processor_seconds() < 60
    assert slowest < 5
    assert mounted.status()["entries"] == 100_101
    assert mounted.peak_memory() < 200 * 1024**2


def test_find_over_10_000_files_takes_little_time(make_mount: Callable[..., Mounted]) -> None:
    if os.getuid() != 0:
        pytest.skip("dropping the kernel's caches needs root")
    mounted = make_mount(start=False)
    mounted.server.populate("/p", folders=100, files_per_folder=100, size=10)
    mounted.start()
    mounted.sync()
    drop_kernel_caches()
    with mounted.requests(ignoring=frozenset()) as made:
        began = time.monotonic()
        assert len(works("find", mounted.path, "-ls").splitlines()) == 10_102
        took = time.monotonic() - began
    assert made == {}
    assert took < 1.5
