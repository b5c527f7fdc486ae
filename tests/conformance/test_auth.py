"""Tokens and the OAuth flow: who is let in, and how a program comes by its token.

The page at /oauth2/authorize is for people; on the real service it needs a signed-in browser, so
the flow itself is tried on the embedded server only.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from dropbox import Dropbox, DropboxOAuth2Flow, DropboxOAuth2FlowNoRedirect, auth
from dropbox.exceptions import AuthError
from dropbox.oauth import NotApprovedException

from tests.conformance.place import Place
from tests.conformance.service import TIMEOUT, Service

REDIRECT = "http://localhost:53682/"


def _rejected(call: Any) -> auth.AuthError:
    with pytest.raises(AuthError) as caught:
        call()
    return caught.value.error


# tokens


def test_a_wrong_token_is_invalid(service: Service) -> None:
    wrong = service.client("sl.not-a-token")
    assert _rejected(wrong.users_get_current_account).is_invalid_access_token()
    assert _rejected(lambda: wrong.files_upload(b"", "/x")).is_invalid_access_token()
    assert _rejected(lambda: wrong.files_download("/x")).is_invalid_access_token()


@pytest.mark.parametrize("authorization", [None, "Bearer", "Basic eDp5", "nonsense"])
def test_a_call_without_a_token_is_refused(service: Service, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = service.rpc("files/list_folder", {"path": ""}, auth=False, headers=headers)
    assert reply.status_code in {400, 401}
    assert reply.text


def test_an_expired_token_is_told_apart(private: Place) -> None:
    private.server.control("expire_tokens", {})
    assert _rejected(private.dbx.users_get_current_account).is_expired_access_token()


def test_the_sdk_refreshes_an_expired_token_by_itself(private: Place) -> None:
    server = private.server
    dbx = private.service.client(oauth2_refresh_token=server.refresh_token, app_key=server.app_key)
    first = dbx.users_get_current_account()
    server.control("expire_tokens", {})
    assert dbx.users_get_current_account() == first


def test_a_revoked_token_is_invalid_and_so_is_its_refresh_token(private: Place) -> None:
    server = private.server
    dbx = private.service.client(oauth2_refresh_token=server.refresh_token, app_key=server.app_key)
    dbx.check_user("x")
    other = private.service.client(
        oauth2_refresh_token=server.refresh_token, app_key=server.app_key
    )
    other.check_user("x")
    dbx.auth_token_revoke()
    assert _rejected(dbx.refresh_access_token).is_invalid_access_token()
    assert _rejected(lambda: other.check_user("x")).is_invalid_access_token()


def test_all_tokens_can_be_revoked(private: Place) -> None:
    private.server.control("revoke_tokens", {})
    assert _rejected(lambda: private.dbx.check_user("x")).is_invalid_access_token()


SCOPES = {
    "account_info.read": lambda dbx: dbx.users_get_space_usage(),
    "files.metadata.read": lambda dbx: dbx.files_list_folder(""),
    "files.metadata.write": lambda dbx: dbx.file_properties_properties_remove("/x", []),
    "files.content.read": lambda dbx: dbx.files_download("/x"),
    "files.content.write": lambda dbx: dbx.files_upload(b"", "/x"),
    "sharing.read": lambda dbx: dbx.sharing_list_shared_links(),
    "sharing.write": lambda dbx: dbx.sharing_revoke_shared_link("https://x"),
}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.embedded
def test_a_route_outside_the_tokens_scope_says_which_it_needs(service: Service, scope: str) -> None:
    other = "account_info.read" if scope != "account_info.read" else "files.metadata.read"
    token = _granted(service, scope=[other]).access_token
    error = _rejected(lambda: SCOPES[scope](service.client(token)))
    assert error.is_missing_scope()
    assert error.get_missing_scope().required_scope == scope


# the flow


def _flow(service: Service, **options: Any) -> DropboxOAuth2FlowNoRedirect:
    assert service.server is not None
    options = {"use_pkce": True, "token_access_type": "offline"} | options
    flow = DropboxOAuth2FlowNoRedirect(service.server.app_key, timeout=TIMEOUT, **options)
    flow.requests_session = service.http
    return flow


def _decided(service: Service, address: str, decision: str = "allow") -> requests.Response:
    """What the browser gets when the user reads the page and presses a button."""
    page = service.http.get(address, timeout=TIMEOUT)
    assert page.status_code == 200, page.text
    assert page.headers["Content-Type"].startswith("text/html")
    assert f'value="{decision}"' in page.text
    return service.http.post(
        address, data={"decision": decision}, allow_redirects=False, timeout=TIMEOUT
    )


def _code(page: requests.Response) -> str:
    found = re.search(r'<input id="code"[^>]* value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def _granted(service: Service, **options: Any) -> Any:
    flow = _flow(service, **options)
    return flow.finish(_code(_decided(service, flow.start())))


@pytest.mark.embedded
def test_a_pasted_code_gives_a_token_and_a_refresh_token(service: Service) -> None:
    result = _granted(service)
    assert result.expires_at is not None
    dbx = service.client(result.access_token)
    assert dbx.users_get_current_account().account_id == result.account_id
    assert service.server is not None
    fresh = service.client(
        oauth2_refresh_token=result.refresh_token, app_key=service.server.app_key
    )
    assert fresh.check_user("x").result == "x"


@pytest.mark.embedded
def test_online_access_comes_without_a_refresh_token(service: Service) -> None:
    result = _granted(service, token_access_type="online")
    assert not result.refresh_token
    assert service.client(result.access_token).check_user("x").result == "x"


@pytest.mark.embedded
def test_a_narrower_scope_is_granted_as_asked(service: Service) -> None:
    result = _granted(service, scope=["files.metadata.read", "account_info.read"])
    assert set(result.scope.split()) == {"files.metadata.read", "account_info.read"}


def _refused(call: Any) -> dict[str, Any]:
    with pytest.raises(requests.HTTPError) as caught:
        call()
    reply = caught.value.response
    assert reply is not None
    assert reply.status_code == 400
    answer: dict[str, Any] = reply.json()
    return answer


@pytest.mark.embedded
def test_a_code_without_its_verifier_is_worth_nothing(service: Service) -> None:
    flow, other = _flow(service), _flow(service)
    code = _code(_decided(service, flow.start()))
    assert _refused(lambda: other.finish(code))["error"] == "invalid_grant"


@pytest.mark.embedded
def test_a_code_is_good_once(service: Service) -> None:
    flow = _flow(service)
    code = _code(_decided(service, flow.start()))
    flow.finish(code)
    assert _refused(lambda: flow.finish(code))["error"] == "invalid_grant"


@pytest.mark.embedded
def test_a_code_that_never_was_is_refused(service: Service) -> None:
    assert _refused(lambda: _flow(service).finish("no-code"))["error"] == "invalid_grant"


def _redirecting(service: Service, session: dict[str, str]) -> DropboxOAuth2Flow:
    assert service.server is not None
    flow = DropboxOAuth2Flow(
        service.server.app_key,
        REDIRECT,
        session,
        "csrf",
        token_access_type="offline",
        use_pkce=True,
        timeout=TIMEOUT,
    )
    flow.requests_session = service.http
    return flow


def _answer(reply: requests.Response) -> dict[str, str]:
    assert reply.status_code in {302, 303}
    assert reply.headers["Location"].startswith(REDIRECT)
    query = parse_qs(urlsplit(reply.headers["Location"]).query)
    return {name: values[0] for name, values in query.items()}


@pytest.mark.embedded
def test_a_redirect_brings_the_code_back_by_itself(service: Service) -> None:
    flow = _redirecting(service, {})
    result = flow.finish(_answer(_decided(service, flow.start("our state"))))
    assert result.url_state == "our state"
    assert service.client(result.access_token).check_user("x").result == "x"
    assert result.refresh_token


@pytest.mark.embedded
def test_a_refusal_by_the_user_comes_back_as_such(service: Service) -> None:
    flow = _redirecting(service, {})
    answer = _answer(_decided(service, flow.start(), "deny"))
    with pytest.raises(NotApprovedException):
        flow.finish(answer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_id", "no-such-app"),
        ("response_type", "cheese"),
        ("redirect_uri", "https://evil.example/"),
        ("scope", "no.such.scope"),
    ],
)
@pytest.mark.embedded
def test_the_page_refuses_a_wrong_request(service: Service, name: str, value: str) -> None:
    address = f"{_flow(service).start()}&{name}={value}"
    if name in {"client_id", "response_type"}:
        address = re.sub(rf"([?&]{name})=[^&]*", rf"\1={value}", _flow(service).start())
    page = service.http.get(address, allow_redirects=False, timeout=TIMEOUT)
    assert page.status_code == 400
    assert 'value="allow"' not in page.text


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "refresh_token", "refresh_token": "none"}, "invalid_grant"),
        ({"grant_type": "cheese"}, "unsupported_grant_type"),
    ],
)
@pytest.mark.embedded
def test_the_token_route_says_what_is_wrong(
    service: Service, form: dict[str, str], error: str
) -> None:
    assert service.server is not None
    reply = service.http.post(
        "https://api.dropboxapi.com/oauth2/token",
        data={"client_id": service.server.app_key, **form},
        timeout=TIMEOUT,
    )
    assert (reply.status_code, reply.json()["error"]) == (400, error)


@pytest.mark.embedded
def test_a_refreshed_token_may_have_a_narrower_scope(service: Service) -> None:
    assert service.server is not None
    dbx: Dropbox = service.client(
        oauth2_refresh_token=service.server.refresh_token,
        app_key=service.server.app_key,
        scope=["account_info.read"],
    )
    assert dbx.check_user("x").result == "x"
    assert _rejected(lambda: dbx.files_list_folder("")).is_missing_scope()
