"""What dbxfs tells of a file by its extended attributes."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from dbxfs.core.content_hash import content_hash

from .mounted import Mounted, eventually, refused, run, works

TROUBLE = "stays here for now"


def told(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.dbxfs.{name}").decode()


def test_a_file_goes_from_pending_to_synced(mounted: Mounted) -> None:
    mounted.server.network(round_trip_ms=300)
    path = mounted.path / "f"
    path.write_text("hello")
    assert told(path, "state") in ("pending", "uploading")
    mounted.sync()
    assert told(path, "state") == "synced"
    entry = next(entry for entry in mounted.server.tree() if entry["path"] == "/f")
    assert told(path, "id") == entry["id"]
    assert told(path, "rev") == entry["rev"]
    assert told(path, "content_hash") == content_hash(b"hello")
    assert os.listxattr(path) == []
    with refused(errno.ENODATA):
        told(path, "error")


def test_an_upload_under_way_is_seen(mounted: Mounted) -> None:
    path = mounted.path / "big"
    mounted.server.network(connection_mbit=20)
    path.write_bytes(os.urandom(6_000_000))
    eventually(lambda: told(path, "state") == "uploading", 5, "the upload")
    mounted.server.network()
    mounted.sync()
    assert told(path, "state") == "synced"


def test_a_refusal_is_told_with_its_reason(mounted: Mounted) -> None:
    mounted.announce(TROUBLE)
    mounted.server.control("quota", {"allocated": 1000})
    path = mounted.path / "large"
    path.write_bytes(bytes(5000))
    (error,) = mounted.sync()
    assert told(path, "state") == "error"
    assert "full" in told(path, "error")
    assert "full" in error["reason"]
    assert "free space" in error["remedy"]
    mounted.server.control("quota", {"allocated": 10**9})
    mounted.sync()
    assert told(path, "state") == "synced"


def test_a_conflicted_copy_says_so(mounted: Mounted) -> None:
    mounted.server.edit(
        [{"op": "write", "path": "/a (Joe's conflicted copy 2026-11-21).txt", "text": "x"}]
    )
    mounted.sync()
    path = mounted.path / "a (Joe's conflicted copy 2026-11-21).txt"
    assert told(path, "state") == "conflict"


def test_what_is_computed_cannot_be_set(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    with refused(errno.EPERM):
        os.setxattr(path, "user.dbxfs.state", b"synced")
    with refused(errno.ENOTSUP):
        os.getxattr(path, "system.posix_acl_access")
    with refused(errno.ENODATA):
        os.getxattr(path, "user.other")
    assert works("ls", "-l", mounted.path).endswith("f\n")


Attempt = Callable[[Path], object]

LIMITS: dict[str, tuple[int, Attempt]] = {
    "get: not there": (errno.ENODATA, lambda p: os.getxattr(p, "user.no")),
    "get: little room": (errno.ERANGE, lambda p: into(p, 3)),
    "get: no such file": (errno.ENOENT, lambda p: os.getxattr(p.with_name("no"), "user.a")),
    "get: below a file": (errno.ENOTDIR, lambda p: os.getxattr(p / "x", "user.a")),
    "remove: not there": (errno.ENODATA, lambda p: os.removexattr(p, "user.no")),
    "set: taken": (errno.EEXIST, lambda p: os.setxattr(p, "user.a", b"", os.XATTR_CREATE)),
    "set: not there": (errno.ENODATA, lambda p: os.setxattr(p, "user.no", b"", os.XATTR_REPLACE)),
    "set: unknown flag": (errno.EINVAL, lambda p: os.setxattr(p, "user.b", b"", 8)),
    "set: no name": (errno.EINVAL, lambda p: os.setxattr(p, "user.", b"")),
    "set: empty": (errno.ERANGE, lambda p: os.setxattr(p, "", b"")),
    "set: long name": (errno.ERANGE, lambda p: os.setxattr(p, "user." + "n" * 251, b"")),
    "set: no namespace": (errno.ENOTSUP, lambda p: os.setxattr(p, "name", b"")),
    "set: longer than any": (errno.E2BIG, lambda p: os.setxattr(p, "user.b", bytes(65537))),
    "set: more than is kept": (errno.ENOSPC, lambda p: os.setxattr(p, "user.b", os.urandom(65536))),
    "set: of a link": (
        errno.EPERM,
        lambda p: os.setxattr(p.with_name("link"), "user.a", b"", follow_symlinks=False),
    ),
}

NOT_KEPT = ("system.posix_acl_access", "security.capability", "security.selinux")


def into(path: Path, room: int) -> None:
    """getxattr(2) into a buffer of so many bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(room)
    if libc.getxattr(os.fsencode(path), b"user.a", buffer, room) < 0:
        raise OSError(ctypes.get_errno(), "getxattr")


def test_limits_are_those_of_xattr_7(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    path.with_name("link").symlink_to("f")
    os.setxattr(path, "user.a", b"12345")
    os.setxattr(path, "user." + "n" * 250, b"")
    for code, attempt in LIMITS.values():
        with refused(code):
            attempt(path)
    for name in NOT_KEPT:
        for attempt in (
            lambda p, n=name: os.getxattr(p, n),
            lambda p, n=name: os.removexattr(p, n),
        ):
            with refused(errno.ENOTSUP):
                attempt(path)
    assert os.getxattr(path, "user.a") == b"12345"
    assert mounted.sync() == []


def test_programs_that_copy_everything_have_nothing_to_complain_of(mounted: Mounted) -> None:
    source = mounted.folder / "source"
    source.mkdir()
    (source / "f").write_text("x")
    (source / "link").symlink_to("f")
    os.setxattr(source / "f", "user.a", b"1")
    copies = [["cp", "-a", source, mounted.path / "cp"], ["cp", "-a", mounted.path / "cp", "out"]]
    if shutil.which("rsync"):
        copies.append(["rsync", "-aHAX", f"{source}/", mounted.path / "rsync"])
        copies.append(["rsync", "-aHAX", f"{mounted.path}/rsync/", "out2"])
    for command in copies:
        done = run(*command, cwd=mounted.folder)
        assert (done.returncode, done.stderr) == (0, "")
    assert os.getxattr(mounted.folder / "out" / "f", "user.a") == b"1"
