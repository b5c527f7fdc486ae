"""The embedded server's own routes: distance, faults and counters, as a client feels them."""

from __future__ import annotations

import time

import pytest
import requests
from dropbox.exceptions import InternalServerError, RateLimitError

from tests.conformance.place import Place
from tests.conformance.service import refusal

ROUTE = "files/get_metadata"


pytestmark = pytest.mark.embedded


@pytest.mark.parametrize("reason", ["too_many_requests", "too_many_write_operations"])
def test_a_rate_limit_says_why_and_how_long(calm: Place, reason: str) -> None:
    calm.server.faults(
        [{"route": ROUTE, "kind": "error", "status": 429, "reason": reason, "retry_after": 7}]
    )
    with pytest.raises(RateLimitError) as caught:
        calm.dbx.files_get_metadata(calm("hello.txt"))
    assert caught.value.error.reason._tag == reason
    assert caught.value.backoff == 7
    raw = calm.service.rpc(ROUTE, {"path": calm("hello.txt")})
    assert (raw.status_code, raw.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_error_has_its_status(calm: Place, status: int) -> None:
    calm.server.faults(
        [{"route": ROUTE, "kind": "error", "status": status, "retry_after": 2, "count": 1}]
    )
    with pytest.raises(InternalServerError) as caught:
        calm.dbx.files_get_metadata(calm("hello.txt"))
    assert caught.value.status_code == status
    assert calm.dbx.files_get_metadata(calm("hello.txt")) == calm.hello


def test_a_fault_fires_as_often_as_it_is_told(calm: Place) -> None:
    fault = {"route": ROUTE, "kind": "error", "status": 503, "skip": 1, "count": 2}
    calm.server.faults([fault])
    said = [calm.service.rpc(ROUTE, {"path": calm("hello.txt")}).status_code for _ in range(5)]
    assert said == [200, 503, 503, 200, 200]
    (state,) = calm.server.control("faults")
    assert state["fired"] == 2


def test_a_fault_of_one_route_leaves_the_others_alone(calm: Place) -> None:
    calm.server.faults([{"route": "files/upload", "kind": "error", "status": 503}])
    assert calm.dbx.files_get_metadata(calm("hello.txt")) == calm.hello
    with pytest.raises(InternalServerError):
        calm.write("new", b"")


def test_a_reset_connection_has_done_nothing(calm: Place) -> None:
    calm.server.faults([{"route": "files/upload", "kind": "reset", "count": 1}])
    with pytest.raises(requests.ConnectionError):
        calm.write("new", b"new")
    assert refusal(lambda: calm.dbx.files_get_metadata(calm("new"))) == "path/not_found"


def test_a_lost_reply_has_done_the_work(calm: Place) -> None:
    calm.server.faults([{"route": "files/upload", "kind": "lost_reply", "count": 1}])
    with pytest.raises(requests.ConnectionError):
        calm.write("new", b"new")
    assert calm.read("new") == b"new"


def test_a_truncated_body_is_seen_by_its_length(calm: Place) -> None:
    calm.write("large", b"x" * 300_000)
    calm.server.faults([{"route": "files/download", "kind": "truncate", "count": 1}])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        calm.read("large")
    assert len(calm.read("large")) == 300_000


def test_garbage_is_no_reply_of_dropbox(calm: Place) -> None:
    calm.server.faults([{"route": ROUTE, "kind": "garbage", "count": 1}])
    reply = calm.service.rpc(ROUTE, {"path": calm("hello.txt")})
    with pytest.raises(requests.exceptions.JSONDecodeError):
        reply.json()


def test_a_stalled_reply_does_not_come(calm: Place) -> None:
    calm.server.faults([{"route": ROUTE, "kind": "stall", "count": 1}])
    dbx = calm.service.client(timeout=0.5)
    with pytest.raises((requests.ConnectionError, requests.Timeout)):
        dbx.files_get_metadata(calm("hello.txt"))


def test_a_round_trip_and_the_service_cost_their_time(calm: Place) -> None:
    calm.server.network(round_trip_ms=120, service_ms=80)
    start = time.monotonic()
    calm.dbx.files_get_metadata(calm("hello.txt"))
    assert 0.2 <= time.monotonic() - start < 2


def test_the_control_routes_cost_none(calm: Place) -> None:
    calm.server.network(round_trip_ms=10_000)
    start = time.monotonic()
    calm.server.counters()
    calm.server.network()
    assert time.monotonic() - start < 5


def test_bodies_are_paced_in_both_directions(calm: Place) -> None:
    data = bytes(1_000_000)
    calm.server.network(connection_mbit=16)
    start = time.monotonic()
    calm.write("large", data)
    up = time.monotonic() - start
    start = time.monotonic()
    assert len(calm.read("large")) == len(data)
    down = time.monotonic() - start
    assert 0.4 <= up < 5
    assert 0.4 <= down < 5


def test_requests_and_bytes_are_counted(calm: Place) -> None:
    calm.server.reset_counters()
    calm.write("counted", b"x" * 1000)
    calm.read("counted")
    refusal(lambda: calm.dbx.files_get_metadata(calm("nothing")))
    counters = calm.server.counters()
    assert counters["requests"] == {"files/upload": 1, "files/download": 1, ROUTE: 1}
    assert counters["total"] == 3
    assert 1000 <= counters["bytes_in"] < 2000
    assert 1000 <= counters["bytes_out"] < 3000


def test_a_wrong_control_call_is_explained(calm: Place) -> None:
    with pytest.raises(AssertionError, match="400"):
        calm.server.control("faults", [{"kind": "no such kind"}])
    with pytest.raises(AssertionError, match="40"):
        calm.server.content(calm("nothing"))


def test_many_files_are_made_quickly(place: Place) -> None:
    start = time.monotonic()
    place.server.populate(place("big"), 5, 1000, 1024)
    assert time.monotonic() - start < 5
    page = place.dbx.files_list_folder(place("big"), recursive=True, limit=2000)
    seen = len(page.entries)
    while page.has_more:
        page = place.dbx.files_list_folder_continue(page.cursor)
        seen += len(page.entries)
    assert seen >= 5 * 1000 + 5
    file = next(entry for entry in page.entries if entry.name.count("."))
    assert len(place.dbx.files_download(file.path_lower)[1].content) == 1024
