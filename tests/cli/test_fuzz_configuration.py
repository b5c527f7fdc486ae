"""Whatever is written into options, sources, credentials and the environment: a value or a reason.

Nothing here reaches a network. In this process the parsers are asked directly, many times; then the
commands themselves, a few times, with what a shell can pass.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dbxfs.api.client import open_client
from dbxfs.api.errors import DropboxError
from dbxfs.api.settings import Settings
from dbxfs.cli.credentials import NoCredentialsError, credentials_file, load_auth
from dbxfs.cli.folders import Folders
from dbxfs.cli.options import (
    VALUED,
    MountOptions,
    UsageError,
    check_account,
    parse_options,
    parse_source,
    split_options,
)
from tests.cli.commands import Home

BASE = MountOptions(mountpoint=Path("/mnt"))

# What a command's argument can be: bytes that are no UTF-8 arrive as surrogates.
arguments = st.binary(max_size=30).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"\1")))
words = st.sampled_from([*VALUED, "demo", "ro", "allow_other", "x-systemd.automount", "="])
values = arguments | st.sampled_from(
    ["10G", "-1", "9" * 5000, "٣", "0o77", "1_000", "http://127.0.0.1:1", "https://[::1", "~/x"]
)
options = st.tuples(words, values).map("=".join) | words | arguments


@settings(max_examples=500, deadline=None)
@given(st.lists(options, max_size=5), st.booleans())
@example(["cache_size=" + "9" * 5000], False)
@example(["uid=" + "9" * 5000], False)
def test_options_give_a_mount_or_a_reason(given_options: list[str], sloppy: bool) -> None:
    try:
        parsed = parse_options(BASE, split_options(given_options), sloppy=sloppy)
    except UsageError as error:
        reason = str(error)
        assert reason
        return
    assert 0 <= parsed.cache_size <= 1 << 60
    assert 0 <= parsed.uid < 2**32
    assert 0 <= parsed.fmask <= 0o777
    assert parsed.state_dir is None or parsed.state_dir.is_absolute()


@settings(max_examples=500, deadline=None)
@given(arguments | arguments.map("dbxfs:".__add__))
def test_a_source_is_an_account_and_a_folder_or_a_reason(source: str) -> None:
    try:
        account, folder = parse_source(source)
    except UsageError as error:
        reason = str(error)
        assert reason
        return
    assert check_account(account) == account
    assert "/" not in account
    assert folder == "" or folder.startswith("/")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
fields = st.sampled_from(["refresh_token", "app_key", "app_secret", "token_url", "account_id"])
tokens = st.text(max_size=12) | st.sampled_from(
    ["http://127.0.0.1:1/oauth2/token", "http://example.org/", "https://", "file:///etc/passwd"]
)
credentials = (
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(fields, tokens | json_values, min_size=2).map(
        lambda value: json.dumps(value).encode()
    )
)


def use(auth: httpx.Auth) -> None:
    """Make a call with it; every host answers nonsense."""

    async def call() -> None:
        nonsense = httpx.MockTransport(lambda request: httpx.Response(200, json={"a": 1}))
        settings = Settings.for_url("http://127.0.0.1:1", auth)
        async with open_client(settings, transport=nonsense) as client:
            with pytest.raises(DropboxError):
                await client.account(patience=0)

    trio.run(call)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(credentials)
@example(b"[" * 200_000)
@example(b'{"refresh_token": "a", "app_key": "' + b"9" * 5000 + b'"}')
@example(b'{"refresh_token": "a", "app_key": ' + b"9" * 5000 + b"}")
@example(b'{"refresh_token": "a\\nb", "app_key": "b"}')
@example(b'{"refresh_token": "a", "app_key": "b", "token_url": "ftp://x"}')
@example(b'{"refresh_token": "a", "app_key": "b", "token_url": ["x"]}')
@example(b'{"refresh_token": "a", "app_key": "b", "token_url": "http://example.org/token"}')
@example(b'{"refresh_token": "\\ud800", "app_key": "b"}')
def test_a_credentials_file_signs_in_or_is_refused_by_name(own_home: Home, stored: bytes) -> None:
    path = credentials_file("default")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stored)
    try:
        auth = load_auth("default", "https://127.0.0.1:1/oauth2/token")
    except NoCredentialsError as error:
        reason = str(error)
        assert str(path) in reason
        return
    use(auth)


names = st.sampled_from(
    ["DBXFS_ACCESS_TOKEN", "DBXFS_REFRESH_TOKEN", "DBXFS_APP_KEY", "DBXFS_APP_SECRET"]
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(names, arguments))
def test_tokens_of_the_environment_sign_in_or_are_refused(
    own_home: Home, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        try:
            auth = load_auth("default", "https://127.0.0.1:1/oauth2/token")
        except (NoCredentialsError, ValueError) as error:
            # What the command says in a line; never the token itself.
            reason = str(error)
            assert not any(len(value) > 8 and value in reason for value in environment.values())
            return
        use(auth)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["STATE", "CACHE", "CONFIG"]), arguments)
def test_folders_of_the_environment_are_used_or_refused(
    own_home: Home, monkeypatch: pytest.MonkeyPatch, kind: str, value: str
) -> None:
    with monkeypatch.context() as patched:
        # Below the test's own folder: what the environment names is made.
        patched.setenv(f"XDG_{kind}_HOME", f"{own_home.path}/{value}")
        patched.chdir(own_home.path)
        try:
            folders = Folders.of(BASE)
        except (OSError, ValueError) as error:
            reason = str(error)
            assert reason
            return
        assert folders.state.is_dir()


SPOILED: list[Mapping[str, str]] = [
    {"DBXFS_ACCESS_TOKEN": "line\nbreak"},
    {"DBXFS_ACCESS_TOKEN": os.fsdecode(b"\xff\xfe")},
    {"DBXFS_REFRESH_TOKEN": "alone"},
    {"SSL_CERT_FILE": "/nowhere", "DBXFS_ACCESS_TOKEN": "t"},
    {"XDG_STATE_HOME": "/proc", "DBXFS_ACCESS_TOKEN": "t"},
    {"XDG_CACHE_HOME": "/dev/null", "DBXFS_ACCESS_TOKEN": "t"},
    {"XDG_CONFIG_HOME": "/dev/null"},
    {"HOME": "/nonexistent/home"},
    {"TMPDIR": "/nowhere", "LC_ALL": "C", "DBXFS_REFRESH_TOKEN": "é", "DBXFS_APP_KEY": "ü"},
]


@pytest.mark.parametrize("environment", SPOILED, ids=lambda environment: next(iter(environment)))
def test_a_spoiled_environment_is_told_in_a_line(
    home: Home, environment: Mapping[str, str]
) -> None:
    mountpoint = home.path / "mnt"
    mountpoint.mkdir()
    ran = home.run("mount.dbxfs", mountpoint, "-o", "api_url=https://127.0.0.1:9", env=environment)
    assert ran.code == 32
    assert ran.err.startswith("mount.dbxfs: ")
    assert len(ran.err.strip().splitlines()) == 1


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(options, min_size=1, max_size=3), arguments)
def test_the_command_ends_with_a_line_whatever_it_is_given(
    home: Home, given_options: list[str], source: str
) -> None:
    said = ",".join(given_options)[:2000]
    ran = home.run("mount.dbxfs", "--", source, home.path / "missing", "-o", said)
    assert ran.code in (1, 32)
    assert ran.err


def test_a_stored_address_of_another_machine_over_plain_http_gets_no_token(own_home: Home) -> None:
    path = credentials_file("default")
    path.parent.mkdir(parents=True)
    stored = {"refresh_token": "a", "app_key": "b", "token_url": "http://example.org/token"}
    path.write_text(json.dumps(stored))
    with pytest.raises(NoCredentialsError):
        load_auth("default", "https://127.0.0.1:1/oauth2/token")
