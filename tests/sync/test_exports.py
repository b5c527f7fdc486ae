"""Exports of documents: shared, made again where that helps, and never shown damaged."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from dbxfs.api.client import Client
from dbxfs.api.errors import EndpointError, Unreachable
from dbxfs.core.content_hash import content_hash
from dbxfs.core.model import RemotePath, Rev
from dbxfs.sync.exports import PATIENCE, PAUSES, Exports
from dbxfs.sync.fetcher import DamagedContentError

DATA = b"# A plan\n" * 50_000
REF = RemotePath("id:plan")
ONE, TWO = Rev("1"), Rev("2")


class FakeDocument:
    """The `export` of a client. `failures`: what happens to the first calls."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.cuts: list[int] = []
        self.hash: str | None = content_hash(DATA)
        self.calls = 0
        self.gate = trio.Event()
        self.gate.set()

    @asynccontextmanager
    async def export(self, ref: RemotePath) -> AsyncIterator[Any]:
        assert ref == REF
        self.calls += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        yield Pieces(self.hash, self.cuts.pop(0) if self.cuts else None)


class Pieces:
    """The body of one reply, up to where its connection breaks."""

    def __init__(self, digest: str | None, cut: int | None) -> None:
        self.entry = SimpleNamespace(size=len(DATA), content_hash=digest)
        self._at = 0
        self._cut = cut

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._cut is not None and self._at >= self._cut:
            raise Unreachable("the connection was cut", doubt=False)
        piece = DATA[self._at : self._at + 100_000]
        self._at += len(piece)
        if not piece:
            raise StopAsyncIteration
        return piece


def exports(document: FakeDocument, folder: Path) -> Exports:
    return Exports(cast(Client, document), folder)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbxfs.sync.exports.PAUSES", (0.0,) * len(PAUSES))


async def test_an_export_is_read_anywhere_and_leaves_nothing_behind(tmp_path: Path) -> None:
    service = exports(FakeDocument(), tmp_path)
    exported = await service.open(5, REF, ONE)
    assert exported.read(0, 2 * len(DATA)) == DATA
    assert exported.read(len(DATA) - 5, 100) == DATA[-5:]
    assert exported.read(len(DATA), 100) == b""
    assert os.listdir(tmp_path) == []
    service.release(exported)
    with pytest.raises(ValueError, match="closed"):
        exported.read(0, 1)


async def test_all_who_open_it_at_once_share_one_export(tmp_path: Path) -> None:
    document = FakeDocument()
    document.gate = trio.Event()
    service = exports(document, tmp_path)
    got = []

    async def use() -> None:
        exported = await service.open(5, REF, ONE)
        got.append(exported.read(0, 9))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(use)
        await trio.testing.wait_all_tasks_blocked()
        document.gate.set()
    assert (document.calls, got) == (1, [DATA[:9]] * 5)


async def test_another_revision_is_another_export_and_the_old_one_stays_for_its_users(
    tmp_path: Path,
) -> None:
    document = FakeDocument()
    service = exports(document, tmp_path)
    old = await service.open(5, REF, ONE)
    new = await service.open(5, REF, TWO)
    assert (document.calls, old is new) == (2, False)
    service.release(old)
    assert await service.open(5, REF, TWO) is new
    assert new.read(0, 3) == DATA[:3]


async def test_the_size_is_known_for_the_revision_that_was_exported(tmp_path: Path) -> None:
    service = exports(FakeDocument(), tmp_path)
    assert service.size(5, ONE) is None
    service.release(await service.open(5, REF, ONE))
    assert service.size(5, ONE) == len(DATA)
    assert service.size(5, TWO) is None
    assert service.size(5, None) is None


@pytest.mark.usefixtures("no_pauses")
async def test_what_broke_off_or_is_not_available_yet_is_asked_for_again(tmp_path: Path) -> None:
    document = FakeDocument(EndpointError(("retry_error",), ""))
    document.cuts = [200_000, 0]
    exported = await exports(document, tmp_path).open(5, REF, ONE)
    assert (document.calls, exported.size) == (4, len(DATA))
    assert exported.read(0, len(DATA)) == DATA


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (EndpointError(("retry_error",), ""), len(PAUSES) + 1),
        (EndpointError(("non_exportable",), ""), 1),
        (Unreachable("offline", doubt=False), 1),
    ],
)
async def test_what_stays_wrong_is_told(tmp_path: Path, failure: Exception, calls: int) -> None:
    """Without a connection the client has been patient already."""
    document = FakeDocument(*[failure] * 10)
    with pytest.raises(type(failure)):
        await exports(document, tmp_path).open(5, REF, ONE)
    assert document.calls == calls


async def test_nobody_waits_longer_than_the_patience(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    document = FakeDocument()
    document.cuts = [100_000] * 10
    document.gate = trio.Event()
    async with trio.open_nursery() as nursery:

        async def fail() -> None:
            with pytest.raises(Unreachable):
                await exports(document, tmp_path).open(5, REF, ONE)

        nursery.start_soon(fail)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(PATIENCE + 1)
        document.gate.set()
    assert document.calls == 1


@pytest.mark.usefixtures("no_pauses")
async def test_a_damaged_export_is_never_given_out(tmp_path: Path) -> None:
    document = FakeDocument()
    document.hash = content_hash(b"something else")
    service = exports(document, tmp_path)
    with pytest.raises(DamagedContentError):
        await service.open(5, REF, ONE)
    document.hash = None
    assert (await service.open(5, REF, ONE)).size == len(DATA)


async def test_one_who_is_cancelled_leaves_the_turn_to_the_next(tmp_path: Path) -> None:
    document = FakeDocument()
    document.gate = trio.Event()
    service = exports(document, tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.open, 5, REF, ONE)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    document.gate.set()
    with trio.fail_after(5):
        assert (await service.open(5, REF, ONE)).size == len(DATA)
