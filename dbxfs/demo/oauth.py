"""OAuth 2 of the embedded Dropbox: the page that asks, codes, refresh and access tokens.

There is one app and one user who is always signed in, so the page only asks "allow?". The code
flow is the whole of it: PKCE (S256 or plain) or the app's secret, with or without a redirect,
`token_access_type=offline` for a refresh token, scopes that can be narrowed. Access tokens last
four hours; expired ones are told apart from those that never were (401, expired_access_token).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from html import escape
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from dbxfs.demo.account import ACCOUNT_ID, Account
from dbxfs.demo.wire import RefusedError, bad_call, unauthorized

APP_KEY = "dbxfsdemo0appky"
APP_SECRET = "dbxfsdemosecret"  # noqa: S105 — known to everybody, like the account
TOKEN_LIFETIME = 4 * 3600
CODE_LIFETIME = 10 * 60
FOR_EVER = 1 << 53

SCOPES = (
    "account_info.read account_info.write files.metadata.read files.metadata.write"
    " files.content.read files.content.write sharing.read sharing.write"
    " file_requests.read file_requests.write contacts.read contacts.write"
)


Form = dict[str, str]


async def _form(request: Request) -> Form:
    """The fields of a urlencoded body."""
    return dict(parse_qsl((await request.body()).decode("ascii", "replace")))


class Token(NamedTuple):
    """An access token that is good now."""

    token: str
    scopes: frozenset[str]
    refresh: str


def new_refresh_token(account: Account, scope: str, *, pkce: bool) -> str:
    """A refresh token; with `pkce`, no secret is asked for when it is used."""
    token = secrets.token_urlsafe(48)
    account.db.execute("INSERT INTO refresh_tokens VALUES (?, ?, ?)", (token, scope, int(pkce)))
    return token


def new_access_token(account: Account, scope: str, refresh: str, lifetime: int | None) -> str:
    """An access token; `lifetime` in seconds, None for one that does not expire by itself."""
    token = "sl.u." + secrets.token_urlsafe(64)
    expires = FOR_EVER if lifetime is None else int(account.now()) + lifetime
    account.db.execute(
        "INSERT INTO access_tokens VALUES (?, ?, ?, ?)", (token, scope, refresh, expires)
    )
    return token


def demo_tokens(account: Account) -> tuple[str, str]:
    """An access token that lasts and a refresh token for whoever starts the server."""
    row = account.db.execute(
        "SELECT a.token, r.token FROM access_tokens a JOIN refresh_tokens r ON r.token = a.refresh"
        " WHERE a.expires = ?",
        (FOR_EVER,),
    ).fetchone()
    if row:
        return row[0], row[1]
    refresh = new_refresh_token(account, SCOPES, pkce=True)
    return new_access_token(account, SCOPES, refresh, None), refresh


def check_token(account: Account, token: str) -> Token:
    """The token's rights. Raises 401."""
    row = account.db.execute(
        "SELECT scope, refresh, expires FROM access_tokens WHERE token = ?", (token,)
    ).fetchone()
    if row is None:
        raise unauthorized("invalid_access_token")
    scope, refresh, expires = row
    if expires <= account.now():
        raise unauthorized("expired_access_token")
    return Token(token, frozenset(scope.split()), refresh)


def revoke(account: Account, token: str) -> None:
    """Disables the token, its refresh token, and all that came from that."""
    row = account.db.execute(
        "SELECT refresh FROM access_tokens WHERE token = ?", (token,)
    ).fetchone()
    account.db.execute("DELETE FROM access_tokens WHERE token = ?", (token,))
    if row and row[0]:
        account.db.execute("DELETE FROM access_tokens WHERE refresh = ?", row)
        account.db.execute("DELETE FROM refresh_tokens WHERE token = ?", row)


def expire_all(account: Account) -> None:
    """Ends the life of every access token; refresh tokens stay good."""
    account.db.execute("UPDATE access_tokens SET expires = ?", (int(account.now()) - 1,))


def revoke_all(account: Account) -> None:
    """Disables everything that was handed out."""
    for table in ("access_tokens", "refresh_tokens", "codes"):
        account.db.execute(f"DELETE FROM {table}")  # noqa: S608 — constants


# the page


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><main><h1>{title}</h1>{body}</main></body></html>
"""

ASK = """<p>An app would like to use the demo account: <b>{app}</b></p>
<p>It asks for: {scope}</p>
<form method="post" action="?{query}">
<button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></form>"""

SHOW = """<p>Enter this code into the app to finish:</p>
<p><input id="code" readonly size="50" value="{code}"></p>"""


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(title=escape(title), body=body), status)


def _complaint(query: QueryParams) -> str:
    """What is wrong with a request to authorize, "" if nothing."""
    if query.get("client_id") != APP_KEY:
        return "Invalid client_id: there is no such app."
    if query.get("response_type") != "code":
        return 'Invalid response_type: "code" is expected.'
    if not set(query.get("scope", "").split()) <= set(SCOPES.split()):
        return "Invalid scope: the app was not registered for it."
    if query.get("code_challenge_method", "plain") not in ("S256", "plain"):
        return 'Invalid code_challenge_method: "S256" or "plain" is expected.'
    redirect = query.get("redirect_uri", "")
    if redirect and urlsplit(redirect).hostname not in ("localhost", "127.0.0.1"):
        return "Invalid redirect_uri: it is not registered for this app."
    return ""


async def authorize(account: Account, request: Request) -> Response:
    """GET asks; POST with decision=allow shows the code or sends it to the redirect."""
    query = request.query_params
    complaint = _complaint(query)
    if complaint:
        return _page("Error (400)", f"<p>{escape(complaint)}</p>", 400)
    scope = query.get("scope") or SCOPES
    if request.method == "GET":
        body = ASK.format(app=APP_KEY, scope=escape(scope), query=escape(urlencode(query)))
        return _page("Allow access?", body)
    form = await _form(request)
    redirect = query.get("redirect_uri", "")
    answer = {"state": query["state"]} if "state" in query else {}
    if form.get("decision") != "allow":
        if not redirect:
            return _page("Denied", "<p>The app did not get access.</p>")
        return RedirectResponse(_with(redirect, {"error": "access_denied", **answer}), 302)
    code = _new_code(account, query, scope)
    if not redirect:
        return _page("Allowed", SHOW.format(code=code))
    return RedirectResponse(_with(redirect, {"code": code, **answer}), 302)


def _with(redirect: str, answer: dict[str, str]) -> str:
    return f"{redirect}{'&' if '?' in redirect else '?'}{urlencode(answer)}"


def _new_code(account: Account, query: QueryParams, scope: str) -> str:
    code = secrets.token_urlsafe(32)
    account.db.execute(
        "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            code,
            query.get("redirect_uri", ""),
            query.get("code_challenge", ""),
            query.get("code_challenge_method", "plain"),
            int(query.get("token_access_type") == "offline"),
            scope,
            int(account.now()) + CODE_LIFETIME,
        ),
    )
    return code


# the token endpoint


def _refuse(error: str, description: str) -> RefusedError:
    return RefusedError(400, {"error": error, "error_description": description})


async def token(account: Account, request: Request) -> Response:
    """POST /oauth2/token: authorization_code or refresh_token. Raises RefusedError."""
    form = await _form(request)
    has_secret = _check_client(request, form)
    grant = form.get("grant_type")
    if grant == "authorization_code":
        return _redeem(account, form, has_secret=has_secret)
    if grant == "refresh_token":
        return _refresh(account, form, has_secret=has_secret)
    raise _refuse("unsupported_grant_type", "grant_type must be authorization_code, refresh_token")


def _check_client(request: Request, form: Form) -> bool:
    """Whether the app proved itself by its secret. Raises RefusedError for a wrong one."""
    key, secret = form.get("client_id"), form.get("client_secret")
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            key, _, secret = base64.b64decode(value).decode().partition(":")
        except ValueError:
            raise _refuse("invalid_client", "malformed basic authorization") from None
    if key != APP_KEY:
        raise _refuse("invalid_client: Invalid client_id or client_secret", "no such app")
    if secret and secret != APP_SECRET:
        raise _refuse("invalid_client: Invalid client_id or client_secret", "wrong secret")
    return bool(secret)


def _redeem(account: Account, form: Form, *, has_secret: bool) -> Response:
    code = str(form.get("code", ""))
    row = account.db.execute(
        "SELECT redirect, challenge, method, offline, scope, expires FROM codes WHERE code = ?",
        (code,),
    ).fetchone()
    account.db.execute("DELETE FROM codes WHERE code = ?", (code,))
    if row is None:
        raise _refuse("invalid_grant", "code doesn't exist or has been used")
    redirect, challenge, method, offline, scope, expires = row
    if expires <= account.now():
        raise _refuse("invalid_grant", "code has expired (within the last hour)")
    if redirect != str(form.get("redirect_uri", "")):
        raise _refuse("invalid_grant", "redirect_uri mismatch")
    if challenge:
        if not _verifies(str(form.get("code_verifier", "")), challenge, method):
            raise _refuse("invalid_grant", "invalid code verifier")
    elif not has_secret:
        raise _refuse("invalid_client", "client_secret or code_verifier is required")
    refresh = new_refresh_token(account, scope, pkce=bool(challenge)) if offline else ""
    answer = {
        "access_token": new_access_token(account, scope, refresh, TOKEN_LIFETIME),
        "token_type": "bearer",
        "expires_in": TOKEN_LIFETIME,
        "scope": scope,
        "uid": "1000",
        "account_id": ACCOUNT_ID,
    }
    return JSONResponse(answer | ({"refresh_token": refresh} if offline else {}))


def _verifies(verifier: str, challenge: str, method: str) -> bool:
    if method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return hmac.compare_digest(verifier.encode(), challenge.encode())


def _refresh(account: Account, form: Form, *, has_secret: bool) -> Response:
    refresh = str(form.get("refresh_token", ""))
    row = account.db.execute(
        "SELECT scope, pkce FROM refresh_tokens WHERE token = ?", (refresh,)
    ).fetchone()
    if row is None:
        raise _refuse("invalid_grant", "refresh token is invalid or revoked")
    scope, pkce = row
    if not pkce and not has_secret:
        raise _refuse("invalid_client", "client_secret is required for this refresh token")
    wanted = str(form.get("scope", "")) or scope
    if not set(wanted.split()) <= set(scope.split()):
        raise _refuse("invalid_scope", "the refresh token was not granted this scope")
    answer = {
        "access_token": new_access_token(account, wanted, refresh, TOKEN_LIFETIME),
        "token_type": "bearer",
        "expires_in": TOKEN_LIFETIME,
    }
    return JSONResponse(answer | ({"scope": wanted} if wanted != scope else {}))


def check_app(name: str, kind: str, value: str) -> None:
    """Whether an Authorization header is the app's own. Raises 400, 401."""
    try:
        given = base64.b64decode(value, validate=True).decode()
    except ValueError:
        given = ""
    if kind.lower() != "basic" or ":" not in given:
        raise bad_call(name, 'Invalid authorization value in HTTP header "Authorization".')
    if given != f"{APP_KEY}:{APP_SECRET}":
        raise unauthorized("invalid_access_token")
