"""Commands that wait for Dropbox while it is away, and are given up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbxfs.cli.socket import address_of
from tests.cli.commands import BIN, Home
from tests.embedded import embedded_dropbox

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here"
    ),
]


@contextlib.contextmanager
def connected(home: Home) -> Iterator[socket.socket]:
    """A connection to the daemon's control socket, as the commands make it."""
    with (
        socket.socket(socket.AF_UNIX) as connection,
        address_of(home.state / "default" / "socket") as address,
    ):
        connection.connect(address)
        yield connection


def test_a_sync_that_is_given_up_does_not_end_the_daemon(home: Home, tmp_path: Path) -> None:
    mnt = home.path / "mnt"
    mnt.mkdir()
    with embedded_dropbox(tmp_path / "account") as server:
        token = {"DBXFS_ACCESS_TOKEN": server.token}
        mounted = home.run("mount.dbxfs", mnt, "-o", f"api_url={server.url}", env=token)
        assert mounted.code == 0, mounted.err
        try:
            assert home.run("dbxfs", "sync", mnt).code == 0
            server.faults([{"route": "*", "kind": "stall"}])
            (mnt / "waits").write_text("for Dropbox")
            with connected(home) as connection:
                connection.sendall(b'{"command": "sync"}\n')
                assert json.loads(connection.makefile().readline())["pending"] == 1
            # Gone. The daemon notices at the latest when it has told its progress twice more.
            with connected(home) as connection:
                connection.sendall(b'{"command": "sync"}\n')
                replies = connection.makefile()
                for _ in range(4):
                    assert json.loads(replies.readline())["pending"] == 1
            server.faults()
            assert (mnt / "waits").read_text() == "for Dropbox"
        finally:
            server.faults()
            gone = home.run("umount.dbxfs", "--now", mnt)
        assert gone.code == 0, gone.err


def test_an_unmount_that_waits_says_why_and_ctrl_c_unmounts_at_once(
    home: Home, tmp_path: Path
) -> None:
    mnt = home.path / "mnt"
    mnt.mkdir()
    with embedded_dropbox(tmp_path / "account") as server:
        token = {"DBXFS_ACCESS_TOKEN": server.token}
        options = ("-o", f"api_url={server.url}")
        assert home.run("mount.dbxfs", mnt, *options, env=token).code == 0
        try:
            assert home.run("dbxfs", "sync", mnt).code == 0
            server.stop()
            (mnt / "waits").write_text("for Dropbox")
            with subprocess.Popen(
                [BIN / "umount.dbxfs", mnt],
                env=home.environment,
                stderr=subprocess.PIPE,
                text=True,
            ) as waiting:
                assert waiting.stderr
                said = waiting.stderr.readline()
                assert "1 change left (offline: " in said
                waiting.send_signal(signal.SIGINT)
                assert "the rest is sent at the next mount" in waiting.stderr.read()
            assert waiting.returncode == 0
            server.start()
            assert home.run("mount.dbxfs", mnt, *options, env=token).code == 0
            assert home.run("dbxfs", "sync", mnt).code == 0
            assert server.content("/waits") == b"for Dropbox"
        finally:
            home.run("umount.dbxfs", "--now", mnt)
