"""Attributes that stay: on this computer, on Dropbox, and with who mounts the account elsewhere."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mount.mounted import Mounted, eventually, refused, run, works

MakeMount = Callable[..., Mounted]

MOMENT = 1_234_567_890_123_456_789
UPDATE = "file_properties/properties/update"

as_root = pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def elsewhere(mounted: Mounted, make_mount: MakeMount) -> Callable[[], Mounted]:
    """Mounts the same account afresh, as another machine would, after all has been sent."""

    def mount() -> Mounted:
        assert mounted.sync() == []
        other = make_mount(server=mounted.server)
        other.sync()
        return other

    return mount


# ---- Modes ----


def test_a_script_is_executable_on_another_machine(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    path = mounted.path / "script"
    path.write_text("#!/bin/sh\necho it runs\n")
    mounted.sync()
    path.chmod(0o755)
    other = elsewhere()
    assert mode_of(other.path / "script") == 0o755
    assert works(other.path / "script") == "it runs\n"


def test_modes_of_files_and_folders_come_with_them(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    for mode in (0o400, 0o600, 0o644, 0o777, 0o1755):
        (mounted.path / f"f{mode:o}").write_text("x")
        (mounted.path / f"f{mode:o}").chmod(mode)
    for mode in (0o500, 0o700, 0o755, 0o1777):
        (mounted.path / f"d{mode:o}").mkdir()
        (mounted.path / f"d{mode:o}").chmod(mode)
    other = elsewhere()
    found = {name: f"{name[0]}{mode_of(other.path / name):o}" for name in os.listdir(other.path)}
    assert len(found) == 9
    assert found == {name: name for name in found}


def test_a_change_elsewhere_is_seen_in_a_running_mount(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    (mounted.path / "f").write_text("x")
    (mounted.path / "d").mkdir()
    other = elsewhere()
    assert mode_of(other.path / "f") == 0o644
    (mounted.path / "f").chmod(0o600)
    (mounted.path / "d").chmod(0o700)
    os.setxattr(mounted.path / "f", "user.note", b"hello")
    os.utime(mounted.path / "f", ns=(MOMENT, MOMENT))
    mounted.sync()
    eventually(lambda: mode_of(other.path / "f") == 0o600, what="the file's mode")
    eventually(lambda: mode_of(other.path / "d") == 0o700, what="the folder's mode")
    assert os.getxattr(other.path / "f", "user.note") == b"hello"
    assert os.stat(other.path / "f").st_mtime_ns == MOMENT
    (mounted.path / "d").chmod(0o755)
    mounted.sync()
    eventually(lambda: mode_of(other.path / "d") == 0o755, what="the folder's mode")
    assert other.status()["pending"] == 0


def test_what_two_machines_change_at_once_ends_alike(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    (mounted.path / "f").write_text("x")
    other = elsewhere()
    (mounted.path / "f").chmod(0o600)
    os.setxattr(other.path / "f", "user.note", b"hello")
    (other.path / "f").chmod(0o640)
    for _ in range(2):
        mounted.sync()
        other.sync()
    assert mode_of(mounted.path / "f") == mode_of(other.path / "f")


def test_setuid_bits_are_not_taken_from_dropbox(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    (mounted.path / "f").write_text("x")
    (mounted.path / "f").chmod(0o6755)
    assert mode_of(mounted.path / "f") == 0o6755
    other = elsewhere()
    assert mode_of(other.path / "f") == 0o755
    mounted.server.edit([{"op": "write", "path": "/other", "text": "wakes the feed"}])
    mounted.sync()
    assert mode_of(mounted.path / "f") == 0o6755


def test_a_mode_outlives_new_content_from_a_client_that_knows_none(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    path = mounted.path / "script"
    path.write_text("one")
    path.chmod(0o755)
    os.utime(path, ns=(MOMENT, MOMENT))
    mounted.sync()
    mounted.server.edit(
        [
            {
                "op": "write",
                "path": "/script",
                "text": "two",
                "client_modified": "2020-02-03T04:05:06Z",
            }
        ]
    )
    other = elsewhere()
    for mount in (mounted, other):
        assert (mount.path / "script").read_text() == "two"
        assert mode_of(mount.path / "script") == 0o755
        assert os.stat(mount.path / "script").st_mtime_ns == 1_580_702_706 * 10**9


def test_plain_files_look_as_the_mount_says(mounted: Mounted, make_mount: MakeMount) -> None:
    mounted.server.edit([{"op": "write", "path": "/d/f", "text": "x"}])
    other = make_mount(["fmask=137", "dmask=027", "uid=7", "gid=8"], server=mounted.server)
    other.sync()
    assert mode_of(other.path / "d") == 0o750
    assert mode_of(other.path / "d/f") == 0o640
    assert (os.stat(other.path / "d/f").st_uid, os.stat(other.path / "d/f").st_gid) == (7, 8)
    (mounted.path / "d/f").chmod(0o700)
    mounted.sync()
    eventually(lambda: mode_of(other.path / "d/f") == 0o700, what="the mode that was set")


# ---- Times ----


def test_times_come_to_the_nanosecond(mounted: Mounted, elsewhere: Callable[[], Mounted]) -> None:
    (mounted.path / "f").write_text("x")
    os.utime(mounted.path / "f", ns=(MOMENT, MOMENT))
    (mounted.path / "old").write_text("x")
    (mounted.path / "d").mkdir()
    os.utime(mounted.path / "d", ns=(MOMENT, MOMENT + 1))
    (mounted.path / "d").chmod(0o700)
    written = os.stat(mounted.path / "old").st_mtime_ns
    mounted.sync()
    os.utime(mounted.path / "old", ns=(7, -1_500_000_007))
    (mounted.path / "new").write_text("x")
    new = os.stat(mounted.path / "new").st_mtime_ns
    other = elsewhere()
    assert os.stat(other.path / "f").st_mtime_ns == MOMENT
    assert os.stat(other.path / "d").st_mtime_ns == MOMENT + 1
    assert os.stat(other.path / "old").st_mtime_ns == -1_500_000_007 != written
    assert os.stat(other.path / "new").st_mtime_ns == new


def test_a_folders_time_is_its_own_again_when_it_changes(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    (mounted.path / "d").mkdir()
    os.utime(mounted.path / "d", ns=(MOMENT, MOMENT))
    mounted.sync()
    before = time.time_ns()
    (mounted.path / "d/f").write_text("x")
    assert os.stat(mounted.path / "d").st_mtime_ns > before - 10**9
    other = elsewhere()
    assert os.stat(other.path / "d").st_mtime_ns > before - 10**9


def test_a_write_moves_the_time_on_after_it_was_set(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    os.utime(path, ns=(MOMENT, MOMENT))
    mounted.sync()
    with path.open("a") as file:
        file.write("y")
    written = os.stat(path).st_mtime_ns
    assert written > MOMENT
    other = elsewhere()
    assert os.stat(other.path / "f").st_mtime_ns == written


def test_every_change_of_attributes_is_a_status_change(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    for change in (
        lambda: path.chmod(0o600),
        lambda: os.utime(path, ns=(MOMENT, MOMENT)),
        lambda: os.setxattr(path, "user.a", b"1"),
        lambda: os.removexattr(path, "user.a"),
        lambda: os.truncate(path, 0),
    ):
        before = os.stat(path).st_ctime_ns
        change()
        assert os.stat(path).st_ctime_ns > before


def test_regression_a_time_in_the_future_is_no_status_change_in_the_future(
    mounted: Mounted,
) -> None:
    """The time of an open file that was written to also showed as that of its status change."""
    later = time.time_ns() + 10**18
    with (mounted.path / "f").open("wb") as file:
        file.write(b"x")
        file.flush()
        os.utime(file.fileno(), ns=(later, later))
        found = os.fstat(file.fileno())
        assert found.st_mtime_ns == later
        assert found.st_ctime_ns < later


# ---- What it costs ----


def test_attributes_of_new_files_cost_no_call(mounted: Mounted) -> None:
    with mounted.requests() as made:
        for name in ("a", "b", "c"):
            (mounted.path / name).write_text(name)
            (mounted.path / name).chmod(0o755)
            os.setxattr(mounted.path / name, "user.a", b"1")
            os.utime(mounted.path / name, ns=(MOMENT, MOMENT))
        (mounted.path / "d").mkdir()
        mounted.sync()
    assert not [route for route in made if route.startswith("file_properties")]


def test_unpacking_folders_with_their_times_costs_no_call_for_each(
    mounted: Mounted, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for number in range(30):
        (source / f"d{number}").mkdir(parents=True)
        (source / f"d{number}/f").write_text("x")
        os.utime(source / f"d{number}", ns=(MOMENT, MOMENT + number))
    works("tar", "-cf", tmp_path / "a.tar", "--format=posix", "-C", source, ".")
    with mounted.requests() as made:
        works("tar", "-xf", tmp_path / "a.tar", cwd=mounted.path)
        mounted.sync()
        works("touch", "-d", "@1000000000", mounted.path / "d0")
        mounted.sync()
    assert not [route for route in made if route.startswith("file_properties")]
    mounted.remount()
    times = [os.stat(mounted.path / f"d{number}").st_mtime_ns for number in range(30)]
    assert times == [10**18, *(MOMENT + number for number in range(1, 30))]
    with mounted.requests() as made:
        (mounted.path / "d1").chmod(0o700)
        mounted.sync()
    assert made == {UPDATE.replace("update", "overwrite"): 1}


def test_many_changes_of_one_file_are_one_call_without_content(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    mounted.sync()
    with mounted.requests() as made:
        path.chmod(0o700)
        path.chmod(0o755)
        works("touch", path)
        os.setxattr(path, "user.a", b"1")
        os.setxattr(path, "user.b", b"2")
        mounted.sync()
    assert made == {UPDATE: 1}


def test_a_change_that_is_taken_back_costs_nothing(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    mounted.sync()
    with mounted.requests() as made:
        path.chmod(0o755)
        path.chmod(0o644)
        mounted.sync()
    assert made == {}


def test_a_mount_of_a_known_tree_asks_for_no_template(mounted: Mounted) -> None:
    mounted.sync()
    with mounted.requests() as made:
        mounted.remount()
        mounted.sync()
    assert not [route for route in made if route.startswith("file_properties")]


def test_a_kill_loses_no_attribute(mounted: Mounted, elsewhere: Callable[[], Mounted]) -> None:
    (mounted.path / "f").write_text("x")
    mounted.sync()
    (mounted.path / "f").chmod(0o755)
    os.setxattr(mounted.path / "f", "user.a", b"1")
    mounted.kill()
    mounted.start()
    assert mode_of(mounted.path / "f") == 0o755
    other = elsewhere()
    assert mode_of(other.path / "f") == 0o755
    assert os.getxattr(other.path / "f", "user.a") == b"1"


# ---- Symbolic links ----


@pytest.mark.parametrize("target", ["../a/b", "b", "/etc/hostname", "ä/ö", "x" * 4000])
def test_a_link_is_one_on_another_machine(
    mounted: Mounted, elsewhere: Callable[[], Mounted], target: str
) -> None:
    (mounted.path / "d").mkdir()
    link = mounted.path / "d/link"
    link.symlink_to(target)
    assert os.readlink(link) == target
    assert stat.S_ISLNK(os.lstat(link).st_mode)
    assert os.lstat(link).st_size == len(target.encode())
    other = elsewhere()
    assert mounted.server.content("/d/link") == target.encode()
    mounted.remount()
    for mount in (mounted, other):
        assert os.readlink(mount.path / "d/link") == target
        assert os.lstat(mount.path / "d/link").st_size == len(target.encode())


def test_a_relative_link_leads_to_its_target(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    (mounted.path / "a").mkdir()
    (mounted.path / "a/file").write_text("hello")
    (mounted.path / "b").symlink_to("a")
    (mounted.path / "a/up").symlink_to("../a/file")
    other = elsewhere()
    for mount in (mounted, other):
        assert (mount.path / "b/file").read_text() == "hello"
        assert (mount.path / "b/up").read_text() == "hello"


def test_a_link_can_be_renamed_replaced_and_removed(mounted: Mounted) -> None:
    link = mounted.path / "link"
    link.symlink_to("nowhere")
    with refused(errno.EEXIST):
        os.symlink("x", link)
    mounted.sync()
    os.rename(link, mounted.path / "moved")
    (mounted.path / "new").symlink_to("elsewhere")
    os.replace(mounted.path / "new", mounted.path / "moved")
    assert os.readlink(mounted.path / "moved") == "elsewhere"
    mounted.sync()
    assert mounted.server.content("/moved") == b"elsewhere"
    os.utime(mounted.path / "moved", ns=(MOMENT, MOMENT), follow_symlinks=False)
    assert os.lstat(mounted.path / "moved").st_mtime_ns == MOMENT
    (mounted.path / "plain").write_text("x")
    os.replace(mounted.path / "plain", mounted.path / "moved")
    mounted.sync()
    assert not (mounted.path / "moved").is_symlink()
    (mounted.path / "moved").unlink()
    mounted.sync()
    assert mounted.server.paths() == []


def test_a_link_that_is_written_over_elsewhere_is_a_file(mounted: Mounted) -> None:
    (mounted.path / "link").symlink_to("target")
    mounted.sync()
    assert (mounted.path / "link").is_symlink()
    mounted.server.edit([{"op": "write", "path": "/link", "text": "a text now"}])
    mounted.sync()
    eventually(lambda: not (mounted.path / "link").is_symlink(), what="the plain file")
    assert (mounted.path / "link").read_text() == "a text now"


def test_a_link_of_dropboxs_own_shows_as_one(mounted: Mounted) -> None:
    mounted.server.edit(
        [
            {"op": "write", "path": "/d/file", "text": "hello"},
            {"op": "symlink", "path": "/link", "to": "d/file"},
            {"op": "symlink", "path": "/out", "to": "/etc/hostname"},
        ]
    )
    mounted.sync()
    assert os.readlink(mounted.path / "link") == "d/file"
    assert (mounted.path / "link").read_text() == "hello"
    assert os.readlink(mounted.path / "out") == "/etc/hostname"
    mounted.remount()
    assert os.readlink(mounted.path / "link") == "d/file"
    for name in ("link", "out"):
        (mounted.path / name).unlink()
    mounted.sync()
    assert mounted.server.paths() == ["/d", "/d/file"]


def test_reading_no_link_is_refused_and_hard_links_are_too(mounted: Mounted) -> None:
    (mounted.path / "f").write_text("x")
    with refused(errno.EINVAL):
        os.readlink(mounted.path / "f")
    with refused(errno.EPERM):
        os.link(mounted.path / "f", mounted.path / "g")


# ---- Extended attributes ----


def test_extended_attributes_come_with_the_file(
    mounted: Mounted, elsewhere: Callable[[], Mounted]
) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    (mounted.path / "d").mkdir()
    wanted = {"user.a": b"", "user.mime_type": b"text/plain", "user.\u00e4": bytes(range(256)) * 9}
    for name, value in wanted.items():
        os.setxattr(path, name, value)
        os.setxattr(mounted.path / "d", name, value)
    other = elsewhere()
    for found in (path, other.path / "f", other.path / "d"):
        assert {name: os.getxattr(found, name) for name in os.listxattr(found)} == wanted
    os.removexattr(path, "user.a")
    os.setxattr(path, "user.mime_type", b"text/html", os.XATTR_REPLACE)
    with refused(errno.EEXIST):
        os.setxattr(path, "user.mime_type", b"x", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.a", b"x", os.XATTR_REPLACE)
    mounted.sync()
    eventually(lambda: "user.a" not in os.listxattr(other.path / "f"), what="its removal")
    assert os.getxattr(other.path / "f", "user.mime_type") == b"text/html"
    for name in os.listxattr(path):
        os.removexattr(path, name)
    mounted.sync()
    eventually(lambda: os.listxattr(other.path / "f") == [], what="the removal of all")


def test_more_than_dropbox_keeps_is_refused_at_once(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_text("x")
    os.setxattr(path, "user.a", os.urandom(8000))
    with refused(errno.ENOSPC):
        os.setxattr(path, "user.b", os.urandom(8000))
    with refused(errno.ENODATA):
        os.removexattr(path, "user.b")
    with refused(errno.ENOTSUP):
        os.setxattr(path, "trusted.a" if os.getuid() == 0 else "system.a", b"1")
    mounted.sync()


# ---- Owners ----


@as_root
def test_with_root_mounting_for_all_files_have_owners(
    mounted: Mounted, make_mount: MakeMount
) -> None:
    one = make_mount(["allow_other"], server=mounted.server)
    one.path.chmod(0o777)
    somebody = ("setpriv", "--reuid=1234", "--regid=2345", "--clear-groups")
    # The way there is closed to them: they begin where it ends.
    works(*somebody, "mkdir", "d", cwd=one.path)
    works(*somebody, "touch", "d/f", cwd=one.path)
    (one.path / "root").write_text("x")
    (one.path / "given").write_text("x")
    os.chown(one.path / "given", 77, 88)
    one.sync()
    os.chown(one.path / "root", -1, 99)
    one.sync()
    other = make_mount(["allow_other"], server=mounted.server)
    other.sync()
    for mount in (one, other):
        found = {name: os.stat(mount.path / name) for name in ("d", "d/f", "given", "root")}
        assert {name: (at.st_uid, at.st_gid) for name, at in found.items()} == {
            "d": (1234, 2345),
            "d/f": (1234, 2345),
            "given": (77, 88),
            "root": (0, 99),
        }
    mounted.sync()
    assert (os.stat(mounted.path / "given").st_uid) == os.getuid()


# ---- Templates ----


def call(mounted: Mounted, route: str, argument: object) -> Any:
    """One API call as the same app."""
    headers = {"Authorization": f"Bearer {mounted.server.token}"}
    with httpx.Client(trust_env=False) as http:
        reply = http.post(f"{mounted.server.url}/2/{route}", json=argument, headers=headers)
    assert reply.is_success, reply.text
    return reply.json()


def test_two_machines_make_one_template(make_mount: MakeMount) -> None:
    one = make_mount()
    other = make_mount(server=one.server)
    for mounted in (one, other):
        mounted.sync()
    assert len(call(one, "file_properties/templates/list_for_user", None)["template_ids"]) == 1


# ---- Programs ----


def test_rsync_with_everything_sends_nothing_the_second_time(
    mounted: Mounted, tmp_path: Path, elsewhere: Callable[[], Mounted]
) -> None:
    source = tmp_path / "source"
    (source / "d/e").mkdir(parents=True)
    (source / "d/script").write_text("#!/bin/sh\n")
    (source / "d/script").chmod(0o750)
    (source / "d/link").symlink_to("../d/script")
    (source / "f").write_bytes(os.urandom(10_000))
    os.setxattr(source / "f", "user.note", b"hello")
    for name in ("f", "d/script", "d/e", "d", "."):
        os.utime(source / name, ns=(MOMENT, MOMENT))
    if run("rsync", "--version").returncode:
        pytest.skip("rsync is not installed")
    target = mounted.path / "copy"
    command = ("rsync", "-aHAX", "--checksum", "--itemize-changes", f"{source}/")
    assert works(*command, f"{target}/")
    assert works(*command, f"{target}/") == ""
    mounted.sync()
    assert works(*command, f"{target}/") == ""
    other = elsewhere()
    # The time of a folder stays on the machine where it was set.
    assert works(*command, "--omit-dir-times", f"{other.path}/copy/") == ""
    mounted.remount()
    assert works(*command, f"{target}/") == ""
