"""A command that is interrupted while it waits is nobody's trouble but its own."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tests.cli.commands import Home
from tests.embedded import embedded_dropbox

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here"
    ),
]


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
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(home.state / "default" / "socket"))
                connection.sendall(b'{"command": "sync"}\n')
                assert json.loads(connection.makefile().readline())["pending"] == 1
            # Gone. The daemon notices at the latest when it has told its progress twice more.
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(home.state / "default" / "socket"))
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
