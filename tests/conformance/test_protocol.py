"""The outer form of calls and replies, which the SDK takes for granted."""

from __future__ import annotations

import json

import pytest
import requests

from tests.conformance.place import Place
from tests.conformance.service import TIMEOUT, Service, bad_call


def test_every_reply_has_a_request_id(place: Place) -> None:
    ok = place.service.rpc("files/list_folder", {"path": place()})
    error = place.service.rpc("files/list_folder", {"path": place("nothing")})
    assert (ok.status_code, error.status_code) == (200, 409)
    ids = [reply.headers["X-Dropbox-Request-Id"] for reply in (ok, error)]
    assert all(ids)
    assert ids[0] != ids[1]


def test_an_error_names_its_tags_for_programs_and_a_summary_for_people(place: Place) -> None:
    reply = place.service.rpc("files/list_folder", {"path": place("nothing")})
    assert reply.status_code == 409
    assert reply.headers["Content-Type"] == "application/json"
    body = reply.json()
    assert body["error"] == {".tag": "path", "path": {".tag": "not_found"}}
    assert body["error_summary"].startswith("path/not_found/")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"\xff", b'{"path": 1}', b"{}", b'{"path": null}'],
    ids=["empty", "cut", "list", "text", "no-utf-8", "wrong-type", "missing-field", "null"],
)
def test_what_is_no_argument_is_a_malformed_call(service: Service, body: bytes) -> None:
    bad_call(service.rpc("files/list_folder", None, data=body))


def test_an_unknown_field_is_a_malformed_call(service: Service) -> None:
    bad_call(service.rpc("files/list_folder", {"path": "", "no_such_field": 1}))


@pytest.mark.parametrize("path", ["hello", "no/slash", "rev:xyz", "rev:123", " /x"])
def test_a_path_of_no_known_form_is_a_malformed_call(service: Service, path: str) -> None:
    bad_call(service.rpc("files/get_metadata", {"path": path}))


def test_an_unknown_write_mode_is_a_malformed_call(service: Service) -> None:
    bad_call(service.content("files/upload", {"path": "/x", "mode": "cheese"}, b""))


def test_a_mode_may_be_written_short_or_long(place: Place) -> None:
    for mode in ("overwrite", {".tag": "overwrite"}, {".tag": "update", "update": "123456789"}):
        arg = {"path": place(f"{json.dumps(mode).count(',')}"), "mode": mode}
        reply = place.service.content("files/upload", arg, b"")
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "client_modified", ["yesterday", "2020-01-01", "2020-01-01T00:00:00+01:00"]
)
def test_a_time_of_another_form_is_a_malformed_call(place: Place, client_modified: str) -> None:
    arg = {"path": place("x"), "client_modified": client_modified}
    bad_call(place.service.content("files/upload", arg, b""))


@pytest.mark.parametrize("content_hash", ["", "abc", "g" * 64])
def test_a_hash_of_another_form_is_refused(place: Place, content_hash: str) -> None:
    """One that is too short is malformed; one with other letters may also just not match."""
    arg = {"path": place("x"), "content_hash": content_hash}
    reply = place.service.content("files/upload", arg, b"")
    assert reply.status_code in ({400} if len(content_hash) != 64 else {400, 409})
    assert place.names() == []


def test_an_upload_needs_its_argument(service: Service) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    bad_call(service.raw("content", "files/upload", data=b"x", headers=headers))


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "image/png"])
def test_an_upload_of_another_content_type_is_a_malformed_call(
    place: Place, content_type: str
) -> None:
    arg = {"path": place("x")}
    bad_call(
        place.service.content("files/upload", arg, b"x", headers={"Content-Type": content_type})
    )


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain"])
def test_a_call_of_another_content_type_is_a_malformed_call(
    service: Service, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    bad_call(service.rpc("files/list_folder", {"path": ""}, headers=headers))


def test_the_argument_header_may_escape_what_is_not_ascii(place: Place) -> None:
    header = json.dumps({"path": place("Ä 🎈")})
    assert header.isascii()
    reply = place.service.raw(
        "content",
        "files/upload",
        data=b"x",
        headers={"Dropbox-API-Arg": header, "Content-Type": "application/octet-stream"},
    )
    assert reply.status_code == 200, reply.text
    assert place.names() == ["Ä 🎈"]


def test_the_argument_header_may_be_utf_8_but_nothing_else(place: Place) -> None:
    """The documentation asks for escapes; the service takes UTF-8 too, and rclone sends it."""

    def upload(name: str, encoding: str) -> requests.Response:
        arg = json.dumps({"path": place(name)}, ensure_ascii=False)
        headers = {
            "Dropbox-API-Arg": arg.encode(encoding).decode("latin-1"),
            "Content-Type": "application/octet-stream",
        }
        return place.service.raw("content", "files/upload", data=b"x", headers=headers)

    assert upload("Größe 日本", "utf-8").status_code == 200
    bad_call(upload("Größe", "latin-1"))
    assert place.names() == ["Größe 日本"]


def test_an_unknown_route_is_a_malformed_call_or_not_found(service: Service) -> None:
    reply = service.rpc("files/no_such_route", {})
    assert reply.status_code in {400, 404}


def test_a_route_is_only_posted_to(service: Service) -> None:
    reply = service.http.get(
        "https://api.dropboxapi.com/2/files/list_folder",
        headers={"Authorization": f"Bearer {service.token}"},
        timeout=TIMEOUT,
    )
    assert reply.status_code in {400, 404, 405}


def test_routes_without_an_argument_take_null(service: Service) -> None:
    reply = service.rpc("users/get_current_account", None)
    assert reply.status_code == 200, reply.text
    reply = service.raw("api", "users/get_current_account", data=None, headers={})
    assert reply.status_code == 200, reply.text


def test_a_connection_serves_many_calls(place: Place) -> None:
    """Keep-alive: also after errors and after uploads that were refused."""
    with place.service.session() as session:
        place.service.http, shared = session, place.service.http
        try:
            connections = set()
            for name in ("a", "a\\b", "b", "thumbs.db", "c"):
                reply = place.service.content("files/upload", {"path": place(name)}, b"x" * 100_000)
                connections.add(_port(session, reply))
            assert len(connections) == 1
        finally:
            place.service.http = shared


def _port(session: requests.Session, reply: requests.Response) -> int:
    """How many connections the session has opened to the server of `reply`."""
    adapter = session.get_adapter("https://content.dropboxapi.com")
    pool = adapter.poolmanager.connection_from_url(reply.url)  # type: ignore[attr-defined]
    return int(pool.num_connections)
