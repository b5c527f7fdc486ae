"""What the mount lets others do: nothing, unless it was told so."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dbxfs.cli.socket import NoAnswerError, ask
from tests.mount.mounted import Mounted, works

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


def as_nobody(folder: Path, work: Callable[[], str]) -> str:
    """What `work` gives in an ordinary user's process in `folder`; an errno's name if refused."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                said = work()
            except OSError as error:
                said = errno.errorcode[error.errno or 0]
            os.write(writer, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        return os.read(reader, 1000).decode()
    finally:
        os.close(reader)
        os.waitpid(child, 0)


def mount_options(path: Path) -> tuple[set[str], set[str]]:
    """Of the mount point, and of the file system."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(path):
            return set(fields[5].split(",")), set(fields[-1].split(","))
    raise AssertionError("it is not mounted")


def listed() -> str:
    """The current folder."""
    return ",".join(sorted(os.listdir()))


def test_the_kernel_checks_modes_and_honours_neither_set_user_id_nor_devices(
    mounted: Mounted,
) -> None:
    of_mount, of_system = mount_options(mounted.path)
    assert {"nosuid", "nodev"} <= of_mount
    assert "default_permissions" in of_system
    assert "allow_other" not in of_system


def test_nobody_else_sees_anything_unless_told_so(make_mount: Callable[..., Mounted]) -> None:
    for options, expected in (([], "EACCES"), (["allow_root"], "EACCES"), (["allow_other"], "a")):
        mounted = make_mount(options=options)
        (mounted.path / "a").write_text("a")
        descriptor = os.open(mounted.path, os.O_PATH)

        def listed_from_outside(inside: int = descriptor) -> str:
            return ",".join(os.listdir(f"/proc/self/fd/{inside}"))

        try:
            assert as_nobody(Path("/"), listed_from_outside) == expected, options
        finally:
            os.close(descriptor)
        mounted.close()


@pytest.mark.parametrize(("options", "honoured"), [([], False), (["suid"], True)])
def test_set_user_id_is_honoured_only_when_asked_for(
    make_mount: Callable[..., Mounted], options: list[str], honoured: bool
) -> None:
    mounted = make_mount(options=["allow_other", *options])
    shutil.copy("/usr/bin/id", mounted.path / "id")
    (mounted.path / "id").chmod(0o4755)
    assert stat.S_IMODE(os.stat(mounted.path / "id").st_mode) == 0o4755
    found = as_nobody(mounted.path, lambda: works("./id", "-u").strip())
    assert found == ("0" if honoured else str(NOBODY))


def test_a_write_by_somebody_else_takes_set_user_id_away(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(options=["allow_other", "suid"])
    program = mounted.path / "program"
    for change in (
        lambda: str(os.write(os.open("program", os.O_WRONLY), b"x")),
        lambda: str(os.truncate("program", 1)),
    ):
        program.write_text("content")
        program.chmod(0o6777)
        as_nobody(mounted.path, change)
        assert stat.S_IMODE(os.stat(program).st_mode) == 0o777


def test_what_others_may_do_is_masked(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount(
        options=["allow_other", "fmask=0177", "dmask=0066", "uid=1234", "gid=2345"], start=False
    )
    mounted.server.edit([{"op": "write", "path": "/d/file", "text": "x"}])
    mounted.start()
    mounted.sync()
    for path, mode in ((mounted.path / "d", 0o711), (mounted.path / "d" / "file", 0o600)):
        found = os.stat(path)
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, mode)
    assert as_nobody(mounted.path, listed) == "EACCES"
    assert as_nobody(mounted.path, lambda: Path("d/file").read_text()) == "EACCES"
    assert as_nobody(mounted.path, lambda: str(os.stat("d/file").st_size)) == "1"


def test_state_and_cache_are_for_nobody_else(mounted: Mounted) -> None:
    (mounted.path / "a").write_bytes(bytes(100_000))
    mounted.sync()
    for top in (mounted.state, mounted.cache):
        for folder, _, files in os.walk(top):
            assert os.stat(folder).st_mode & 0o077 == 0, folder
            for name in files:
                assert os.lstat(Path(folder) / name).st_mode & 0o077 == 0, (folder, name)


def test_the_socket_answers_its_own_user_and_root_only(mounted: Mounted) -> None:
    """Also where somebody has opened up the folder that it lies in."""
    socket = mounted.state / "socket"

    def asked() -> str:
        try:
            list(ask(Path("socket"), "status", 5))
        except NoAnswerError as error:
            return f"no answer: {error}"
        return "answered"

    assert "Permission denied" in as_nobody(mounted.state, asked)
    socket.chmod(0o666)
    try:
        assert as_nobody(mounted.state, asked).startswith("no answer: ")
    finally:
        socket.chmod(0o600)
    assert mounted.status()["pending"] == 0


def test_its_memory_is_nobody_elses_and_ends_in_no_core_file(mounted: Mounted) -> None:
    limits = Path(f"/proc/{mounted.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    said = as_nobody(Path("/"), lambda: Path(f"/proc/{mounted.pid}/environ").read_text())
    assert said == "EACCES"
