"""What reading costs: requests and bytes, counted at the server."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .mounted import Mounted, drop_kernel_caches, eventually, run, works

MIB = 1024 * 1024
KIB = 1024


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


@pytest.fixture
def large(mounted: Mounted) -> Iterator[Path]:
    """A file of 24 MiB that nobody has read here."""
    data = some_bytes(24 * MIB, os.getpid())
    (mounted.folder / "large").write_bytes(data)
    works("cp", mounted.folder / "large", mounted.path / "large", timeout=60)
    mounted.sync()
    mounted.unmount()
    works("rm", "-r", mounted.cache)
    mounted.start()
    mounted.sync()
    return mounted.path / "large"


def download(made: dict[str, int]) -> int:
    return made.get("files/download", 0)


def test_the_head_of_a_large_file_costs_little(mounted: Mounted, large: Path) -> None:
    with mounted.requests() as made:
        assert run("cmp", "-n", "4096", mounted.folder / "large", large).returncode == 0
        moved = mounted.server.counters()["bytes_out"]
    assert download(made) <= 2
    assert moved <= 256 * KIB


def test_a_file_that_is_read_in_order_is_fetched_once(mounted: Mounted, large: Path) -> None:
    with mounted.requests() as made:
        assert large.read_bytes() == (mounted.folder / "large").read_bytes()
        moved = mounted.server.counters()["bytes_out"]
    assert moved == 24 * MIB
    assert download(made) <= 40
    drop_kernel_caches()
    with mounted.requests() as made:
        assert large.read_bytes() == (mounted.folder / "large").read_bytes()
    assert made == {}


def test_reads_here_and_there_bring_what_was_asked_for(mounted: Mounted, large: Path) -> None:
    expected = (mounted.folder / "large").read_bytes()
    file = os.open(large, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        with mounted.requests() as made:
            for place in (20 * MIB, 3 * MIB + 7, 11 * MIB, 17 * MIB + 99, 7 * MIB):
                assert os.pread(file, 4096, place) == expected[place : place + 4096]
            moved = mounted.server.counters()["bytes_out"]
    finally:
        os.close(file)
    assert download(made) == 5
    assert moved <= 10 * 64 * KIB


def test_mapped_and_backward_reading_give_the_same_bytes(mounted: Mounted, large: Path) -> None:
    source = (
        "import mmap, sys\n"
        "with open(sys.argv[1], 'rb') as a, open(sys.argv[2], 'rb') as b:\n"
        "    left, right = (mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) for f in (a, b))\n"
        "    for start in range(len(left) - 65536, -1, -65536):\n"
        "        assert left[start:start + 65536] == right[start:start + 65536], start\n"
        "    assert left[:] == right[:]\n"
    )
    works("python3", "-c", source, mounted.folder / "large", large, timeout=60)


def test_a_program_that_reads_a_folder_gets_each_file_once(mounted: Mounted) -> None:
    seed = os.getpid()
    files = {f"/g/d{n % 4}/f{n:03}": some_bytes(3000, seed + n).hex() for n in range(80)}
    mounted.server.edit([{"op": "write", "path": path, "text": files[path]} for path in files])
    mounted.sync()
    with mounted.requests() as made:
        assert run("grep", "-rq", "nothing like this", mounted.path / "g").returncode == 1
    assert download(made) == len(files)
    drop_kernel_caches()
    with mounted.requests() as made:
        assert run("grep", "-rq", "nothing like this", mounted.path / "g").returncode == 1
    assert made == {}


def test_the_next_files_come_before_they_are_asked_for(mounted: Mounted) -> None:
    seed = os.getpid() + 1000
    files = [f"/w/f{n:02}" for n in range(30)]
    mounted.server.edit([{"op": "write", "path": p, "text": f"{seed} {p} " * 99} for p in files])
    mounted.sync()
    names = sorted(os.listdir(mounted.path / "w"))
    with mounted.requests() as made:
        for name in names[:6]:
            (mounted.path / "w" / name).read_bytes()
        requests = mounted.server.counters
        eventually(lambda: download(requests()["requests"]) > 6, 3, "a file unasked")
    assert 6 < download(made) <= len(files)


def test_a_single_file_brings_no_others(mounted: Mounted) -> None:
    seed = os.getpid() + 2000
    files = [f"/w/f{n:02}" for n in range(30)]
    mounted.server.edit([{"op": "write", "path": p, "text": f"{seed} {p} " * 99} for p in files])
    mounted.sync()
    with mounted.requests() as made:
        for name in ("f20", "f03", "f11", "f02"):
            (mounted.path / "w" / name).read_bytes()
        mounted.sync()
    assert download(made) == 4
