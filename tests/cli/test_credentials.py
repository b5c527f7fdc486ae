"""Signing in: where credentials come from, and that nobody else can read them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator

import pytest

from dbxfs.api.auth import TOKEN_URL, RefreshingToken, StaticToken
from dbxfs.cli import credentials
from dbxfs.cli.credentials import NoCredentialsError, credentials_file, load_auth
from tests.cli.commands import Home

SECRET = "hush-hush-hush"


@pytest.fixture(params=[0, 0o022, 0o777])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def store(account: str = "default") -> None:
    credentials.store(
        account,
        refresh_token=SECRET,
        app_key="key",
        token_url=TOKEN_URL,
        account_id="dbid:A",
    )


@pytest.mark.usefixtures("any_umask")
def test_stored_credentials_are_for_their_owner_alone(own_home: Home) -> None:
    store()
    file = credentials_file("default")
    assert file == own_home.config / "accounts" / "default.json"
    assert [
        stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, file.parent.parent)
    ] == [0o600, 0o700, 0o700]
    assert sorted(file.parent.iterdir()) == [file]


def test_signing_in_again_replaces_even_what_is_open_to_others(own_home: Home) -> None:
    store()
    file = credentials_file("default")
    file.chmod(0o644)
    file.with_suffix(".new").write_text("left by a crash")
    store()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["refresh_token"] == SECRET


def test_each_account_has_its_own(own_home: Home) -> None:
    store("work")
    assert isinstance(load_auth("work", TOKEN_URL), RefreshingToken)
    with pytest.raises(NoCredentialsError):
        load_auth("default", TOKEN_URL)


def test_the_environments_token_goes_before_all(
    own_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    store()
    monkeypatch.setenv("DBXFS_ACCESS_TOKEN", SECRET)
    assert isinstance(load_auth("default", TOKEN_URL), StaticToken)


def test_a_refresh_token_in_the_environment_is_enough(
    own_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBXFS_REFRESH_TOKEN", SECRET)
    with pytest.raises(NoCredentialsError, match="DBXFS_APP_KEY"):
        load_auth("default", TOKEN_URL)
    monkeypatch.setenv("DBXFS_APP_KEY", "key")
    auth = load_auth("default", TOKEN_URL)
    assert isinstance(auth, RefreshingToken)
    assert SECRET not in repr(auth)


@pytest.mark.parametrize(
    ("account", "command"), [("default", "`dbxfs login`"), ("work", "`dbxfs login work`")]
)
def test_without_credentials_the_way_to_get_them_is_named(
    own_home: Home, account: str, command: str
) -> None:
    with pytest.raises(NoCredentialsError) as caught:
        load_auth(account, TOKEN_URL)
    assert command in str(caught.value)
    assert "DBXFS_ACCESS_TOKEN" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"refresh_token": "hush-hush-hush"}',
        '{"refresh_token": 7, "app_key": "key"}',
        '{"refresh_token": "hush-hush-hush ", "app_key": "key"}',
    ],
)
def test_an_unusable_file_is_named_but_not_shown(own_home: Home, text: str) -> None:
    file = credentials_file("default")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(NoCredentialsError) as caught:
        load_auth("default", TOKEN_URL)
    assert str(file) in str(caught.value)
    assert SECRET not in str(caught.value)
