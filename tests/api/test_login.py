"""Logging in: what the user is sent to open, and what the code brings."""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from dbxfs.api import login
from dbxfs.api.errors import (
    DropboxError,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from tests.api.peer import URL, Peer, reply

GRANT = {
    "access_token": "sl.hush",
    "refresh_token": "hush2",
    "account_id": "dbid:A",
    "expires_in": 14400,
    "token_type": "bearer",
    "uid": "1",
    "scope": "account_info.read",
}


def test_the_address_asks_for_a_lasting_login_with_a_proof() -> None:
    url, verifier = login.begin("key1")
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == (
        "https",
        "www.dropbox.com",
        "/oauth2/authorize",
    )
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    digest = hashlib.sha256(verifier.encode()).digest()
    assert query == {
        "client_id": "key1",
        "response_type": "code",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "code_challenge_method": "S256",
        "token_access_type": "offline",
    }
    assert 43 <= len(verifier) <= 128
    assert verifier not in url


def test_the_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    assert login.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_each_login_has_its_own_verifier() -> None:
    assert login.begin("k")[1] != login.begin("k")[1]


def test_a_redirect_and_another_host_may_be_named() -> None:
    url, _ = login.begin("k", "http://127.0.0.1:5/", redirect_uri="http://localhost:8/x")
    assert url.startswith("http://127.0.0.1:5/oauth2/authorize?")
    assert parse_qs(urlsplit(url).query)["redirect_uri"] == ["http://localhost:8/x"]


def test_an_unusable_key_is_refused() -> None:
    with pytest.raises(ValueError, match="app key"):
        login.begin("")


async def exchange(peer: Peer, **more: Any) -> login.Credentials:
    return await login.exchange(
        " code-1\n", "verifier-1", "key1", token_url=f"{URL}/oauth2/token", transport=peer, **more
    )


async def test_the_code_becomes_credentials() -> None:
    peer = Peer([reply(200, GRANT)])
    credentials = await exchange(peer, redirect_uri="http://localhost:8/x")
    assert credentials == login.Credentials(
        refresh_token="hush2",
        account_id="dbid:A",
        access_token="sl.hush",
        expires_in=14400,
        scope="account_info.read",
    )
    assert parse_qs(peer.bodies[0].decode()) == {
        "grant_type": ["authorization_code"],
        "code": ["code-1"],
        "code_verifier": ["verifier-1"],
        "client_id": ["key1"],
        "redirect_uri": ["http://localhost:8/x"],
    }


async def test_credentials_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        credentials = await exchange(Peer([reply(200, GRANT)]))
    assert "hush" not in repr(credentials)
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            reply(400, {"error": "invalid_grant", "error_description": "code has expired"}),
            Unauthorized,
        ),
        (reply(200, {"access_token": "a"}), UnexpectedReply),
        (reply(200, {**GRANT, "refresh_token": "a b"}), UnexpectedReply),
        (reply(200, "hello"), UnexpectedReply),
        (reply(503), ServerTrouble),
        (reply(429), RateLimited),
        (httpx.ConnectError("no"), Unreachable),
        (httpx.DecodingError("no"), UnexpectedReply),
    ],
)
async def test_what_goes_wrong_is_said(answer: Any, kind: type[DropboxError]) -> None:
    with pytest.raises(kind):
        await exchange(Peer([answer]))


async def test_plain_http_to_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="https"):
        await login.exchange("c", "v", "k", token_url="http://example.com/oauth2/token")
