"""Who we are to Dropbox: from the environment, or from the file that `dbxfs login` wrote.

The file is 0600 and holds the refresh token and the app's key; access tokens live only in memory.
A token never appears in an argument, a log or an error.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx

from dbxfs.api.auth import RefreshingToken, StaticToken
from dbxfs.api.settings import check_url

from .folders import config_dir, private


class NoCredentialsError(Exception):
    """There is no way to sign in; `str()` says how to get one."""


def credentials_file(account: str) -> Path:
    """Where an account's credentials are."""
    return config_dir() / "accounts" / f"{account}.json"


def load_auth(account: str, token_url: str) -> httpx.Auth:
    """The account's authorisation; raises `NoCredentialsError`."""
    token = os.environ.get("DBXFS_ACCESS_TOKEN")
    if token:
        return StaticToken(token)
    refresh, key = os.environ.get("DBXFS_REFRESH_TOKEN"), os.environ.get("DBXFS_APP_KEY")
    if refresh and not key:
        raise NoCredentialsError("DBXFS_REFRESH_TOKEN needs DBXFS_APP_KEY beside it")
    if refresh and key:
        secret = os.environ.get("DBXFS_APP_SECRET") or None
        return RefreshingToken(refresh, key, secret, token_url=token_url)
    path = credentials_file(account)
    try:
        stored = json.loads(path.read_text())
        return RefreshingToken(
            stored["refresh_token"],
            stored["app_key"],
            stored.get("app_secret"),
            token_url=check_url(stored.get("token_url") or token_url),
        )
    except FileNotFoundError:
        command = "dbxfs login" if account == "default" else f"dbxfs login {account}"
        raise NoCredentialsError(
            f"no account {account!r} is signed in; run `{command}`, or set DBXFS_ACCESS_TOKEN"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NoCredentialsError(
            f"{path} cannot be used ({type(error).__name__}); run `dbxfs login` again"
        ) from None


def store(
    account: str, *, refresh_token: str, app_key: str, token_url: str, account_id: str
) -> Path:
    """Write an account's credentials, never readable for others; gives the file."""
    path = credentials_file(account)
    private(config_dir())
    private(path.parent)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)  # an umask can only take away, but that it may have done
        json.dump(
            {
                "refresh_token": refresh_token,
                "app_key": app_key,
                "token_url": token_url,
                "account_id": account_id,
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return path
