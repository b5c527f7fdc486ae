"""`dbxfs login` from the address it prints to a client that works, against the embedded OAuth."""

from __future__ import annotations

import html
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from dbxfs.api.client import open_client
from dbxfs.api.settings import Settings
from dbxfs.cli.credentials import credentials_file, load_auth
from tests.embedded import Embedded, embedded_dropbox

DEADLINE = 30


def allow(address: str) -> str:
    """What a person does in the browser: open the address, press "allow"; gives the code."""
    page = httpx.get(address)
    assert page.status_code == 200
    action = re.search(r'action="([^"]*)"', page.text)
    assert action
    answer = httpx.post(
        httpx.URL(address).join(html.unescape(action[1])), data={"decision": "allow"}
    )
    code = re.search(r'id="code"[^>]*value="([^"]+)"', answer.text)
    assert code, answer.text
    return code[1]


def start_login(server: Embedded, config: Path) -> tuple[subprocess.Popen[str], str]:
    """The command waiting for a code, and the address that it printed."""
    environment = dict(os.environ, DBXFS_API_URL=server.url, XDG_CONFIG_HOME=str(config))
    command = [sys.executable, "-m", "dbxfs.cli.main", "login", "--app-key", server.app_key]
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        address = re.search(r"http\S+/oauth2/authorize\S+", line)
        if address:
            return process, address[0]
    raise AssertionError("no address was printed")


async def test_login_leaves_private_credentials_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    with embedded_dropbox(tmp_path / "account") as server:
        process, address = start_login(server, config)
        printed, errors = process.communicate(allow(address) + "\n", timeout=DEADLINE)
        assert process.returncode == 0, errors
        monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
        monkeypatch.delenv("DBXFS_ACCESS_TOKEN", raising=False)
        stored = credentials_file("default")
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert stat.S_IMODE(stored.parent.stat().st_mode) == 0o700
        auth = load_auth("default", f"{server.url}/oauth2/token")
        async with open_client(Settings.for_url(server.url, auth)) as client:
            assert (await client.account()).account_id.startswith("dbid:")
    assert "refresh_token" not in printed + errors


def test_login_with_a_wrong_code_says_so_and_stores_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config"
    with embedded_dropbox(tmp_path / "account") as server:
        process, _ = start_login(server, config)
        _, errors = process.communicate("not-the-code\n", timeout=DEADLINE)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "dbxfs:" in errors
    assert not list(config.rglob("*.json"))
