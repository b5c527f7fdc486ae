"""Files through the kernel: open, create, read, write, flush, fsync, release, unlink, rename."""

from __future__ import annotations

import errno
import os
import random

import pytest

from tests.mount.folders import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.mount.mounted import Mounted, python, refused


def test_creating_exclusively_fails_when_the_name_is_taken(mounted: Mounted) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(mounted.path / "a", flags))
    for name in ("a", "A"):
        with pytest.raises(FileExistsError):
            os.open(mounted.path / name, flags)


def test_opening_with_truncation_empties_the_file(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("old content")
    mounted.sync()
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert os.stat(path).st_size == 0
    mounted.sync()
    assert mounted.server.content("/a") == b""


def test_appending_goes_to_the_end_from_every_handle(mounted: Mounted) -> None:
    path = mounted.path / "log"
    path.write_text("begin\n")
    mounted.sync()
    with path.open("a") as one, path.open("a") as two:
        for number in range(5):
            one.write(f"one {number}\n")
            one.flush()
            two.write(f"two {number}\n")
            two.flush()
    lines = ["begin", *(f"{name} {n}" for n in range(5) for name in ("one", "two"))]
    assert path.read_text().splitlines() == lines
    mounted.sync()
    assert mounted.server.content("/log").decode().splitlines() == lines


def test_a_folder_cannot_be_opened_for_writing(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        os.open(mounted.path / "d", os.O_WRONLY)


def test_writes_anywhere_in_a_remote_file_leave_the_other_bytes(mounted: Mounted) -> None:
    source = random.Random(1)
    content = bytearray(source.randbytes(3_000_000))
    (mounted.folder / "seed").write_bytes(content)
    mounted.server.edit([{"op": "write", "path": "/a", "base64": _base64(content)}])
    mounted.sync()
    with (mounted.path / "a").open("r+b", buffering=0) as file:
        for _ in range(40):
            offset, length = source.randrange(len(content)), source.randrange(1, 9000)
            piece = source.randbytes(length)
            file.seek(offset)
            file.write(piece)
            content[offset : offset + length] = piece
            place = source.randrange(len(content))
            file.seek(place)
            assert file.read(5000) == bytes(content[place : place + 5000])
    assert (mounted.path / "a").read_bytes() == bytes(content)
    mounted.sync()
    assert mounted.server.content("/a") == bytes(content)


def test_a_hole_reads_as_zeros(mounted: Mounted) -> None:
    path = mounted.path / "sparse"
    with path.open("wb") as file:
        file.seek(1_000_000)
        file.write(b"end")
    assert path.read_bytes() == bytes(1_000_000) + b"end"
    mounted.sync()
    assert mounted.server.content("/sparse") == bytes(1_000_000) + b"end"


def test_reading_beyond_the_end_gives_nothing(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/a", "text": "hello"}])
    mounted.sync()
    with (mounted.path / "a").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 3) == b"lo"
        assert os.pread(file.fileno(), 10, 5) == b""
        assert os.pread(file.fileno(), 10, 5000) == b""


def test_what_one_handle_writes_another_reads_at_once(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("0000")
    with path.open("r+b", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        writer.write(b"12")
        assert reader.read() == b"1200"
        mounted.sync()
        writer.write(b"34")
        reader.seek(0)
        assert reader.read() == b"1234"


def test_fsync_and_fdatasync_work(mounted: Mounted) -> None:
    with (mounted.path / "a").open("wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        file.write(b"two")
        os.fdatasync(file.fileno())
    assert (mounted.path / "a").read_bytes() == b"onetwo"


def test_closing_one_of_two_descriptors_sends_what_is_there(mounted: Mounted) -> None:
    descriptor = os.open(mounted.path / "a", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"first")
    os.close(os.dup(descriptor))
    mounted.sync()
    assert mounted.server.content("/a") == b"first"
    os.write(descriptor, b" second")
    os.close(descriptor)
    mounted.sync()
    assert mounted.server.content("/a") == b"first second"


def test_an_unlinked_open_file_can_be_read_and_written(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_text("before")
    mounted.sync()
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        mounted.sync()
        assert mounted.server.tree() == []
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"before"
        file.write(b" and after")
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b"before and after"
        os.ftruncate(file.fileno(), 3)
        file.seek(0)
        assert file.read() == b"bef"
        path.write_text("another")
    assert path.read_text() == "another"
    mounted.sync()
    assert mounted.server.content("/a") == b"another"


def test_an_unlinked_file_that_was_never_sent_can_be_used_and_costs_nothing(
    mounted: Mounted,
) -> None:
    path = mounted.path / "temporary"
    with mounted.requests() as made:
        with path.open("w+b", buffering=0) as file:
            path.unlink()
            file.write(b"scratch")
            file.seek(0)
            assert file.read() == b"scratch"
            mounted.sync()
        mounted.sync()
    assert made == {}


def test_rename_replaces_a_file(mounted: Mounted) -> None:
    (mounted.path / "old").write_text("old")
    (mounted.path / "new").write_text("new")
    mounted.sync()
    os.rename(mounted.path / "new", mounted.path / "old")
    assert os.listdir(mounted.path) == ["old"]
    assert (mounted.path / "old").read_text() == "new"
    mounted.sync()
    assert mounted.server.paths() == ["/old"]


def test_rename_keeps_the_inode_number(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    (mounted.path / "a").write_text("a")
    number = os.stat(mounted.path / "a").st_ino
    os.rename(mounted.path / "a", mounted.path / "d" / "b")
    assert os.stat(mounted.path / "d" / "b").st_ino == number
    mounted.sync()
    assert os.stat(mounted.path / "d" / "b").st_ino == number
    assert not (mounted.path / "a").exists()


def test_rename_replaces_an_empty_folder_and_no_full_one(mounted: Mounted) -> None:
    for name in ("source", "empty", "full"):
        (mounted.path / name).mkdir()
    (mounted.path / "source" / "a").write_text("a")
    (mounted.path / "full" / "b").write_text("b")
    mounted.sync()
    with refused(errno.ENOTEMPTY):
        os.rename(mounted.path / "source", mounted.path / "full")
    os.rename(mounted.path / "source", mounted.path / "empty")
    assert (mounted.path / "empty" / "a").read_text() == "a"
    mounted.sync()
    assert mounted.server.paths() == ["/empty", "/empty/a", "/full", "/full/b"]


def test_rename_between_kinds_is_refused(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    (mounted.path / "a").write_text("a")
    with pytest.raises(IsADirectoryError):
        os.rename(mounted.path / "a", mounted.path / "d")
    with pytest.raises(NotADirectoryError):
        os.rename(mounted.path / "d", mounted.path / "a")
    with pytest.raises(FileNotFoundError):
        os.rename(mounted.path / "nothing", mounted.path / "b")


def test_rename_without_replacing_is_refused_where_something_is(mounted: Mounted) -> None:
    (mounted.path / "a").write_text("a")
    (mounted.path / "b").write_text("b")
    for name in ("b", "B"):
        with pytest.raises(FileExistsError):
            renameat2(mounted.path / "a", mounted.path / name, RENAME_NOREPLACE)
    renameat2(mounted.path / "a", mounted.path / "c", RENAME_NOREPLACE)
    assert sorted(os.listdir(mounted.path)) == ["b", "c"]


def test_two_names_exchange_what_they_stand_for(mounted: Mounted) -> None:
    (mounted.path / "file").write_text("f")
    (mounted.path / "top" / "folder").mkdir(parents=True)
    (mounted.path / "top" / "folder" / "inside").write_text("i")
    mounted.sync()
    before = {entry["path"]: entry["id"] for entry in mounted.server.tree()}
    numbers = [os.stat(mounted.path / name).st_ino for name in ("file", "top/folder")]
    renameat2(mounted.path / "file", mounted.path / "top" / "folder", RENAME_EXCHANGE)
    assert [os.stat(mounted.path / n).st_ino for n in ("top/folder", "file")] == numbers
    assert (mounted.path / "top" / "folder").read_text() == "f"
    assert (mounted.path / "file" / "inside").read_text() == "i"
    mounted.sync()
    after = {entry["path"]: entry["id"] for entry in mounted.server.tree()}
    assert after == {
        "/top": before["/top"],
        "/top/folder": before["/file"],
        "/file": before["/top/folder"],
        "/file/inside": before["/top/folder/inside"],
    }


def test_an_exchange_there_and_back_costs_nothing(mounted: Mounted) -> None:
    for name in "ab":
        (mounted.path / name).write_text(name)
    mounted.sync()
    with mounted.requests() as made:
        renameat2(mounted.path / "a", mounted.path / "b", RENAME_EXCHANGE)
        renameat2(mounted.path / "a", mounted.path / "b", RENAME_EXCHANGE)
        mounted.sync()
    assert made == {}


def test_an_exchange_that_cannot_be_is_refused(mounted: Mounted) -> None:
    (mounted.path / "d" / "e").mkdir(parents=True)
    (mounted.path / "a").write_text("a")
    with refused(errno.EINVAL):
        renameat2(mounted.path / "d", mounted.path / "d" / "e", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(mounted.path / "d" / "e", mounted.path / "d", RENAME_EXCHANGE)
    with refused(errno.ENOENT):
        renameat2(mounted.path / "a", mounted.path / "b", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(mounted.path / "a", mounted.path / "d", RENAME_EXCHANGE | RENAME_NOREPLACE)


def test_rename_into_itself_is_refused(mounted: Mounted) -> None:
    (mounted.path / "d" / "e").mkdir(parents=True)
    with refused(errno.EINVAL):
        os.rename(mounted.path / "d", mounted.path / "d" / "e" / "d")


def test_rename_over_an_open_file_leaves_its_reader_alone(mounted: Mounted) -> None:
    old, new = mounted.path / "old", mounted.path / "new"
    old.write_text("the old content")
    mounted.sync()
    new.write_text("the new content")
    with old.open("rb", buffering=0) as file:
        os.rename(new, old)
        mounted.sync()
        assert file.read() == b"the old content"
        assert old.read_text() == "the new content"


def test_renaming_an_open_file_goes_on_under_the_new_name(mounted: Mounted) -> None:
    with (mounted.path / "a").open("wb", buffering=0) as file:
        file.write(b"one ")
        os.rename(mounted.path / "a", mounted.path / "b")
        file.write(b"two")
    mounted.sync()
    assert mounted.server.content("/b") == b"one two"
    assert mounted.server.paths() == ["/b"]


def test_two_names_are_swapped(mounted: Mounted) -> None:
    a, b, c = (mounted.path / name for name in "abc")
    a.write_text("a")
    b.write_text("b")
    mounted.sync()
    ids = {entry["path"]: entry["id"] for entry in mounted.server.tree()}
    os.rename(a, c)
    os.rename(b, a)
    os.rename(c, b)
    mounted.sync()
    assert {entry["path"]: entry["id"] for entry in mounted.server.tree()} == {
        "/a": ids["/b"],
        "/b": ids["/a"],
    }


def test_a_folder_moves_with_all_that_is_in_it_by_one_request(mounted: Mounted) -> None:
    for number in range(20):
        folder = mounted.path / "src" / f"d{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_text(str(number))
    (mounted.path / "there").mkdir()
    mounted.sync()
    with mounted.requests() as made:
        os.rename(mounted.path / "src", mounted.path / "there" / "dst")
        mounted.sync()
    assert made == {"files/move_v2": 1}


def test_shared_mapping_writes_arrive(mounted: Mounted) -> None:
    content = random.Random(2).randbytes(1_000_000)
    mounted.server.edit([{"op": "write", "path": "/a", "base64": _base64(content)}])
    mounted.sync()
    python(
        """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    with mmap.mmap(file.fileno(), 0) as mapped:
        assert mapped[500_000:500_004] == bytes.fromhex(sys.argv[2])
        mapped[100:105] = b"first"
        mapped.flush()
        mapped[700_000:700_006] = b"second"
""",
        mounted.path / "a",
        content[500_000:500_004].hex(),
    )
    expected = bytearray(content)
    expected[100:105], expected[700_000:700_006] = b"first", b"second"
    assert (mounted.path / "a").read_bytes() == bytes(expected)
    mounted.sync()
    assert mounted.server.content("/a") == bytes(expected)


def test_a_mapping_outlives_its_descriptor(mounted: Mounted) -> None:
    path = mounted.path / "a"
    path.write_bytes(bytes(10_000))
    mounted.sync()
    python(
        """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(descriptor, 0)
os.close(descriptor)
mapped[5000:5005] = b"later"
mapped.close()
""",
        path,
    )
    mounted.sync()
    assert mounted.server.content("/a") == bytes(5000) + b"later" + bytes(4995)


def test_file_locks_work(mounted: Mounted) -> None:
    (mounted.path / "a").write_text("a")
    python(
        """
import fcntl, subprocess, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
fcntl.flock(file, fcntl.LOCK_EX)
other = subprocess.run([sys.executable, "-c",
    "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)",
    sys.argv[1]], capture_output=True)
assert other.returncode != 0, "the lock was given twice"
""",
        mounted.path / "a",
    )


def test_sqlite_works_on_the_mount(mounted: Mounted) -> None:
    python(
        """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    database.execute("CREATE TABLE t (n INTEGER)")
    database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
with sqlite3.connect(sys.argv[1]) as database:
    assert database.execute("SELECT sum(n) FROM t").fetchone() == (499500,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
""",
        mounted.path / "data.sqlite",
    )


def _base64(content: bytes | bytearray) -> str:
    import base64

    return base64.b64encode(content).decode()
