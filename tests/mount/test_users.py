"""Other users, and mount(8): who may look in, and what /etc/fstab needs.

What has to be changed on the machine for that (who may open /dev/fuse, what is in /sbin) is
changed in a mount namespace of the test's own, which ends with it.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.embedded import Embedded
from tests.mount.mounted import UMOUNT, Mounted, eventually, run
from tests.mount.users import NOBODY, Namespace, as_nobody

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")


def test_an_ordinary_user_mounts_works_and_unmounts(
    users_mount: Callable[..., Mounted], namespace: Namespace
) -> None:
    mounted = users_mount()
    path = mounted.path
    script = (
        "set -e; cd $1; echo hello > a.txt; mkdir -p d/e; cp a.txt d/e/b.txt; mv a.txt c.txt;"
        " cat d/e/b.txt; stat -c %u:%g:%a c.txt; df . > /dev/null"
    )
    done = namespace.run(*as_nobody("sh", "-c", script, "sh", path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"hello\n{NOBODY}:{NOBODY}:644\n"
    mounted.sync()
    assert mounted.server.paths() == ["/c.txt", "/d", "/d/e", "/d/e/b.txt"]
    command = as_nobody(*UMOUNT, path)
    done = namespace.run(*command, env=mounted.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert mounted.wait_end() == 0


def test_nobody_else_can_look_into_an_ordinary_users_mount(
    users_mount: Callable[..., Mounted], namespace: Namespace
) -> None:
    mounted = users_mount()
    other = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")
    for become in (other, ()):
        done = namespace.run(*become, "ls", mounted.path)
        assert done.returncode != 0
        assert "Permission denied" in done.stderr


def test_an_ordinary_users_state_is_for_nobody_else(users_mount: Callable[..., Mounted]) -> None:
    mounted = users_mount()
    for top in (mounted.state, mounted.cache, mounted.folder / "xdg" / "state" / "dbxfs"):
        assert stat.S_IMODE(os.stat(top).st_mode) == 0o700, top
        assert os.stat(top).st_uid == NOBODY
    for name in ("tree.db", "lock", "socket"):
        assert stat.S_IMODE(os.stat(mounted.state / name).st_mode) == 0o600, name


def test_with_allow_other_the_mode_bits_decide(place: Path) -> None:
    server = Embedded(place / "account")
    server.start()
    mounted = Mounted(place, server, ["allow_other"])
    try:
        mounted.start()
        (mounted.path / "open").write_text("open")
        (mounted.path / "closed").write_text("closed")
        (mounted.path / "closed").chmod(0o600)
        assert run(*as_nobody("cat", mounted.path / "open")).stdout == "open"
        assert run(*as_nobody("cat", mounted.path / "closed")).returncode != 0
        assert run(*as_nobody("touch", mounted.path / "new")).returncode != 0
        assert mounted.sync() == []
        assert mounted.trouble() == []
    finally:
        mounted.close()
        server.stop()


# ---- mount(8) ----

PROGRAM = f"""#!/bin/sh
exec {sys.executable} -m dbxfs.cli.mount "$@"
"""

WITH_HELPER = """
set -e
mount --make-rprivate /
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=$(readlink -f /sbin),upperdir=$1/upper,workdir=$1/work" none /sbin
cp "$2" /sbin/mount.fuse.dbxfs
chmod 755 /sbin/mount.fuse.dbxfs
"""
"""Puts the helper into /sbin, for this namespace only; "$1" is an empty folder, "$2" the helper."""


def test_a_line_in_fstab_mounts_with_all_its_options(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        (place / "helper").write_text(PROGRAM)
        namespace = Namespace(WITH_HELPER, memory, place / "helper")
        server = Embedded(place / "account")
        server.start()
        mounted = Mounted(place, server)
        try:
            generic = (
                "noauto,user,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=600,"
                "comment=mine,noatime,nosuid,nodev,rw"
            )
            own = f"api_url={server.url},state_dir={mounted.state},cache_dir={mounted.cache}"
            fstab = place / "fstab"
            fstab.write_text(f"none {mounted.path} fuse.dbxfs {generic},{own} 0 0\n")
            done = namespace.run("mount", "-T", fstab, mounted.path, env=mounted.env)
            assert (done.returncode, done.stderr) == (0, "")
            shown = namespace.run("findmnt", "-n", "-o", "FSTYPE,OPTIONS", mounted.path).stdout
            assert "fuse.dbxfs" in shown
            assert "noatime" in shown
            assert namespace.run("touch", mounted.path / "a").returncode == 0
            pid = int((mounted.state / "lock").read_text())
            assert namespace.run("umount", mounted.path).returncode == 0
            eventually(lambda: not Path(f"/proc/{pid}").exists(), 10, "the daemon's end")

            fstab.write_text(f"none {mounted.path} fuse.dbxfs {generic},nonsense 0 0\n")
            done = namespace.run("mount", "-T", fstab, mounted.path, env=mounted.env)
            assert done.returncode != 0
            assert "nonsense" in done.stderr
        finally:
            namespace.run("umount", "-l", mounted.path)
            server.stop()
            namespace.close()
