"""How much programs may still add."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from dbxfs.api.client import Client
from dbxfs.core.model import Space
from dbxfs.store.database import Database
from dbxfs.sync.space import SpaceWatch


@dataclass
class Account:
    """Stands for the client, the database, and what programs have open."""

    used: int = 0
    waiting: int = 0
    open: int = 0
    asked: int = 0
    meta: dict[str, str] = field(default_factory=dict)

    async def space(self) -> Space:
        self.asked += 1
        return Space(used=self.used, allocated=100)

    def unsent(self) -> int:
        return self.waiting

    def get_meta(self, name: str) -> str | None:
        return self.meta.get(name)

    def set_meta(self, name: str, value: str) -> None:
        self.meta[name] = value

    def watch(self) -> SpaceWatch:
        """The watch over it."""
        return SpaceWatch(
            cast("Client", self),
            cast("Database", self),
            lambda _: None,
            lambda _: None,
            lambda: self.open,
        )


async def test_all_that_waits_and_all_that_is_open_takes_room() -> None:
    account = Account(used=10, waiting=20, open=30)
    watch = account.watch()
    await watch.refresh()
    assert watch.room() == 40
    assert not await watch.add(41)
    assert await watch.add(40)
    assert not await watch.add(41)


async def test_what_was_added_and_is_gone_makes_room_without_asking_dropbox() -> None:
    account = Account()
    watch = account.watch()
    await watch.refresh()
    for _ in range(5):
        assert await watch.add(60)
    account.waiting = 60
    assert not await watch.add(60)
    assert account.asked == 1
