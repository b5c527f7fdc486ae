"""Logging in: the OAuth 2 code flow with PKCE (RFC 7636), as Dropbox does it.

A program that is handed to users can keep no secret, so the proof that the code comes back to
whom it was meant for is made up each time: `begin` invents a verifier and shows only its hash in
the address that the user opens; `exchange` hands in the verifier together with the code. What
comes back is a refresh token, good until it is revoked (`token_access_type=offline`).

No scopes are asked for: Dropbox then grants all that the app is registered with.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx

from dbxfs.api.auth import TOKEN_URL, checked, granted
from dbxfs.api.errors import UnexpectedReply, Unreachable
from dbxfs.api.settings import check_url

WWW_URL = "https://www.dropbox.com"

_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login brought. `expires_in`: seconds that the access token is good for."""

    refresh_token: str = field(repr=False)
    account_id: str
    access_token: str = field(repr=False)
    expires_in: float | None = None
    scope: str = ""


def begin(
    app_key: str, www_url: str = WWW_URL, *, redirect_uri: str | None = None
) -> tuple[str, str]:
    """The address for the user to open, and the verifier to keep for `exchange`.

    Without `redirect_uri` Dropbox shows a code to paste. ValueError for an unusable key or URL.
    """
    verifier = secrets.token_urlsafe(64)
    query = {
        "client_id": checked("app key", app_key),
        "response_type": "code",
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
        "token_access_type": "offline",
    }
    if redirect_uri is not None:
        query["redirect_uri"] = redirect_uri
    return f"{check_url(www_url)}/oauth2/authorize?{urlencode(query)}", verifier


def challenge(verifier: str) -> str:
    """The S256 code challenge of a verifier (RFC 7636, 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def exchange(
    code: str,
    verifier: str,
    app_key: str,
    *,
    app_secret: str | None = None,
    redirect_uri: str | None = None,
    token_url: str = TOKEN_URL,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Credentials:
    """Hand in the code that the user pasted (or that came back by redirect).

    Raises Unauthorized ("invalid_grant": mistyped or too old), Unreachable, or another
    DropboxError; ValueError for an unusable key or URL.
    """
    check_url(token_url)
    form = {
        "grant_type": "authorization_code",
        "code": code.strip(),
        "code_verifier": verifier,
        "client_id": checked("app key", app_key),
    }
    if app_secret is not None:
        form["client_secret"] = checked("app secret", app_secret)
    if redirect_uri is not None:
        form["redirect_uri"] = redirect_uri
    local = token_url.startswith("http://")
    async with httpx.AsyncClient(
        transport=transport, timeout=_TIMEOUT, trust_env=not local
    ) as http:
        try:
            response = await http.post(token_url, data=form)
        except httpx.TransportError as error:
            raise Unreachable(type(error).__name__, doubt=False) from error
        except httpx.DecodingError as error:
            raise UnexpectedReply("oauth2/token sent a broken body", doubt=False) from error
    token = granted(response.status_code, response.headers, response.content)
    if token.refresh_token is None or token.account_id is None:
        raise UnexpectedReply("oauth2/token sent no refresh token", doubt=False)
    return Credentials(
        refresh_token=token.refresh_token,
        account_id=token.account_id,
        access_token=token.access_token,
        expires_in=token.expires_in,
        scope=token.scope or "",
    )
