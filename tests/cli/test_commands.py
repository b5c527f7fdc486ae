"""The commands without a mount: exit codes, and messages that say what to do.

Exit codes are those of mount(8): 1 usage, 32 failure; `dbxfs` ends with 1 on any failure.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import BIN, Home

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here"
)


@pytest.fixture
def mnt(home: Home) -> Path:
    path = home.path / "mnt"
    path.mkdir()
    return path


# ---- Usage ----


@pytest.mark.parametrize("option", ["bogus", "uid=joe", "cache_size=much", "sync=never", "gid"])
def test_a_wrong_option_ends_with_1_and_its_name(home: Home, mnt: Path, option: str) -> None:
    ran = home.run("mount.dbxfs", mnt, "-o", f"ro,{option},noatime")
    assert ran.code == 1
    assert option.split("=")[-1] in ran.err
    assert ran.err.startswith("mount.dbxfs: ")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "arguments", "named"),
    [
        ("mount.dbxfs", [], "MOUNTPOINT"),
        ("mount.dbxfs", ["--bogus", "mnt"], "--bogus"),
        ("mount.dbxfs", ["none", "mnt", "more"], "more"),
        ("mount.dbxfs", ["work", "mnt"], "dbxfs:ACCOUNT"),
        ("umount.dbxfs", [], "MOUNTPOINT"),
        ("umount.dbxfs", ["--bogus", "mnt"], "--bogus"),
        ("dbxfs", ["bogus"], "bogus"),
        ("dbxfs", ["status", "--bogus"], "--bogus"),
        ("dbxfs", ["sync"], "MOUNTPOINT"),
        ("dbxfs", ["login", "a/b"], "a/b"),
        ("dbxfs", ["login", "demo"], "demo"),
        ("dbxfs", [], "Usage:"),
    ],
)
def test_wrong_usage_ends_with_1_and_names_what_is_wrong(
    home: Home, command: str, arguments: list[str], named: str
) -> None:
    ran = home.run(command, *arguments)
    assert ran.code == 1
    assert named in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("command", ["mount.dbxfs", "mount.fuse.dbxfs", "umount.dbxfs", "dbxfs"])
def test_help_is_given_and_sends_nobody_to_another_program(home: Home, command: str) -> None:
    ran = home.run(command, "--help")
    assert ran.code == 0
    assert "MOUNTPOINT" in ran.out
    assert "pip install" not in ran.out


def test_the_version_is_that_of_this_distribution(home: Home) -> None:
    ran = home.run("dbxfs", "--version")
    assert (ran.code, ran.out.split()[0]) == (0, "dbxfs,")


# ---- Mounts that cannot be ----


def test_a_missing_mount_point_is_32_with_advice(home: Home) -> None:
    ran = home.run("mount.dbxfs", "--demo", "nowhere")
    assert ran.code == 32
    assert "nowhere is not there; make the folder first" in ran.err


def test_a_mount_point_that_is_a_file_is_32(home: Home) -> None:
    (home.path / "file").touch()
    ran = home.run("mount.dbxfs", "--demo", "file")
    assert (ran.code, "file is not a folder" in ran.err) == (32, True)


def test_a_mount_point_in_a_circle_of_links_is_32(home: Home) -> None:
    (home.path / "circle").symlink_to("circle")
    ran = home.run("mount.dbxfs", "--demo", "circle")
    assert (ran.code, "symbolic links" in ran.err) == (32, True)


@needs_fuse
@pytest.mark.parametrize("more", [[], ["-f"]])
def test_without_credentials_it_is_32_and_the_way_to_get_them(
    home: Home, mnt: Path, more: list[str]
) -> None:
    ran = home.run("mount.dbxfs", *more, "dbxfs:work", mnt)
    assert ran.code == 32
    assert "run `dbxfs login work`" in ran.err
    assert "DBXFS_ACCESS_TOKEN" in ran.err


@needs_fuse
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(home: Home, mnt: Path) -> None:
    ran = home.run("mount.dbxfs", mnt, env={"DBXFS_ACCESS_TOKEN": "hush hush"})
    assert ran.code == 32
    assert "access token" in ran.err
    assert "hush" not in ran.err
    assert "hush" not in (home.state / "default" / "log").read_text()


@needs_fuse
def test_with_nobody_at_the_server_the_first_mount_is_32_with_the_reason(
    home: Home, mnt: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ran = home.run(
            "mount.dbxfs", mnt, "-o", f"api_url={url}", env={"DBXFS_ACCESS_TOKEN": "hush"}
        )
    assert ran.code == 32
    assert ran.err.startswith("mount.dbxfs: ")
    assert "hush" not in ran.err
    assert list(mnt.iterdir()) == []


@needs_fuse
def test_a_state_folder_that_others_use_is_32_and_unharmed(home: Home, mnt: Path) -> None:
    shared = home.path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "theirs").touch()
    ran = home.run("mount.dbxfs", "--demo", mnt, "-o", f"state_dir={shared}")
    assert ran.code == 32
    assert "open to others" in ran.err
    assert shared.stat().st_mode & 0o777 == 0o755


@needs_fuse
def test_a_state_folder_that_cannot_be_made_is_32_and_named(home: Home, mnt: Path) -> None:
    (home.path / "file").touch()
    ran = home.run("mount.dbxfs", "--demo", mnt, "-o", f"state_dir={home.path}/file/state")
    assert (ran.code, f"{home.path}/file" in ran.err) == (32, True)


# ---- Without a mount ----


def test_what_is_no_dropbox_is_not_unmounted(home: Home, mnt: Path) -> None:
    for target in (mnt, Path("/proc"), home.path / "nowhere"):
        ran = home.run("umount.dbxfs", "--now", target)
        assert ran.code == 32
        assert f"no Dropbox is mounted on {target}" in ran.err
        again = home.run("dbxfs", "umount", target)
        assert (again.code, "no Dropbox is mounted" in again.err) == (1, True)
    assert os.path.ismount("/proc")


def test_status_without_mounts_says_so(home: Home) -> None:
    assert home.run("dbxfs", "status").out == "Nothing is mounted.\n"
    assert json.loads(home.run("dbxfs", "status", "--json").out) == []


@pytest.mark.parametrize("command", ["status", "sync"])
def test_a_mount_point_without_a_mount_is_named(home: Home, mnt: Path, command: str) -> None:
    ran = home.run("dbxfs", command, mnt)
    assert ran.code == 1
    assert ran.err == f"dbxfs: no dbxfs is known to be mounted on {mnt}\n"
    assert ran.out == ""


def test_login_without_an_answer_ends_and_stores_nothing(home: Home) -> None:
    ran = home.run("dbxfs", "login", stdin="")
    assert ran.code == 130
    assert not home.config.exists()


@pytest.mark.parametrize(
    ("key", "url", "named"),
    [
        ("no key", "http://127.0.0.1:1", "app key"),
        ("key", "http://example.org", "https"),
        ("key", "nonsense", "nonsense"),
    ],
)
def test_login_with_unusable_settings_says_which(
    home: Home, key: str, url: str, named: str
) -> None:
    ran = home.run("dbxfs", "login", "--app-key", key, "--api-url", url, stdin="code\n")
    assert (ran.code, named in ran.err) == (1, True)


def test_login_with_nobody_at_the_server_says_so_and_shows_no_code(home: Home) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ran = home.run("dbxfs", "login", "--app-key", "k", "--api-url", url, stdin="hush\n")
    assert ran.code == 1
    assert ran.err.startswith("dbxfs: ")
    assert "hush" not in ran.out + ran.err
    assert not home.config.exists()


# ---- With a mount, as far as it is the commands' doing ----


def is_mounted(mountpoint: Path) -> bool:
    return f" {mountpoint} " in Path("/proc/self/mountinfo").read_text()


@needs_fuse
@pytest.mark.mount
def test_a_mount_comes_and_goes_and_comes_again_at_once(home: Home, mnt: Path) -> None:
    for _ in range(3):
        assert home.run("mount.dbxfs", "--demo", mnt).code == 0
        try:
            assert is_mounted(mnt)
            assert (mnt / "README.md").is_file()
        finally:
            gone = home.run("umount.dbxfs", mnt)
        assert (gone.code, gone.err, is_mounted(mnt)) == (0, "", False)


@needs_fuse
@pytest.mark.mount
def test_nothing_of_a_mount_is_readable_by_others(home: Home, mnt: Path) -> None:
    assert home.run("mount.dbxfs", "--demo", mnt, umask=0).code == 0
    try:
        (mnt / "new").write_text("bytes")
        files = [*home.path.glob(".local/**/*"), *home.path.glob(".cache/**/*")]
        open_ones = [path for path in files if path.stat().st_mode & 0o077]
    finally:
        home.run("umount.dbxfs", mnt)
    assert home.state / "demo" / "log" in files
    assert open_ones == []


@needs_fuse
@pytest.mark.mount
def test_a_second_mount_is_refused_and_the_first_goes_on(home: Home, mnt: Path) -> None:
    (home.path / "other").mkdir()
    (home.path / "link").symlink_to(mnt)
    assert home.run("mount.dbxfs", "--demo", mnt).code == 0
    try:
        twice = home.run("mount.dbxfs", "--demo", "link")
        beside = home.run("mount.dbxfs", "--demo", "other")
        assert (mnt / "README.md").is_file()
    finally:
        gone = home.run("umount.dbxfs", "link")
    assert (twice.code, "is mounted on link already" in twice.err) == (32, True)
    assert (beside.code, "in use by another mount" in beside.err) == (32, True)
    assert gone.code == 0


@needs_fuse
@pytest.mark.mount
def test_a_busy_mount_stays_and_the_reason_is_told(home: Home, mnt: Path) -> None:
    assert home.run("mount.dbxfs", "--demo", mnt).code == 0
    try:
        with (mnt / "README.md").open():
            busy = home.run("umount.dbxfs", mnt)
            assert is_mounted(mnt)
        assert (busy.code, "busy" in busy.err) == (32, True)
    finally:
        assert home.run("umount.dbxfs", mnt).code == 0


@needs_fuse
@pytest.mark.mount
def test_ctrl_c_while_the_mount_is_being_made_leaves_none(home: Home, mnt: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        mounting = subprocess.Popen(
            [BIN / "mount.dbxfs", mnt, "-o", f"api_url={url}"],
            env={**home.environment, "DBXFS_ACCESS_TOKEN": "hush"},
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()  # the daemon asks who the account is; nobody answers
        mounting.send_signal(signal.SIGINT)
        said = mounting.communicate(timeout=30)[1]
        connection.close()
    assert (mounting.returncode, "interrupted" in said) == (32, True)
    assert not is_mounted(mnt)
    assert "in use" not in home.run("mount.dbxfs", mnt).err
