"""What POSIX says of links, locks, appending, shared memory and sockets, on the mount."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.mount.mounted import Mounted, eventually, python, refused, works


def test_what_stays_in_place_of_a_removed_link_count(mounted: Mounted) -> None:
    """A folder has one link whatever is in it: find(1) then looks into every folder."""
    for name in ("d/e/f", "d/g"):
        (mounted.path / name).mkdir(parents=True)
    (mounted.path / "d" / "e" / "f" / "deep").write_text("d")
    assert os.stat(mounted.path / "d").st_nlink == 1
    found = works("find", mounted.path, "-name", "deep").split()
    assert found == [str(mounted.path / "d" / "e" / "f" / "deep")]
    descriptor = os.open(mounted.path / "d" / "g", os.O_RDONLY)
    try:
        os.rmdir(mounted.path / "d" / "g")
        assert os.fstat(descriptor).st_nlink == 0
        assert os.listdir(descriptor) == []
    finally:
        os.close(descriptor)


# ---- Several at once ----


def test_processes_that_append_lose_no_line(mounted: Mounted) -> None:
    path = mounted.path / "log"
    source = """
import os, sys
flags = os.O_APPEND | os.O_CREAT | (os.O_RDWR if int(sys.argv[2]) % 2 else os.O_WRONLY)
file = os.open(sys.argv[1], flags)
for number in range(200):
    os.write(file, f"{sys.argv[2]} {number}\\n".encode())
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", source, path, str(number)]) for number in range(4)
    ]
    assert [writer.wait(30) for writer in writers] == [0] * 4
    expected = {f"{writer} {number}" for writer in range(4) for number in range(200)}
    assert sorted(path.read_text().splitlines()) == sorted(expected)
    mounted.sync()
    assert sorted(mounted.server.content("/log").decode().splitlines()) == sorted(expected)


def test_what_one_process_maps_another_sees(mounted: Mounted) -> None:
    path = mounted.path / "shared"
    path.write_bytes(bytes(10_000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        python(
            "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0);"
            "m[5000:5005] = b'other'; m.close()",
            path,
        )
        assert mapped[5000:5005] == b"other"
        mapped[0:4] = b"mine"
        assert os.pread(file.fileno(), 4, 0) == b"mine"
        os.pwrite(file.fileno(), b"written", 100)
        assert mapped[100:107] == b"written"
        mapped.flush()
    mounted.sync()
    content = mounted.server.content("/shared")
    assert (content[:4], content[100:107], content[5000:5005]) == (b"mine", b"written", b"other")


def test_a_mapping_behind_the_end_is_a_bus_error(mounted: Mounted) -> None:
    path = mounted.path / "short"
    path.write_bytes(bytes(100))
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import mmap, os, sys; f = os.open(sys.argv[1], os.O_RDWR); os.ftruncate(f, 8192);"
            "m = mmap.mmap(f, 8192); os.ftruncate(f, 100); m[5000]",
            path,
        ],
        check=False,
    )
    assert done.returncode == -7


LOCKS = {
    "flock": lambda file, how: fcntl.flock(file, how),
    "fcntl": lambda file, how: fcntl.lockf(file, how),
}


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_holds_between_processes_until_it_is_given_back(mounted: Mounted, kind: str) -> None:
    path = mounted.path / "file"
    path.write_text("content")
    call = {"flock": "flock", "fcntl": "lockf"}[kind]
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            f"import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.{call}(f, fcntl.LOCK_EX);"
            "print('held', flush=True); sys.stdin.read()",
            path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder, path.open("r+") as file:
        assert holder.stdout.readline() == b"held\n"
        for how in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with refused(errno.EAGAIN, errno.EACCES):
                LOCKS[kind](file, how | fcntl.LOCK_NB)
        holder.stdin.close()
        LOCKS[kind](file, fcntl.LOCK_EX)
    assert holder.returncode == 0


def test_ranges_are_locked_one_by_one(mounted: Mounted) -> None:
    path = mounted.path / "file"
    path.write_bytes(bytes(100))
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
        python(
            """
import errno, fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
except OSError as error:
    assert error.errno in (errno.EAGAIN, errno.EACCES)
else:
    raise SystemExit("the lock was given twice")
""",
            path,
        )


# ---- Holes, direct reading and writing ----


def test_a_hole_may_be_told_as_data(mounted: Mounted) -> None:
    path = mounted.path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    with path.open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 1 << 20
        assert os.lseek(file.fileno(), 5, os.SEEK_DATA) == 5
    works("cp", "--sparse=always", path, mounted.path / "copy")
    assert (mounted.path / "copy").read_bytes() == bytes(1 << 20)
    works("cp", "--sparse=auto", path, mounted.folder / "out")
    assert (mounted.folder / "out").stat().st_size == 1 << 20


def test_direct_reads_and_writes_see_what_ordinary_ones_do(mounted: Mounted) -> None:
    path = mounted.path / "file"
    with path.open("wb") as ordinary:
        ordinary.write(b"o" * 8192)
        ordinary.flush()
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as room:
            assert os.preadv(direct, [room], 4096) == 4096
            assert room[:] == b"o" * 4096
            room[:] = b"d" * 4096
            assert os.pwritev(direct, [room], 4096) == 4096
        os.close(direct)
    assert path.read_bytes() == b"o" * 4096 + b"d" * 4096


def test_dd_writes_and_reads_directly(mounted: Mounted) -> None:
    path = mounted.path / "image"
    works("dd", "if=/dev/zero", f"of={path}", "bs=64k", "count=8", "oflag=direct", "conv=fsync")
    works("dd", f"if={path}", "of=/dev/null", "bs=64k", "iflag=direct")
    mounted.sync()
    assert mounted.server.content("/image") == bytes(8 * 65536)


def test_space_can_be_set_aside_as_the_c_library_does(mounted: Mounted) -> None:
    with (mounted.path / "file").open("w+b") as file:
        file.write(b"begin")
        file.flush()
        os.posix_fallocate(file.fileno(), 0, 10_000)
        assert os.fstat(file.fileno()).st_size == 10_000
    assert (mounted.path / "file").read_bytes() == b"begin" + bytes(9_995)


# ---- Sockets ----


@pytest.fixture
def listening(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A program's socket that is called "S.agent"; the current folder is the mount.

    The path of a socket is at most 107 bytes long.
    """
    monkeypatch.chdir(mounted.path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("S.agent")
        server.listen()
        server.settimeout(10)
        yield server


def talk(server: socket.socket, name: str) -> str:
    """What another program is answered that connects to `name`."""
    source = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    print(client.recv(100).decode())
"""
    with subprocess.Popen([sys.executable, "-c", source, name], stdout=subprocess.PIPE) as client:
        with server.accept()[0] as connection:
            connection.sendall(b"hello")
        assert client.stdout is not None
        return client.stdout.read().decode().strip()


def test_programs_meet_at_a_socket_of_which_dropbox_hears_nothing(
    mounted: Mounted, listening: socket.socket
) -> None:
    with mounted.requests() as made:
        os.chmod("S.agent", 0o600)
        assert stat.S_IFMT(os.stat("S.agent").st_mode) == stat.S_IFSOCK
        assert stat.S_IMODE(os.stat("S.agent").st_mode) == 0o600
        assert works("find", ".", "-type", "s", cwd=mounted.path) == "./S.agent\n"
        assert talk(listening, "S.agent") == "hello"
        os.mkdir("run")
        os.rename("S.agent", "run/agent")
        assert talk(listening, "run/AGENT") == "hello"
        with refused(errno.ENXIO):
            os.open("run/agent", os.O_RDONLY)
        assert mounted.sync() == []
        assert mounted.status()["pending"] == 0
    assert made == {"files/create_folder_v2": 1}
    assert mounted.server.paths() == ["/run"]
    assert mounted.check()["findings"] == []
    with refused(errno.ENOTEMPTY):
        os.rmdir("run")
    os.unlink("run/agent")


def test_a_file_from_elsewhere_takes_the_name_of_a_socket(
    mounted: Mounted, listening: socket.socket
) -> None:
    mounted.server.edit([{"op": "write", "path": "/S.agent", "text": "a file"}])
    eventually(lambda: stat.S_ISREG(os.stat("S.agent").st_mode), what="the file")
    assert talk(listening, "S (conflicted copy).agent") == "hello"
    os.unlink("S (conflicted copy).agent")
    mounted.sync()
    assert mounted.server.paths() == ["/S.agent"]


def test_a_socket_is_there_after_the_next_mount_and_leads_nowhere(
    mounted: Mounted, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a local disk after a crash: programs remove it and make it anew."""
    listening.close()
    monkeypatch.undo()
    mounted.remount()
    assert stat.S_ISSOCK(os.stat(mounted.path / "S.agent").st_mode)
    monkeypatch.chdir(mounted.path)
    with socket.socket(socket.AF_UNIX) as client, refused(errno.ECONNREFUSED):
        client.connect("S.agent")
    os.unlink("S.agent")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("S.agent")
    os.unlink("S.agent")


# ---- What is open goes on ----


def test_a_removed_current_folder_is_empty_and_takes_nothing(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    said = works(
        "sh",
        "-c",
        "cd d; rmdir ../d; ls -a; touch x 2>/dev/null || echo refused; mkdir y 2>/dev/null || echo"
        " refused; cd ..; ls",
        cwd=mounted.path,
    )
    assert said == "refused\nrefused\n"


def test_the_folder_of_an_open_file_moves(mounted: Mounted) -> None:
    (mounted.path / "one" / "two").mkdir(parents=True)
    with (mounted.path / "one" / "two" / "file").open("w", buffering=1) as file:
        file.write("before\n")
        os.rename(mounted.path / "one", mounted.path / "moved")
        file.write("after\n")
        os.fsync(file.fileno())
    assert (mounted.path / "moved" / "two" / "file").read_text() == "before\nafter\n"
    mounted.sync()
    assert mounted.server.content("/moved/two/file") == b"before\nafter\n"


def test_a_replaced_open_file_is_written_to_nobodys_harm(mounted: Mounted) -> None:
    (mounted.path / "old").write_text("old")
    mounted.sync()
    with (mounted.path / "old").open("r+") as file:
        (mounted.path / "new").write_text("new")
        os.rename(mounted.path / "new", mounted.path / "old")
        file.seek(0, os.SEEK_END)
        file.write(" and more")
        file.flush()
        file.seek(0)
        assert file.read() == "old and more"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert (mounted.path / "old").read_text() == "new"
    mounted.sync()
    eventually(lambda: mounted.server.content("/old") == b"new")
    assert mounted.server.paths() == ["/old"]
