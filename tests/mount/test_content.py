"""Bytes, large and small, and names of all sorts: written ones arrive, remote ones are read."""

from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbxfs.core.content_hash import content_hash
from tests.mount.agreement import hash_of
from tests.mount.conftest import finish
from tests.mount.mounted import Mounted, eventually, works

MIB = 1024 * 1024
LARGE = 300 * MIB
MEMORY = 200 * MIB
"""What the daemon may occupy at most."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of 300 MiB, no two of whose blocks are the same."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    with path.open("wb") as file:
        for number in range(LARGE // MIB):
            file.write(hashlib.shake_128(str(number).encode()).digest(4096) * 256)
    yield path
    path.unlink()


def test_a_written_file_has_the_same_bytes_and_hash_on_the_server(mounted: Mounted) -> None:
    content = os.urandom(1_234_567)
    (mounted.path / "photo.jpg").write_bytes(content)
    mounted.sync()
    (entry,) = mounted.server.tree()
    assert entry["content_hash"] == content_hash(content)
    assert entry["size"] == len(content)
    assert mounted.server.content("/photo.jpg") == content


@pytest.mark.parametrize("size", [0, 1, 4095, 256 * 1024, 4 * MIB, 4 * MIB + 1, 17 * MIB + 3])
def test_files_of_every_size_go_up_and_come_down_cold(mounted: Mounted, size: int) -> None:
    content = os.urandom(size)
    (mounted.path / "up").write_bytes(content)
    mounted.sync()
    assert mounted.server.content("/up") == content
    mounted.server.edit([{"op": "move", "from": "/up", "to": "/down"}])
    mounted.sync()
    mounted.unmount()
    works("rm", "-rf", mounted.cache)
    mounted.start()
    assert (mounted.path / "down").read_bytes() == content


@pytest.mark.timeout(180)
@pytest.mark.hangs_after(120)
def test_300_mib_go_up_by_a_session_and_come_down_cold_in_little_memory(
    make_mount: Callable[..., Mounted], large: Path
) -> None:
    mounted = make_mount()
    with mounted.requests() as made:
        works("cp", large, mounted.path / "large.bin", timeout=60)
        mounted.sync(90)
    assert "files/upload" not in made
    assert any(route.startswith("files/upload_session/append") for route in made)
    assert any(route.startswith("files/upload_session/finish") for route in made)
    assert mounted.server.counters()["bytes_in"] < 1.02 * LARGE
    (entry,) = mounted.server.tree()
    assert entry["content_hash"] == hash_of(large)
    assert mounted.peak_memory() < MEMORY

    mounted.unmount()
    works("rm", "-rf", mounted.cache)
    mounted.start()
    works("cmp", large, mounted.path / "large.bin", timeout=60)
    assert mounted.peak_memory() < MEMORY

    with mounted.requests() as again:
        works("cmp", large, mounted.path / "large.bin", timeout=60)
    assert again == {}
    assert mounted.trouble() == []


def test_a_little_of_a_large_file_costs_little(mounted: Mounted) -> None:
    mounted.server.populate("/big", folders=1, files_per_folder=1, size=64 * MIB)
    mounted.sync()
    (path,) = (path for path in mounted.path.rglob("*") if path.is_file())
    mounted.server.reset_counters()
    with path.open("rb", buffering=0) as file:
        assert len(os.pread(file.fileno(), 4096, 20 * MIB)) == 4096
    assert mounted.server.counters()["bytes_out"] < 2 * MIB
    mounted.server.edit([{"op": "delete", "path": "/big"}])


def test_one_byte_changed_in_a_large_file_leaves_the_rest(mounted: Mounted) -> None:
    content = bytearray(os.urandom(9 * MIB))
    (mounted.path / "a").write_bytes(content)
    mounted.sync()
    mounted.unmount()
    works("rm", "-rf", mounted.cache)
    mounted.start()
    with (mounted.path / "a").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"!", 5 * MIB)
    content[5 * MIB] = ord("!")
    mounted.sync()
    assert mounted.server.content("/a") == bytes(content)
    assert (mounted.path / "a").read_bytes() == bytes(content)


def test_names_of_all_sorts_arrive(mounted: Mounted) -> None:
    names = [
        "with spaces in it",
        " leading space",
        "ünïcödé",
        "日本語のファイル",
        "emoji 🎈.txt",
        "quote ' \" ` $(x) ; & | *?<>:",
        "-rf",
        "#hash %41 +plus",
        "tab\tand\nnewline",
        ".hidden",
        "a.b.c.tar.gz",
        "é" * 127,
        "x" * 255,
    ]
    (mounted.path / "names").mkdir()
    for name in names:
        (mounted.path / "names" / name).write_text(name)
    mounted.sync()
    assert sorted(os.listdir(mounted.path / "names")) == sorted(names)
    for name in names:
        assert mounted.server.content(f"/names/{name}").decode() == name


def test_decomposed_names_are_found_and_arrive(mounted: Mounted) -> None:
    decomposed = unicodedata.normalize("NFD", "Übergröße.txt")
    (mounted.path / decomposed).write_text("d")
    for form in ("NFC", "NFD"):
        assert (mounted.path / unicodedata.normalize(form, decomposed)).read_text() == "d"
    mounted.sync()
    mounted.server.edit(
        [{"op": "write", "path": "/" + unicodedata.normalize("NFC", decomposed), "text": "e"}]
    )
    eventually(lambda: (mounted.path / decomposed).read_text() == "e")
    assert len(os.listdir(mounted.path)) == 1


def test_names_of_255_characters_that_are_longer_in_bytes_come_down(mounted: Mounted) -> None:
    """The kernel passes names of up to 1024 bytes through; programs may see them or not."""
    name = "ü" * 255
    mounted.server.edit([{"op": "write", "path": f"/{name}", "text": "long"}])
    mounted.server.edit([{"op": "write", "path": "/short", "text": "short"}])
    mounted.sync()
    assert "short" in os.listdir(mounted.path)
    mounted.server.edit([{"op": "delete", "path": f"/{name}"}])


def test_a_tree_of_deep_folders_arrives(mounted: Mounted) -> None:
    deep = mounted.path.joinpath(*["level"] * 40)
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("b")
    mounted.sync()
    assert mounted.server.content("/level" * 40 + "/bottom") == b"b"


def test_a_file_written_while_it_is_being_sent_arrives_as_it_is_in_the_end(
    mounted: Mounted,
) -> None:
    """The second version is closed while the first one's commit is under way."""
    path = mounted.path / "a"
    mounted.server.network(round_trip_ms=300)
    for number in range(6):
        path.write_text(f"version {number} " * 1000)
        eventually(lambda: mounted.status()["uploading"], 5, "the upload")
        path.write_text(f"version {number} again " * 1000)
        assert path.read_text() == f"version {number} again " * 1000
    mounted.server.network()
    mounted.sync()
    assert path.read_text() == "version 5 again " * 1000
    assert mounted.server.content("/a").decode() == "version 5 again " * 1000
    mounted.remount()
    assert path.read_text() == "version 5 again " * 1000


def test_a_large_file_rewritten_in_part_while_it_is_being_sent_arrives_whole(
    mounted: Mounted,
) -> None:
    path = mounted.path / "a"
    content = bytearray(os.urandom(30 * MIB))
    mounted.server.network(total_mbit=400)
    path.write_bytes(content)
    eventually(lambda: (mounted.status()["uploading"] or {}).get("sent"), 10, "the upload")
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"changed", 1000)
        os.pwrite(file.fileno(), b"changed", 25 * MIB)
    content[1000:1007] = content[25 * MIB : 25 * MIB + 7] = b"changed"
    mounted.server.network()
    mounted.sync()
    assert mounted.server.content("/a") == bytes(content)


def test_a_file_renamed_or_removed_while_it_is_being_sent_ends_up_so(mounted: Mounted) -> None:
    mounted.server.network(round_trip_ms=300)
    for name in ("a", "b"):
        (mounted.path / name).write_text(name)
    eventually(lambda: mounted.status()["uploading"], 5, "the upload")
    os.rename(mounted.path / "a", mounted.path / "c")
    (mounted.path / "b").unlink()
    mounted.server.network()
    mounted.sync()
    assert mounted.server.paths() == ["/c"]
    assert mounted.server.content("/c") == b"a"


def test_many_programs_writing_at_once_lose_nothing(mounted: Mounted) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            folder = mounted.path / f"worker {number}"
            folder.mkdir()
            for round_ in range(10):
                path = folder / f"{round_ % 3}"
                path.write_text(f"{number} {round_} " * 500)
                assert path.read_text() == f"{number} {round_} " * 500
                os.rename(path, folder / f"renamed {round_ % 2}")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_a_damaged_download_is_not_shown(mounted: Mounted) -> None:
    mounted.announce("arrived with another content hash", "read failed")
    mounted.server.edit([{"op": "write", "path": "/a", "text": "right " * 100}])
    mounted.sync()
    mounted.server.faults([{"route": "files/download", "kind": "garbage", "count": 1}])
    assert (mounted.path / "a").read_text() == "right " * 100


def test_the_small_tree_of_the_demo_is_shown_whole(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    mounted.server.populate("/p", folders=5, files_per_folder=20, size=2000)
    mounted.server.edit([{"op": "write", "path": "/read me.txt", "text": "hello"}])
    finish(mounted)
