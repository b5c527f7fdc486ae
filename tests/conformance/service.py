"""What is under test, and how the official SDK is brought to it.

The SDK builds "https://api.dropboxapi.com/2/…" itself. Its hosts are not changed: a `requests`
adapter mounted for https:// sends whatever it is given to the embedded server's address instead,
so that all of the SDK (routes, token refresh, the OAuth flow) is the code that speaks to Dropbox.
Rejected: the SDK's environment variables (read once, at import; https only) and its private host
map (the token refresh does not look at it).

`StrictDropbox` decodes each reply a second time with the validators' strict mode, which refuses
unknown fields and tags; it also holds every reply to the outer form (request id, content type,
`error_summary` that agrees with `error`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from dropbox import Dropbox, files
from dropbox.dropbox_client import RouteErrorResult, create_session
from dropbox.exceptions import ApiError
from requests.adapters import HTTPAdapter
from stone.backends.python_rsrc import stone_base, stone_serializers

from tests.embedded import Embedded

TIMEOUT = 30.0
"""Seconds that one request may be silent before the test fails."""

HOSTS = {
    "api": "https://api.dropboxapi.com",
    "content": "https://content.dropboxapi.com",
    "notify": "https://notify.dropboxapi.com",
    "www": "https://www.dropbox.com",
}


PROVOKED: set[tuple[str, str]] = set()
"""The errors that the service has answered in this run: route and tags."""


class HostAdapter(HTTPAdapter):
    """Sends every request to one server, whatever host its URL names."""

    def __init__(self, url: str) -> None:
        """`url` is the server's address, "http://127.0.0.1:PORT"."""
        super().__init__(pool_maxsize=32)
        self._server = urlsplit(url)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Sends `request` with scheme and host replaced."""
        assert request.url is not None
        asked = urlsplit(request.url)
        request.url = urlunsplit(asked._replace(scheme="http", netloc=self._server.netloc))
        return super().send(request, *args, **kwargs)


class StrictDropbox(Dropbox):  # type: ignore[misc]
    """The SDK's client, which refuses a reply that Dropbox could not have sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked = threading.local()

    def request(self, route: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls `route`, remembering it for the check of the reply."""
        self._asked.route = route
        return super().request(route, *args, **kwargs)

    def request_json_string(self, *args: Any, **kwargs: Any) -> Any:
        """Sends one request; the reply is decoded strictly before the SDK sees it."""
        result = super().request_json_string(*args, **kwargs)
        route = self._asked.route
        decoded = json.loads(result.obj_result)
        if isinstance(result, RouteErrorResult):
            assert result.request_id, f"{route.name}: an error without X-Dropbox-Request-Id"
            error = _decode(route.error_type, decoded["error"])
            summary = decoded["error_summary"]
            assert summary.startswith(tags(error)), f"{route.name}: {summary!r} for {error!r}"
            PROVOKED.add((route_name(route), tags(error)))
        else:
            decoded_result = _decode(route.result_type, decoded)
            PROVOKED.update((route_name(route), failure) for failure in failures(decoded_result))
        return result


def _decode(validator: Any, value: Any) -> Any:
    return stone_serializers.json_compat_obj_decode(  # type: ignore[no-untyped-call]
        validator, value, strict=True
    )


def tags(error: Any) -> str:
    """The tags of an error union, outermost first: "path/conflict/file".

    The reason inside an upload's `path` error counts as a tag, as it does in `error_summary`.
    """
    if isinstance(error, files.UploadWriteFailed):
        return tags(error.reason)
    if not isinstance(error, stone_base.Union):
        return ""
    below = tags(error._value)
    return f"{error._tag}/{below}" if below else str(error._tag)


def failures(result: Any) -> Iterator[str]:
    """The tags of the failures inside the result of a batch."""
    if isinstance(result, stone_base.Union):
        if result._tag == "failure":
            yield tags(result._value)
        else:
            yield from failures(result._value)
    for entry in getattr(result, "entries", None) or []:
        yield from failures(entry)


def route_name(route: Any) -> str:
    """A route's name with its version: "move_v2"."""
    return f"{route.name}_v{route.version}" if route.version > 1 else str(route.name)


def refusal(call: Callable[[], object]) -> str:
    """The tags with which the service refuses `call`. Raises AssertionError when it accepts."""
    return tags(refused(call))


def refused(call: Callable[[], object]) -> Any:
    """The error union with which the service refuses `call`."""
    try:
        result = call()
    except ApiError as error:
        return error.error
    raise AssertionError(f"the service accepted it: {result!r}")


class Service:
    """A Dropbox: the embedded one (`server` is set) or the real one (`server` is None)."""

    def __init__(self, token: str, server: Embedded | None = None) -> None:
        self.token = token
        self.server = server
        self.http = self.session()

    def session(self) -> requests.Session:
        """A new connection pool that reaches this service under Dropbox's host names."""
        session: requests.Session = create_session(max_connections=32)
        if self.server is not None:
            session.trust_env = False
            session.mount("https://", HostAdapter(self.server.url))
        return session

    def client(self, token: str | None = None, **options: Any) -> Dropbox:
        """An SDK client. Against the embedded server it repeats nothing and is strict."""
        if "oauth2_refresh_token" not in options:
            options["oauth2_access_token"] = token or self.token
        options = {"session": self.http, "timeout": TIMEOUT} | options
        if self.server is None:
            return Dropbox(**options)
        options = {"max_retries_on_error": 0, "max_retries_on_rate_limit": 0} | options
        return StrictDropbox(**options)

    def rpc(self, route: str, arg: object, host: str = "api", **options: Any) -> requests.Response:
        """Calls a JSON route without the SDK, so that it may be called wrongly."""
        headers = {"Content-Type": "application/json"} | dict(options.pop("headers", {}))
        body = options.pop("data", json.dumps(arg).encode())
        return self.raw(host, route, data=body, headers=headers, **options)

    def content(
        self, route: str, arg: object, data: bytes | None = None, **options: Any
    ) -> requests.Response:
        """Calls a route of the content host without the SDK; `data` makes it an upload."""
        headers = {"Dropbox-API-Arg": json.dumps(arg)} | dict(options.pop("headers", {}))
        if data is not None:
            headers = {"Content-Type": "application/octet-stream"} | headers
        return self.raw("content", route, data=data, headers=headers, **options)

    def raw(
        self,
        host: str,
        route: str,
        *,
        data: bytes | None,
        headers: Mapping[str, str],
        auth: bool = True,
    ) -> requests.Response:
        """Sends a POST to `route` ("files/upload") just as it is given."""
        authorization = {"Authorization": f"Bearer {self.token}"} if auth else {}
        return self.http.post(
            f"{HOSTS[host]}/2/{route}",
            data=data,
            headers={**authorization, **headers},
            timeout=TIMEOUT,
        )

    def error(self, reply: requests.Response, status: int = 409) -> Any:
        """The error union of a raw reply, still as JSON; checks its status."""
        assert reply.status_code == status, f"{reply.status_code} {reply.text}"
        return reply.json()["error"]


def bad_call(reply: requests.Response) -> str:
    """The plain words of a 400; checks that it is one."""
    assert reply.status_code == 400, f"{reply.status_code} {reply.text[:200]}"
    assert reply.headers["Content-Type"].startswith("text/plain"), reply.headers["Content-Type"]
    assert reply.text
    return reply.text
