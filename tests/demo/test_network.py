"""Distance and bandwidth, counted on a clock that does not run by itself."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dbxfs.demo.network import BITS, Link
from tests.demo.client import Client

HOME = {
    "round_trip_ms": 60,
    "service_ms": 40,
    "commit_ms": 60,
    "connection_mbit": 200,
    "total_mbit": 500,
}


def test_a_link_passes_one_piece_after_the_other() -> None:
    link = Link(1000)
    assert link.reserve(10.0, 500) == 10.5
    assert link.reserve(10.0, 1000) == 11.5
    assert link.reserve(20.0, 100) == 20.1


def test_a_sender_that_is_a_little_late_loses_nothing() -> None:
    link = Link(1000)
    assert link.reserve(10.0, 500) == 10.5
    assert link.reserve(10.51, 500) == 11.0


def test_a_link_without_a_rate_passes_at_once() -> None:
    link = Link(0)
    assert link.reserve(3.0, 10**12) == 3.0


def test_connections_share_the_common_link(client: Client) -> None:
    network = client.service.network
    network.set_profile(type(network.profile)(connection_mbit=8, total_mbit=16))
    links = [network.link({"client": ("host", port)}) for port in range(4)]
    ends = [network.through(link, 0.0, 1_000_000) for link in links]
    assert ends == [1.0, 1.0, 1.5, 2.0]


async def test_every_call_takes_a_round_trip_and_the_service_time(
    client: Client, autojump_clock: MockClock
) -> None:
    await client.control("network", HOME)
    begin = trio.current_time()
    await client.rpc("users/get_space_usage")
    size = (await client.control("counters"))["bytes_out"]
    assert trio.current_time() - begin == pytest.approx(0.1 + size / (200 * BITS), abs=1e-4)


async def test_control_calls_take_no_time_and_are_not_counted(
    client: Client, autojump_clock: MockClock
) -> None:
    await client.control("network", HOME)
    begin = trio.current_time()
    await client.control("tree")
    assert trio.current_time() == begin
    assert await client.control("counters") == {
        "requests": {},
        "total": 0,
        "bytes_in": 0,
        "bytes_out": 0,
    }


async def test_a_body_is_paced_both_ways(client: Client, autojump_clock: MockClock) -> None:
    data = b"x" * 50_000
    await client.control("network", {"connection_mbit": 0.4})
    begin = trio.current_time()
    reply = await client.content("files/upload", {"path": "/a"}, data)
    way_back = len(reply.content) / 50_000
    assert trio.current_time() - begin == pytest.approx(1 + way_back)
    begin = trio.current_time()
    assert await client.download("/a") == data
    assert trio.current_time() - begin == pytest.approx(1)


async def test_a_commit_holds_the_namespace_and_another_is_refused(
    client: Client, autojump_clock: MockClock
) -> None:
    await client.control("network", {"commit_ms": 500})
    replies = []

    async def commit(path: str) -> None:
        replies.append(await client.content("files/upload", {"path": path}, b"x"))

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit, "/a")
        nursery.start_soon(commit, "/b")
    assert trio.current_time() - begin == pytest.approx(0.5)
    refused, done = sorted(replies, key=lambda reply: -reply.status_code)
    assert (refused.status_code, done.status_code) == (429, 200)
    assert refused.json()["error"]["reason"] == {".tag": "too_many_write_operations"}
    assert refused.headers["Retry-After"] == "1"
    await commit("/b")
    assert replies[-1].status_code == 200


async def test_reading_goes_on_while_a_commit_holds_the_namespace(
    client: Client, autojump_clock: MockClock
) -> None:
    await client.upload("/a", b"x")
    await client.control("network", {"commit_ms": 500})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.upload, "/b", b"y")
        await trio.testing.wait_all_tasks_blocked()
        begin = trio.current_time()
        assert await client.download("/a") == b"x"
        assert trio.current_time() == begin


async def test_a_batch_commits_in_the_time_of_one(
    client: Client, autojump_clock: MockClock
) -> None:
    await client.control("network", {"commit_ms": 500})
    entries = []
    for name in ("/a", "/b", "/c"):
        reply = await client.content("files/upload_session/start", {"close": True}, b"x")
        cursor = {"session_id": reply.json()["session_id"], "offset": 1}
        entries.append({"cursor": cursor, "commit": {"path": name}})
    begin = trio.current_time()
    done = await client.rpc("files/upload_session/finish_batch_v2", {"entries": entries})
    assert [entry[".tag"] for entry in done["entries"]] == ["success"] * 3
    assert trio.current_time() - begin == pytest.approx(0.5)


async def test_counters_count_calls_and_bodies(client: Client) -> None:
    metadata = await client.content("files/upload", {"path": "/a"}, b"12345")
    await client.download("/a")
    assert await client.control("counters") == {
        "requests": {"files/upload": 1, "files/download": 1},
        "total": 2,
        "bytes_in": 5,
        "bytes_out": len(metadata.content) + 5,
    }
    await client.control("counters/reset", {})
    assert (await client.control("counters"))["total"] == 0
