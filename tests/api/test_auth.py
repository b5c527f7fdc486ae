"""Tokens: put on, renewed once for all who need it, never shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dbxfs.api.auth import RefreshingToken, StaticToken
from dbxfs.api.client import (
    Add,
    BadRequest,
    DropboxError,
    RateLimited,
    ServerTrouble,
    Settings,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
    open_client,
)
from dbxfs.core.model import Cursor, RemotePath
from tests.api.peer import FILE, URL, Peer, refused, reply

A = RemotePath("/a")
EXPIRED = refused("expired_access_token", status=401)


def renewing(**more: Any) -> RefreshingToken:
    return RefreshingToken("refresh-1", "key", token_url=f"{URL}/oauth2/token", **more)


class Account:
    """Hands out tokens "t1", "t2"…, and takes only the newest."""

    def __init__(self, expires_in: float = 14400) -> None:
        self.given = 0
        self.used: list[str] = []
        self.expires_in = expires_in
        self.valid = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth2/token":
            self.given += 1
            self.valid = True
            token = {"access_token": f"t{self.given}", "expires_in": self.expires_in}
            return reply(200, token)
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.used.append(token)
        return reply(200, FILE) if self.valid and token == f"t{self.given}" else EXPIRED


async def test_a_static_token_is_sent_as_it_is() -> None:
    peer = Peer([reply(200, FILE)])
    async with peer.client(StaticToken("abc")) as client:
        await client.metadata(A)
    assert peer.requests[0].headers["authorization"] == "Bearer abc"


async def test_a_static_token_that_expired_is_the_callers_to_know() -> None:
    peer = Peer([EXPIRED])
    async with peer.client(StaticToken("abc")) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.metadata(A)
    assert caught.value.tag == "expired_access_token"
    assert len(peer.requests) == 1


async def test_the_first_request_gets_a_token_first() -> None:
    account = Account()
    peer = Peer([account])
    async with peer.client(renewing(app_secret="s")) as client:
        await client.metadata(A)
        await client.metadata(A)
    assert account.used == ["t1", "t1"]
    assert parse_qs(peer.bodies[0].decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh-1"],
        "client_id": ["key"],
        "client_secret": ["s"],
    }
    assert "authorization" not in peer.requests[0].headers


async def test_a_token_is_renewed_before_it_ends(autojump_clock: MockClock) -> None:
    account = Account(expires_in=100)
    async with Peer([account]).client(renewing()) as client:
        await client.metadata(A)
        await trio.sleep(45)
        await client.metadata(A)
        await trio.sleep(10)
        await client.metadata(A)
    assert account.used == ["t1", "t1", "t2"]


async def test_a_token_that_lives_shortly_is_still_used(autojump_clock: MockClock) -> None:
    account = Account(expires_in=10)
    async with Peer([account]).client(renewing()) as client:
        await client.metadata(A)
        await client.metadata(A)
    assert account.used == ["t1", "t1"]


async def test_an_expired_token_is_renewed_and_the_call_made_again() -> None:
    account = Account()
    async with Peer([account]).client(renewing()) as client:
        await client.metadata(A)
        account.valid = False
        await client.metadata(A)
    assert account.used == ["t1", "t1", "t2"]


async def test_an_upload_is_sent_anew_after_a_renewal() -> None:
    account = Account()
    peer = Peer([account])

    async def chunks() -> Any:
        yield b"hel"
        yield b"lo"

    async with peer.client(renewing()) as client:
        await client.metadata(A)
        account.valid = False
        await client.upload(A, chunks, size=5, mode=Add(), content_hash="h", client_modified_ns=0)
    assert [body for body in peer.bodies if body == b"hello"] == [b"hello", b"hello"]


async def test_many_requests_make_one_refresh() -> None:
    account = Account()
    peer = Peer([account])
    async with peer.client(renewing()) as client:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(client.metadata, A)
            account.valid = False
    assert account.given == 2


async def test_a_refresh_that_was_cancelled_leaves_the_way_free(
    autojump_clock: MockClock,
) -> None:
    hang, account = True, Account()

    async def answer(request: httpx.Request) -> httpx.Response:
        if hang:
            await trio.sleep_forever()
        return account(request)

    settings = Settings.for_url(URL, renewing())
    async with open_client(settings, transport=httpx.MockTransport(answer)) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.metadata, A)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        hang = False
        with trio.fail_after(5):
            await client.metadata(A)


@pytest.mark.parametrize(
    ("answer", "kind", "word"),
    [
        (
            reply(400, {"error": "invalid_grant", "error_description": "refresh token revoked"}),
            Unauthorized,
            "revoked",
        ),
        (reply(401, {"error": "invalid_client"}), Unauthorized, "invalid_client"),
        (httpx.Response(400, content=b"what?"), BadRequest, "what"),
        (reply(200, {"token": 1}), UnexpectedReply, "no token"),
        (reply(200, {"access_token": "a b"}), UnexpectedReply, "no token"),
        (reply(200, {"access_token": ""}), UnexpectedReply, "no token"),
        (reply(500), ServerTrouble, "500"),
        (reply(429, None, retry_after="60"), RateLimited, "60"),
        (httpx.ReadTimeout("slow"), Unreachable, "no answer"),
    ],
)
async def test_a_failed_refresh_says_what_failed_and_leaves_no_doubt(
    answer: Any, kind: type[DropboxError], word: str, autojump_clock: MockClock
) -> None:
    async with Peer([answer]).client(renewing(), patience=2) as client:
        with pytest.raises(kind, match=word) as caught:
            await client.create_folder(A)
    assert caught.value.doubt is False


async def test_a_token_refused_after_a_refresh_ends_the_call() -> None:
    peer = Peer([reply(200, {"access_token": "t"}), EXPIRED, reply(200, {"access_token": "u"})])
    peer.script.append(EXPIRED)
    async with peer.client(renewing()) as client:
        with pytest.raises(Unauthorized):
            await client.metadata(A)
    assert len(peer.requests) == 4


async def test_a_missing_scope_is_not_cured_by_a_refresh() -> None:
    peer = Peer([reply(200, {"access_token": "t"}), refused("missing_scope", status=401)])
    async with peer.client(renewing()) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.metadata(A)
    assert caught.value.tag == "missing_scope"
    assert len(peer.requests) == 2


async def test_the_longpoll_carries_no_authorization() -> None:
    peer = Peer([reply(200, {"changes": False})])
    async with peer.client(renewing()) as client:
        await client.longpoll(Cursor("c"))
    assert peer.routes == ["files/list_folder/longpoll"]
    assert "authorization" not in peer.requests[0].headers


@pytest.mark.parametrize("bad", ["", "a b", "a\nb", "tökén", "\x7f"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(bad: str) -> None:
    for make in (StaticToken, lambda token: RefreshingToken(token, "key")):
        with pytest.raises(ValueError, match="token") as caught:
            make(bad)
        assert not bad or bad not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    shown = repr(StaticToken("hush")) + repr(RefreshingToken("hush", "key", "hush"))
    assert "hush" not in shown


def test_a_blocking_client_is_refused() -> None:
    with pytest.raises(TypeError):
        renewing().sync_auth_flow(httpx.Request("POST", URL))
