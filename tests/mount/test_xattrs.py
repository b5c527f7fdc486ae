"""What dbxfs tells of a file by its extended attributes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dbxfs.core.content_hash import content_hash

from .mounted import Mounted, eventually, refused, works

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
