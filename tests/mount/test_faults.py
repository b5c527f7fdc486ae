"""A server and a line that misbehave: afterwards both sides hold exactly what they should.

Above all no second copy: a reply that was lost after the work was done must not make the work be
done twice.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted, eventually, refused

TROUBLE = r"cannot be (followed|sent)|failed: |stays here for now|upload session"
MIB = 1024 * 1024

KINDS: dict[str, dict[str, Any]] = {
    "rate limit": {
        "kind": "error",
        "status": 429,
        "reason": "too_many_requests",
        "retry_after": 1,
        "count": 2,
    },
    "write lock": {
        "kind": "error",
        "status": 429,
        "reason": "too_many_write_operations",
        "retry_after": 1,
        "count": 2,
    },
    "unavailable": {"kind": "error", "status": 503, "count": 3},
    "internal error": {"kind": "error", "status": 500, "count": 3},
    "reset": {"kind": "reset", "count": 3},
    "truncated": {"kind": "truncate", "count": 2},
    "garbage": {"kind": "garbage", "count": 2},
    "lost reply": {"kind": "lost_reply", "count": 2},
}


@pytest.fixture
def known(mounted: Mounted) -> Mounted:
    """A mount with a few things that both sides know."""
    mounted.server.edit(
        [{"op": "write", "path": f"/{name}.txt", "text": name} for name in ("one", "two", "three")]
        + [{"op": "write", "path": "/d/inside.txt", "text": "inside"}]
    )
    mounted.sync()
    for name in ("one.txt", "d/inside.txt"):
        (mounted.path / name).read_text()
    mounted.announce(TROUBLE)
    return mounted


def work(mounted: Mounted) -> dict[str, str]:
    """One of everything; returns the files that must be there afterwards."""
    root = mounted.path
    (root / "one.txt").write_text("one, changed")
    (root / "two.txt").unlink()
    os.rename(root / "three.txt", root / "d" / "moved.txt")
    (root / "new folder").mkdir()
    (root / "new folder" / "new.txt").write_text("new")
    (root / "tmp").write_text("replaced")
    os.rename(root / "tmp", root / "d" / "inside.txt")
    return {
        "/one.txt": "one, changed",
        "/d/moved.txt": "three",
        "/d/inside.txt": "replaced",
        "/new folder/new.txt": "new",
    }


def check(mounted: Mounted, expected: dict[str, str]) -> None:
    """Both sides have these files and nothing else."""
    assert mounted.sync(60) == []
    mounted.server.faults()
    found = {
        entry["path"]: mounted.server.content(entry["path"]).decode()
        for entry in mounted.server.tree()
        if entry["kind"] == "file"
    }
    assert found == expected
    mounted.sync()
    assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == []


@pytest.mark.timeout(90)
@pytest.mark.hangs_after(80)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "route", ["files/upload", "files/move_v2", "files/delete_v2", "files/create_folder_v2"]
)
def test_commits_are_made_once_whatever_happens_to(known: Mounted, route: str, kind: str) -> None:
    known.server.faults([{"route": route, **KINDS[kind]}])
    check(known, work(known))


@pytest.mark.parametrize("kind", KINDS)
def test_the_feed_survives(known: Mounted, kind: str) -> None:
    known.server.faults([{"route": "files/list_folder/continue", **KINDS[kind]}])
    known.server.edit([{"op": "write", "path": "/theirs.txt", "text": "theirs"}])
    check(
        known,
        work(known) | {"/theirs.txt": "theirs"},
    )
    assert (known.path / "theirs.txt").read_text() == "theirs"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "garbage"])
def test_reading_survives(known: Mounted, kind: str) -> None:
    content = os.urandom(3 * MIB).hex()[: 3 * MIB]
    known.server.edit([{"op": "write", "path": "/data", "text": content}])
    known.sync()
    fault = {**KINDS[kind], "count": 1}
    known.server.faults([{"route": "files/download", **fault}])
    found = (known.path / "data").read_text()
    assert found == content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["start", "append_v2", "finish"])
def test_an_upload_session_survives(known: Mounted, step: str, kind: str) -> None:
    content = os.urandom(11 * MIB)
    known.server.faults([{"route": f"files/upload_session/{step}", **KINDS[kind], "count": 1}])
    (known.path / "large").write_bytes(content)
    assert known.sync(40) == []
    assert known.server.content("/large") == content
    assert len([path for path in known.server.paths() if "large" in path]) == 1


def test_a_lost_reply_and_a_kill_after_it_make_no_second_copy(known: Mounted) -> None:
    """The daemon that comes back has only its journal to tell it what it was about to do."""
    for route in ("files/upload", "files/move_v2", "files/delete_v2", "files/create_folder_v2"):
        expected = work(known)
        known.server.faults(
            [
                {"route": route, "kind": "lost_reply", "count": 1},
                {"route": "*", "kind": "reset"},
            ]
        )
        known.kill()
        known.server.faults([{"route": route, "kind": "lost_reply"}])
        known.start()
        _wait_fired(known)
        known.kill()
        known.server.faults()
        known.start()
        check(known, expected)
        known.server.edit(
            [
                {"op": "write", "path": "/two.txt", "text": "two"},
                {"op": "move", "from": "/d/moved.txt", "to": "/three.txt"},
                {"op": "delete", "path": "/new folder"},
            ]
        )
        known.sync()


def _wait_fired(mounted: Mounted) -> None:
    eventually(lambda: mounted.server.control("faults")[0]["fired"], 10, "the fault")


@pytest.mark.timeout(90)
@pytest.mark.hangs_after(80)
@pytest.mark.parametrize("seed", range(2))
def test_everything_failing_now_and_then_changes_nothing_in_the_end(
    known: Mounted, seed: int
) -> None:
    known.server.faults(
        [
            {"route": "*", "kind": kind, "probability": 0.08}
            for kind in ("reset", "lost_reply", "truncate", "garbage")
        ]
        + [{"route": "*", "kind": "error", "status": 503, "probability": 0.05}]
    )
    expected = work(known)
    for number in range(20):
        path = known.path / f"f{number}"
        path.write_text(f"{seed} {number}")
        expected[f"/f{number}"] = f"{seed} {number}"
    check(known, expected)


def test_a_full_dropbox_is_told_and_loses_nothing(mounted: Mounted) -> None:
    mounted.announce(TROUBLE)
    mounted.server.control("quota", {"allocated": 1000})
    (mounted.path / "large").write_bytes(bytes(range(256)) * 40)
    (mounted.path / "small").write_text("fits")
    errors = mounted.sync()
    assert [(error["path"], "insufficient_space" in error["reason"]) for error in errors] == [
        ("/large", True)
    ]
    assert mounted.server.paths() == ["/small"]
    shown = mounted.dbxfs("status", str(mounted.path)).stdout
    assert "/large" in shown
    assert (mounted.path / "large").stat().st_size == 10240
    mounted.server.control("quota", {"allocated": 10**9})
    assert mounted.sync() == []
    assert mounted.server.paths() == ["/large", "/small"]


def test_what_cannot_fit_is_refused_when_it_is_written(mounted: Mounted) -> None:
    mounted.server.control("quota", {"allocated": 100_000})
    (mounted.path / "fits").write_bytes(bytes(90_000))
    assert mounted.sync() == []
    with refused(errno.ENOSPC):
        (mounted.path / "large").write_bytes(bytes(20_000))
    with (mounted.path / "hole").open("wb") as file, refused(errno.ENOSPC):
        os.truncate(file.fileno(), 10**9)
    (mounted.path / "small").write_bytes(bytes(9_000))
    assert mounted.sync() == []
    mounted.server.control("quota", {"allocated": 10**9})
    assert mounted.sync() == []
    (mounted.path / "large").write_bytes(bytes(20_000))
    assert mounted.sync() == []
    assert len(mounted.server.content("/large")) == 20_000


def test_regression_what_is_removed_or_truncated_makes_room_at_once(mounted: Mounted) -> None:
    """Only what was added was counted, for as long as Dropbox's answer was good."""
    mounted.server.control("quota", {"allocated": 100_000})
    assert mounted.sync() == []
    for _ in range(3):
        (mounted.path / "removed").write_bytes(bytes(60_000))
        (mounted.path / "removed").unlink()
        with (mounted.path / "truncated").open("wb") as file:
            file.write(bytes(60_000))
            file.flush()
            file.truncate(10)
    assert mounted.sync() == []
    assert mounted.server.content("/truncated") == bytes(10)


def test_room_that_is_made_elsewhere_counts_at_once(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/big", "text": "x" * 90_000}])
    mounted.server.control("quota", {"allocated": 100_000})
    assert mounted.sync() == []
    with refused(errno.ENOSPC):
        (mounted.path / "f").write_bytes(bytes(20_000))
    mounted.server.edit([{"op": "delete", "path": "/big"}])
    eventually(lambda: (mounted.path / "f").write_bytes(bytes(20_000)), 4, "room for the file")


def test_names_that_dropbox_does_not_take_stay_here_and_nothing_is_wrong(mounted: Mounted) -> None:
    names = [b"desktop.ini", b"ends with space ", b".~lock.a.odt#", b"latin \xe9", b"back\\slash"]
    mount = os.fsencode(mounted.path)
    for name in names:
        with open(os.path.join(mount, name), "wb") as file:
            file.write(name)
    (mounted.path / "fine").write_text("z")
    assert mounted.sync() == []
    assert mounted.server.paths() == ["/fine"]
    mounted.remount()
    assert sorted(os.listdir(mount)) == sorted([*names, b"fine"])
    for name in names:
        path = os.path.join(mount, name)
        assert Path(os.fsdecode(path)).read_bytes() == name
        assert os.getxattr(path, "user.dbxfs.state") == b"local"
        os.unlink(path)
    assert mounted.sync() == []
    assert os.listdir(mount) == [b"fine"]


def test_a_rate_limit_on_uploads_stops_no_listing_and_no_read(mounted: Mounted) -> None:
    mounted.announce(TROUBLE)
    mounted.server.edit([{"op": "write", "path": "/d/a.txt", "text": "a"}])
    mounted.sync()
    fault = {"kind": "error", "status": 429, "reason": "too_many_requests", "retry_after": 20}
    mounted.server.faults([{"route": "files/upload", **fault, "count": 1}])
    (mounted.path / "mine").write_text("m")
    _wait_fired(mounted)
    mounted.server.edit([{"op": "write", "path": "/d/b.txt", "text": "b"}])
    eventually(lambda: (mounted.path / "d" / "b.txt").read_text() == "b", 2)
    assert (mounted.path / "d" / "a.txt").read_text() == "a"
    mounted.remount()


def test_an_expired_token_without_a_refresh_token_is_told_and_loses_nothing(
    mounted: Mounted,
) -> None:
    mounted.announce(TROUBLE, "oken", "nauthorized", "sign in")
    mounted.server.control("revoke_tokens", {})
    (mounted.path / "a").write_text("a")
    eventually(lambda: not mounted.status()["online"], 10, "the trouble")
    assert (mounted.path / "a").read_text() == "a"
    mounted.unmount()
    mounted.server.restart()
    mounted.start()
    mounted.sync()
    assert mounted.server.content("/a") == b"a"
