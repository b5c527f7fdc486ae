"""Faults, over real connections: each is seen by the client as what it stands for."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.demo.client import Client

BIG = bytes(range(256)) * 4096


async def test_an_error_comes_so_often_and_after_so_many(wired: Client) -> None:
    fault = {
        "route": "users/get_space_usage",
        "kind": "error",
        "status": 503,
        "skip": 1,
        "count": 2,
    }
    await wired.control("faults", [{**fault, "retry_after": 7}])
    replies = [await wired.call("users/get_space_usage") for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 503, 503, 200, 200]
    assert replies[1].headers["Retry-After"] == "7"
    (state,) = await wired.control("faults")
    assert state["fired"] == 2


async def test_a_fault_hits_its_own_route_only(wired: Client) -> None:
    await wired.control("faults", [{"route": "files/upload", "kind": "error"}])
    assert (await wired.call("users/get_space_usage")).status_code == 200
    assert (await wired.content("files/upload", {"path": "/a"}, BIG)).status_code == 503


@pytest.mark.parametrize("reason", ["too_many_requests", "too_many_write_operations"])
async def test_a_rate_limit_has_the_body_of_the_service(wired: Client, reason: str) -> None:
    fault = {"kind": "error", "status": 429, "reason": reason, "retry_after": 3}
    await wired.control("faults", [fault])
    reply = await wired.call("users/get_space_usage")
    assert reply.status_code == 429
    assert reply.json()["error"] == {"reason": {".tag": reason}, "retry_after": 3}
    assert reply.headers["Retry-After"] == "3"


async def test_a_reset_does_nothing(wired: Client) -> None:
    await wired.control("faults", [{"kind": "reset", "count": 1}])
    with pytest.raises(httpx.TransportError):
        await wired.content("files/upload", {"path": "/a"}, b"x")
    assert await wired.control("tree") == []
    await wired.upload("/a", b"x")


async def test_a_lost_reply_leaves_the_work_done(wired: Client) -> None:
    await wired.control("faults", [{"kind": "lost_reply", "count": 1}])
    with pytest.raises(httpx.TransportError):
        await wired.content("files/upload", {"path": "/a"}, BIG)
    assert await wired.download("/a") == BIG


async def test_an_unanswered_call_is_done_and_says_so(wired: Client) -> None:
    """So that a test can wait until the work is done and nobody has been told of it."""
    await wired.control("faults", [{"kind": "unanswered", "count": 1}])
    wired.http.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        await wired.content("files/upload", {"path": "/a"}, BIG)
    (state,) = await wired.control("faults")
    assert (state["fired"], state["done"]) == (1, 1)
    assert await wired.download("/a") == BIG


async def test_the_retry_of_an_append_whose_reply_was_lost_is_told_its_offset(
    wired: Client,
) -> None:
    reply = await wired.content("files/upload_session/start", {}, b"12")
    cursor = {"session_id": reply.json()["session_id"], "offset": 2}
    fault = {"route": "files/upload_session/append_v2", "kind": "lost_reply", "count": 1}
    await wired.control("faults", [fault])
    append: Any = ("files/upload_session/append_v2", {"cursor": cursor}, b"345")
    with pytest.raises(httpx.TransportError):
        await wired.content(*append)
    reply = await wired.content(*append)
    assert reply.json()["error"] == {".tag": "incorrect_offset", "correct_offset": 5}


async def test_a_stalled_call_does_not_answer_and_does_nothing(wired: Client) -> None:
    await wired.control("faults", [{"kind": "stall", "count": 1}])
    wired.http.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        await wired.content("files/upload", {"path": "/a"}, b"x")
    assert await wired.control("tree") == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [("truncate", httpx.RemoteProtocolError), ("stall", httpx.ReadTimeout)],
)
async def test_a_download_ends_half_way(wired: Client, kind: str, error: type[Exception]) -> None:
    await wired.upload("/a", BIG)
    await wired.control("faults", [{"kind": kind, "count": 1}])
    wired.http.timeout = httpx.Timeout(0.5)
    received = bytearray()

    async def receive() -> None:
        async with wired.http.stream(
            "POST", "/2/files/download", headers={"Dropbox-API-Arg": '{"path": "/a"}'}
        ) as reply:
            assert reply.headers["Content-Length"] == str(len(BIG))
            async for chunk in reply.aiter_bytes():
                received.extend(chunk)

    with pytest.raises(error):
        await receive()
    assert bytes(received) == BIG[: len(BIG) // 2]
    assert await wired.download("/a") == BIG


async def test_garbage_is_no_json(wired: Client) -> None:
    await wired.control("faults", [{"kind": "garbage", "count": 1}])
    reply = await wired.call("users/get_space_usage")
    assert reply.status_code == 200
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        reply.json()


async def test_a_spoilt_download_has_the_right_length_and_wrong_bytes(wired: Client) -> None:
    await wired.upload("/a", BIG)
    await wired.control("faults", [{"kind": "garbage", "count": 1}])
    spoilt = await wired.download("/a")
    assert len(spoilt) == len(BIG)
    assert spoilt != BIG


async def test_a_truncated_answer_is_noticed(wired: Client) -> None:
    await wired.control("faults", [{"kind": "truncate", "count": 1}])
    with pytest.raises(httpx.RemoteProtocolError):
        await wired.call("users/get_current_account")


async def test_a_new_list_of_faults_replaces_the_old(wired: Client) -> None:
    await wired.control("faults", [{"kind": "error"}])
    await wired.control("faults", [])
    assert (await wired.call("users/get_space_usage")).status_code == 200


async def test_a_broken_off_upload_leaves_nothing(wired: Client) -> None:
    reply = await wired.content("files/upload_session/start", {}, b"12")
    session = reply.json()["session_id"]

    async def half() -> Any:
        yield b"x" * 1000
        raise ConnectionError

    cursor = {"cursor": {"session_id": session, "offset": 2}}
    headers = {
        "Dropbox-API-Arg": json.dumps(cursor),
        "Content-Type": "application/octet-stream",
        "Content-Length": "2000",
    }
    with pytest.raises(ConnectionError):
        await wired.http.post("/2/files/upload_session/append_v2", content=half(), headers=headers)
    finish = {"cursor": {"session_id": session, "offset": 2}, "commit": {"path": "/a"}}
    reply = await wired.content("files/upload_session/finish", finish, b"")
    assert reply.status_code == 200, reply.text
    assert await wired.download("/a") == b"12"
