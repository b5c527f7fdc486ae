"""Pinned files and folders: complete, current, and here when the network is not."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from .mounted import Mounted, drop_kernel_caches, ensure_running, eventually, refused

KIB = 1024
MIB = 1024 * KIB
SOON = 15.0
"""Seconds for pinned contents to be fetched."""

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can drop the kernel's caches")


def pinned(mounted: Mounted) -> dict[str, Any]:
    """What `dbxfs status` says of the pins."""
    answer: dict[str, Any] = mounted.status()["pinned"]
    return answer


def complete(mounted: Mounted, files: int) -> None:
    """Wait until so many files are pinned and all of them are here."""

    def all_here() -> bool:
        answer = pinned(mounted)
        return answer["files"] == files and answer["missing"] == 0

    eventually(all_here, SOON, f"{files} pinned files being here")


def cached(path: Path) -> str:
    return os.getxattr(path, "user.dbxfs.cached").decode()


def told(mounted: Mounted, *arguments: str | Path) -> Any:
    """What a command prints as JSON."""
    done = mounted.dbxfs(*map(str, arguments), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pin(path: Path) -> None:
    os.setxattr(path, "user.dbxfs.pin", b"1")


def unpin(mounted: Mounted, path: Path) -> None:
    """What `dbxfs unpin` asks for, without the time that a command takes to start."""
    assert "refused" not in mounted.ask("unpin", 10, ino=path.lstat().st_ino)


def write(mounted: Mounted, *contents: tuple[str, bytes]) -> None:
    """Files that another client makes."""
    mounted.server.edit(
        [{"op": "write", "path": path, "text": data.decode("latin-1")} for path, data in contents]
    )
    mounted.sync()


def offline(mounted: Mounted) -> None:
    """The server is gone, and so is what the kernel remembers."""
    mounted.server.stop()
    if os.getuid() == 0:
        drop_kernel_caches()


def test_a_pinned_folder_is_fetched_and_read_offline_after_a_restart(mounted: Mounted) -> None:
    mounted.announce("cannot be followed")
    write(mounted, *((f"/docs/deep/{n}.txt", f"content {n} ".encode() * 500) for n in range(20)))
    (answer,) = told(mounted, "pin", mounted.path / "docs")
    assert (answer["files"], answer["pinned"], answer["kind"]) == (20, True, "folder")
    complete(mounted, 20)
    mounted.unmount()
    mounted.server.stop()
    mounted.start()
    for n in range(20):
        assert (mounted.path / "docs/deep" / f"{n}.txt").read_text() == f"content {n} " * 500
    ensure_running(mounted.server)
    unpin(mounted, mounted.path / "docs")


def test_new_and_changed_files_in_a_pinned_folder_are_fetched_as_the_feed_tells(
    mounted: Mounted,
) -> None:
    mounted.announce("cannot be followed")
    write(mounted, ("/docs/a", b"first"), ("/other", b"not pinned"))
    pin(mounted.path / "docs")
    complete(mounted, 1)
    write(mounted, ("/docs/a", b"second"), ("/docs/new/b", b"new"))
    complete(mounted, 2)
    offline(mounted)
    assert (mounted.path / "docs/a").read_text() == "second"
    assert (mounted.path / "docs/new/b").read_text() == "new"
    assert cached(mounted.path / "other") == "0"
    ensure_running(mounted.server)
    os.removexattr(mounted.path / "docs", "user.dbxfs.pin")


def test_what_replaced_content_took_is_freed(mounted: Mounted) -> None:
    folder = mounted.cache / "pinned" / "blocks"
    write(mounted, ("/a", b"x" * MIB))
    pin(mounted.path / "a")
    complete(mounted, 1)
    write(mounted, ("/a", b"y" * MIB))
    complete(mounted, 1)
    eventually(lambda: len(list(folder.rglob("*.val"))) == 1, SOON, "the old content going")
    (answer,) = told(mounted, "unpin", mounted.path / "a")
    assert answer["removed"] == 1
    eventually(lambda: not list(folder.rglob("*.val")), SOON, "the content going")


def test_pinned_content_is_not_evicted_by_reading_more_than_the_cache_holds(
    make_mount: Any,
) -> None:
    mounted = make_mount(options=["cache_size=20M"])
    mounted.announce("cannot be followed", "pinned content cannot")
    content = os.urandom(3 * MIB)
    (mounted.path / "kept").write_bytes(content)
    mounted.sync()
    mounted.server.populate("/flood", folders=1, files_per_folder=30, size=MIB)
    mounted.sync()
    pin(mounted.path / "kept")
    complete(mounted, 1)
    for path in (mounted.path / "flood").rglob("*"):
        if path.is_file():
            path.read_bytes()
    assert cached(mounted.path / "kept") == "100"
    with mounted.requests() as made:
        mounted.remount()
        assert (mounted.path / "kept").read_bytes() == content
    assert "files/download" not in made


def test_evict_frees_what_is_cached_but_not_what_is_pinned_or_unsent(mounted: Mounted) -> None:
    mounted.announce("cannot be followed", "cannot be sent")
    write(mounted, ("/d/a", b"a" * 300_000), ("/d/b", b"b" * 300_000), ("/d/c", b"c" * 300_000))
    for name in "abc":
        (mounted.path / "d" / name).read_bytes()
    pin(mounted.path / "d/b")
    complete(mounted, 1)
    mounted.server.stop()
    with (mounted.path / "d/c").open("r+b") as file:
        file.write(b"changed")
    (answer,) = told(mounted, "evict", mounted.path / "d")
    assert answer["freed"] == 300_000
    assert [cached(mounted.path / "d" / name) for name in "abc"] == ["0", "100", "100"]
    assert (mounted.path / "d/c").read_bytes() == b"changed" + b"c" * 299_993
    assert (mounted.path / "d/b").read_bytes() == b"b" * 300_000
    ensure_running(mounted.server)
    mounted.sync()
    assert mounted.server.content("/d/c") == b"changed" + b"c" * 299_993
    assert (mounted.path / "d/a").read_bytes() == b"a" * 300_000
    unpin(mounted, mounted.path / "d")


def test_a_program_that_saves_by_renaming_keeps_the_pin(mounted: Mounted) -> None:
    write(mounted, ("/report", b"one"))
    os.setxattr(mounted.path / "report", "user.dbxfs.pin", b"1")
    (mounted.path / ".report.new").write_text("two")
    os.rename(mounted.path / ".report.new", mounted.path / "report")
    assert os.getxattr(mounted.path / "report", "user.dbxfs.pin") == b"1"
    mounted.sync()
    write(mounted, ("/report", b"three"))
    complete(mounted, 1)
    # Another client replaces it by another file.
    mounted.server.edit(
        [
            {"op": "delete", "path": "/report"},
            {"op": "write", "path": "/report", "text": "four"},
        ]
    )
    mounted.sync()
    assert (mounted.path / "report").read_text() == "four"
    assert os.getxattr(mounted.path / "report", "user.dbxfs.pin") == b"1"
    unpin(mounted, mounted.path)


def test_the_attribute_is_inherited_and_cannot_be_taken_from_a_part(mounted: Mounted) -> None:
    write(mounted, ("/d/e/f", b"f"), ("/other", b"o"))
    file = mounted.path / "d/e/f"
    with refused(errno.ENODATA):
        os.getxattr(file, "user.dbxfs.pin")
    with refused(errno.ENODATA):
        os.removexattr(file, "user.dbxfs.pin")
    with refused(errno.EINVAL):
        os.setxattr(file, "user.dbxfs.pin", b"yes")
    os.setxattr(mounted.path / "d", "user.dbxfs.pin", b"1")
    assert os.getxattr(file, "user.dbxfs.pin") == b"1"
    # A copy with all attributes would else be pinned, too.
    assert os.listxattr(mounted.path / "d") == os.listxattr(file) == []
    with refused(errno.EPERM):
        os.removexattr(file, "user.dbxfs.pin")
    done = mounted.dbxfs("unpin", str(file))
    assert done.returncode == 1
    assert "pinned with the folder /d" in done.stderr
    os.rename(mounted.path / "other", mounted.path / "d/other")
    assert os.getxattr(mounted.path / "d/other", "user.dbxfs.pin") == b"1"
    complete(mounted, 2)
    os.rename(mounted.path / "d/other", mounted.path / "other")
    with refused(errno.ENODATA):
        os.getxattr(mounted.path / "other", "user.dbxfs.pin")
    complete(mounted, 1)
    os.removexattr(mounted.path / "d", "user.dbxfs.pin")
    assert pinned(mounted)["files"] == 0


def test_what_is_written_here_is_pinned_without_being_fetched(mounted: Mounted) -> None:
    (mounted.path / "d").mkdir()
    pin(mounted.path / "d")
    with mounted.requests() as made:
        for n in range(10):
            (mounted.path / "d" / str(n)).write_bytes(os.urandom(100_000))
        mounted.sync()
        complete(mounted, 10)
    assert "files/download" not in made
    assert cached(mounted.path / "d") == "100"
    unpin(mounted, mounted.path / "d")


def test_pinning_offline_goes_on_when_dropbox_answers_again(mounted: Mounted) -> None:
    mounted.announce("cannot be followed")
    write(mounted, ("/d/a", b"a" * 200_000))
    mounted.server.stop()
    (answer,) = told(mounted, "pin", mounted.path / "d")
    assert answer["cached_bytes"] == 0
    assert pinned(mounted)["missing"] == 200_000
    ensure_running(mounted.server)
    mounted.sync()
    complete(mounted, 1)
    unpin(mounted, mounted.path / "d")


def test_a_kill_while_pinned_content_comes_goes_on_where_it_stopped(mounted: Mounted) -> None:
    mounted.server.populate("/big", folders=1, files_per_folder=1, size=24 * MIB)
    mounted.sync()
    mounted.server.network(total_mbit=40)
    pin(mounted.path / "big")
    eventually(lambda: pinned(mounted)["missing"] < 20 * MIB, SOON, "some of it being here")
    mounted.kill()
    mounted.server.network()
    mounted.server.reset_counters()
    mounted.start()
    complete(mounted, 1)
    assert mounted.server.counters()["bytes_out"] < 22 * MIB
    unpin(mounted, mounted.path / "big")


def test_a_path_tells_its_state_and_how_much_of_it_is_here(mounted: Mounted) -> None:
    write(mounted, ("/d/a", b"A" * 300_000), ("/d/b", b"B" * 100_000))
    (mounted.path / "d/b").read_bytes()
    answer = told(mounted, "status", mounted.path / "d")
    assert (answer["path"], answer["files"], answer["cached"]) == ("/d", 2, 25)
    answer = told(mounted, "status", mounted.path / "d/b")
    assert (answer["state"], answer["cached"], answer["pinned"]) == ("synced", 100, False)
    assert answer["rev"] == os.getxattr(mounted.path / "d/b", "user.dbxfs.rev").decode()
    assert "100% here" in mounted.dbxfs("status", str(mounted.path / "d/b")).stdout
    whole = mounted.dbxfs("status", str(mounted.path))
    assert f"{mounted.path} (default)" in whole.stdout


@pytest.mark.parametrize("command", ["pin", "status"])
def test_a_path_that_is_not_there_or_not_in_a_mount_is_named(
    mounted: Mounted, command: str
) -> None:
    missing = mounted.dbxfs(command, str(mounted.path / "nothing"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "nothing: No such file" in missing.stderr
    outside = mounted.dbxfs(command, str(mounted.folder / "account"))
    assert outside.returncode == 1
    assert "no dbxfs is known to be mounted" in outside.stderr


def test_a_full_pin_of_the_mount_point_takes_everything(mounted: Mounted) -> None:
    write(mounted, ("/a", b"a"), ("/d/b", b"b"), ("/empty", b""))
    pin(mounted.path)
    complete(mounted, 3)
    assert "3 files" in mounted.dbxfs("status", str(mounted.path)).stdout
    unpin(mounted, mounted.path)
    assert pinned(mounted)["files"] == 0
