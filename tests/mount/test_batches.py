"""Many changes in few calls, and one by one where Dropbox or something on the way wants it so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted, eventually, works

MIB = 1024 * 1024

UNKNOWN = {"kind": "error", "status": 400, "reason": 'Unknown API function: "files/that"'}
"""The answer to a call that an account, an app or a proxy does not have."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """120 small files in 6 folders."""
    for number in range(120):
        folder = tmp_path / "source" / f"folder {number % 6}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(b"%d " % number * 100)
    return tmp_path / "source"


def agree(mounted: Mounted) -> None:
    """Nothing is pending, and both sides hold the same."""
    assert mounted.sync() == []
    assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == []


def test_a_copied_tree_goes_in_a_handful_of_calls(mounted: Mounted, source: Path) -> None:
    with mounted.requests() as made:
        works("cp", "-r", source, mounted.path / "copy")
        agree(mounted)
    assert made["files/upload_session/finish_batch_v2"] == 1
    assert "files/upload" not in made
    assert sum(made.values()) <= 6


def test_a_tree_is_moved_and_removed_by_one_call_each(mounted: Mounted, source: Path) -> None:
    works("cp", "-r", source, mounted.path / "copy")
    mounted.sync()
    with mounted.requests() as made:
        works("mv", mounted.path / "copy", mounted.path / "moved")
        agree(mounted)
    assert made == {"files/move_v2": 1}
    with mounted.requests() as made:
        works("rm", "-r", mounted.path / "moved")
        agree(mounted)
    assert made == {"files/delete_v2": 1}


def test_many_moves_and_deletions_go_together(mounted: Mounted, source: Path) -> None:
    works("cp", "-r", source, mounted.path / "copy")
    (mounted.path / "moved").mkdir()
    mounted.sync()
    with mounted.requests() as made:
        for path in sorted((mounted.path / "copy" / "folder 0").iterdir()):
            path.rename(mounted.path / "moved" / path.name)
        for path in (mounted.path / "copy" / "folder 1").iterdir():
            path.unlink()
        agree(mounted)
    assert made.pop("files/move_batch/check_v2", 0) <= 5
    assert made.pop("files/delete_batch/check", 0) <= 5
    assert made == {"files/move_batch_v2": 1, "files/delete_batch": 1}


@pytest.mark.parametrize(
    "route",
    [
        "upload_session/start_batch",
        "upload_session/append_batch",
        "upload_session/finish_batch_v2",
        "create_folder_batch",
        "move_batch_v2",
        "delete_batch",
        "copy_v2",
    ],
)
def test_what_is_not_allowed_for_many_goes_one_by_one(
    mounted: Mounted, source: Path, route: str
) -> None:
    mounted.server.faults([{**UNKNOWN, "route": f"files/{route}"}])
    mounted.announce("one by one", "no more .* calls for many", "sent all the same", "stays here")
    works("cp", "-r", source, mounted.path / "copy")
    (mounted.path / "large").write_bytes(os.urandom(2 * MIB))
    mounted.sync()
    shutil.copyfile(mounted.path / "large", mounted.path / "large copy")
    for number, folder in enumerate(sorted((mounted.path / "copy").iterdir())):
        for path in sorted(folder.iterdir())[:5]:
            if number % 2:
                path.unlink()
            else:
                path.rename(mounted.path / path.name)
    agree(mounted)
    with mounted.requests() as made:
        for number in range(30):
            (mounted.path / f"later {number}").write_bytes(b"%d" % number)
        agree(mounted)
    assert made.get(f"files/{route}", 0) == 0


def test_what_is_refused_in_a_batch_is_refused_alone(mounted: Mounted, source: Path) -> None:
    """A file has come elsewhere to where a folder was to be made."""
    mounted.announce("stays here for now", "changes cannot be sent: Dropbox asks to come back")
    works("cp", "-r", source, mounted.path / "copy")
    mounted.server.faults(
        [{"kind": "error", "status": 429, "route": "files/create_folder_batch", "count": 3}]
    )
    mounted.server.edit([{"op": "write", "path": "/copy/folder 3", "text": "in the way"}])
    agree(mounted)
    kinds = {path: shape[0] for path, shape in remote_tree(mounted.server).items()}
    assert sum(kind == "file" for kind in kinds.values()) == 121
    assert sum(kind == "folder" for kind in kinds.values()) == 7


def test_bytes_go_once_however_often_their_commit_is_refused(
    make_mount: Callable[..., Mounted], source: Path
) -> None:
    mounted = make_mount()
    mounted.announce("changes cannot be sent: Dropbox asks to come back")
    finish = "files/upload_session/finish_batch_v2"
    reason = "too_many_write_operations"
    refusal = {"kind": "error", "status": 429, "reason": reason, "retry_after": 0}
    mounted.server.faults([{**refusal, "route": finish, "count": 2}])
    with mounted.requests() as made:
        # However slow the machine is, all of it is there before any of it goes.
        assert mounted.dbxfs("pause", str(mounted.path)).returncode == 0
        works("cp", "-r", source, mounted.path / "copy")
        assert mounted.dbxfs("resume", str(mounted.path)).returncode == 0
        eventually(lambda: mounted.status()["pending"] == 0, 20)
        agree(mounted)
    assert made[finish] == 3
    assert made["files/upload_session/append_batch"] == 1


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
@pytest.mark.parametrize("limit", ["512:1500", "512:512"])
def test_a_batch_needs_no_more_descriptors_than_there_are(
    make_mount: Callable[..., Mounted], tmp_path: Path, limit: str
) -> None:
    """A low limit, which the daemon may raise, or not."""
    mounted = make_mount(command=("prlimit", f"--nofile={limit}"))
    for number in range(700):
        (tmp_path / "many" / str(number)).parent.mkdir(exist_ok=True)
        (tmp_path / "many" / str(number)).write_bytes(b"%d" % number)
    works("cp", "-r", tmp_path / "many", mounted.path / "many")
    agree(mounted)
