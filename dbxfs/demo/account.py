"""One account: its tree, its views of it, who may write where, its quota and its writer's lock.

A call sees the account through a `View`: the member's home, the team space (path root), or one
namespace. A view is a prefix of the physical key space (`database.py`), so a path in a call
becomes a key by putting the prefix before it, and a path in an answer loses it.

The lock that Dropbox holds on a namespace while it commits is a moment in time, not a lock: a
commit is done at once and atomically, and the namespace is busy until `commit_seconds` later. A
single commit that finds it busy is refused, a batch waits; nothing can be left locked.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from dbxfs.demo.content import Contents
from dbxfs.demo.database import (
    HOME,
    HOME_KEY,
    SYMLINK,
    open_database,
    setting,
    store_setting,
    symlinks,
)
from dbxfs.demo.names import fold, is_below, parent_of
from dbxfs.demo.tree import Node, Tree
from dbxfs.demo.wire import rate_limited

ACCOUNT_ID = "dbid:AADemoDemoDemoDemoDemoDemoDemoDemo0"
TEAM_MEMBER_ID = "dbmid:AADemoDemoDemoDemoDemoDemoDemoDemo00"
HOME_NAMESPACE = "1000000001"
TEAM_NAMESPACE = "2000000001"
TEAM_FOLDER = "/Team Folder"
DEFAULT_QUOTA = 2 * 1024**4
"""Bytes, unless the control interface says otherwise."""

SALT_LENGTH = 11
T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """The part of the key space that a call sees. `display` is plain ASCII, `key` its folding."""

    namespace: str
    display: str

    @property
    def key(self) -> str:
        return fold(self.display)

    def shows(self, key: str) -> bool:
        """Whether the entry is in this view; the view's own root is."""
        return key == self.key or is_below(key, self.key)

    def path(self, physical: str) -> str:
        """A physical path or key as this view's callers know it."""
        return physical[len(self.display) :]


@dataclass(frozen=True)
class Share:
    """A shared folder. `access`: editor, read_only, traverse_only or no_access."""

    id: str
    key: str
    access: str


class Account:
    """The state of the embedded Dropbox below the folder `data`.

    `now` is the account's wall clock in seconds; tests may turn it forward.
    Raises UnusableError when `data` was made by another version.
    """

    def __init__(self, data: Path, now: Callable[[], float] = time.time) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.data = data
        self.now = now
        self.db: sqlite3.Connection = open_database(data / "account.sqlite")
        self.contents = Contents(data)
        self.tree = Tree(self.db, now)
        self.salt = setting(self.db, "salt", secrets.token_urlsafe(16)[:SALT_LENGTH])
        self.secret = setting(self.db, "secret", secrets.token_hex(16)).encode()
        self.epoch = int(setting(self.db, "epoch", "1"))
        self.quota = int(setting(self.db, "quota", str(DEFAULT_QUOTA)))
        self.in_team = setting(self.db, "team", "0") == "1"
        self.commit_seconds = 0.0
        self.longpoll_jitter = 0.0
        self._busy_until: dict[str, float] = {}
        self._load_shares()
        self.symlinks = symlinks(self.db)
        """Targets, by identity, of what other clients have put there as symbolic links."""
        if self.tree.get(HOME_KEY) is None:
            with self.tree.change():
                self.tree.make_folder(HOME)

    def close(self) -> None:
        """Lets go of the database."""
        self.db.close()

    # identities

    def id_of(self, fid: int) -> str:
        """The identity as the wire has it: "id:" and 22 characters."""
        return f"id:{self.salt}{fid:011x}"

    def fid_of(self, identity: str) -> int | None:
        """The number in an "id:…", None if this account never gave it out."""
        salt, digits = identity[3 : 3 + SALT_LENGTH], identity[3 + SALT_LENGTH :]
        if salt != self.salt:
            return None
        try:
            fid = int(digits, 16)
        except ValueError:
            return None
        return fid if self.id_of(fid) == identity else None

    def set_symlink(self, fid: int, target: str) -> None:
        """Makes a file one that is known as a symbolic link; within a change."""
        store_setting(self.db, f"{SYMLINK}{fid}", target)
        self.symlinks[fid] = target

    # views

    @property
    def home(self) -> View:
        """What a call without a path root sees."""
        return View(HOME_NAMESPACE, HOME)

    @property
    def root(self) -> View:
        """What the path root header can open: the team space, or the home of a single member."""
        return View(TEAM_NAMESPACE, "") if self.in_team else self.home

    def namespace_view(self, namespace: str) -> View | None:
        """The view of a namespace id, None where there is none or no access."""
        if namespace == HOME_NAMESPACE:
            return self.home
        if namespace == TEAM_NAMESPACE and self.in_team:
            return self.root
        share = next((share for share in self.shares.values() if share.id == namespace), None)
        node = self.tree.get(share.key) if share and share.access != "no_access" else None
        return View(namespace, node.display) if node else None

    def set_team(self, on: bool) -> None:
        """Joins or leaves a team whose root namespace holds more than the member's home."""
        self.in_team = on
        store_setting(self.db, "team", "1" if on else "0")
        if on and self.tree.get(fold(TEAM_FOLDER)) is None:
            with self.tree.change():
                self.tree.make_folder(TEAM_FOLDER)
            self.set_share(fold(TEAM_FOLDER), "editor")

    # shared folders

    def _load_shares(self) -> None:
        rows = self.db.execute("SELECT id, key, access FROM shares")
        self.shares = {key: Share(ident, key, access) for ident, key, access in rows}

    def set_share(self, key: str, access: str) -> Share:
        """Makes the folder at `key` a shared folder, or changes what the member may do in it."""
        old = self.shares.get(key)
        share = Share(old.id if old else str(3000000000 + self.tree.seq), key, access)
        node = self.tree.get(key)
        if node is None or not node.folder:
            raise ValueError(f"{key} is not a folder")
        with self.tree.change():
            self.db.execute("INSERT OR REPLACE INTO shares VALUES (?, ?, ?)", tuple_of(share))
            self.tree.report_again(node)
        self._load_shares()
        return share

    def move_shares(self, old: str, new: str | None) -> None:
        """Follows a moved folder (`new`) or forgets a deleted one (None); within a change."""
        inside = [key for key in self.shares if key == old or is_below(key, old)]
        for key in inside:
            if new is None:
                self.db.execute("DELETE FROM shares WHERE key = ?", (key,))
            else:
                place = new + key[len(old) :]
                self.db.execute("UPDATE shares SET key = ? WHERE key = ?", (place, key))
        if inside:
            self._load_shares()

    def share_of(self, key: str) -> Share | None:
        """The shared folder that is `key` or holds it."""
        if self.shares:
            while key:
                share = self.shares.get(key)
                if share:
                    return share
                key = parent_of(key)
        return None

    def may_write(self, key: str) -> bool:
        """Whether the member may create, change or delete what is at `key`.

        A shared folder itself hangs in the member's own tree: there its parent decides.
        """
        share = self.share_of(parent_of(key) if key in self.shares else key)
        return share is None or share.access == "editor"

    def sees(self, key: str) -> bool:
        """Whether the member can see what is at `key`."""
        share = self.share_of(parent_of(key)) if self.shares else None
        if share is None or key in self.shares or share.access in ("editor", "read_only"):
            return True
        return share.access == "traverse_only" and any(
            is_below(other, key) and self.shares[other].access in ("editor", "read_only")
            for other in self.shares
        )

    # quota

    def fits(self, more: int) -> bool:
        """Whether `more` bytes can be added."""
        return more <= 0 or self.tree.used + more <= self.quota

    def set_quota(self, allocated: int) -> None:
        """Bytes that the account may hold."""
        self.quota = allocated
        store_setting(self.db, "quota", str(allocated))

    # cursors

    def reset_cursors(self) -> None:
        """Invalidates every cursor that was given out."""
        self.epoch += 1
        store_setting(self.db, "epoch", str(self.epoch))
        self.tree.announce()

    # one writer per namespace

    def namespace_of(self, key: str) -> str:
        """The namespace that a commit at `key` locks."""
        share = self.share_of(parent_of(key) if key in self.shares else key)
        if share:
            return share.id
        return HOME_NAMESPACE if self.home.shows(key) else TEAM_NAMESPACE

    def busy(self, key: str) -> bool:
        """Whether the namespace of `key` is still held by an earlier commit."""
        return trio.current_time() < self._busy_until.get(self.namespace_of(key), 0.0)

    async def commit(self, keys: Iterable[str], work: Callable[[], T]) -> T:
        """Does `work` as the one writer, and returns when the commit is over.

        Raises 429 too_many_write_operations when another commit holds a namespace of `keys`.
        """
        keys = list(keys)
        if any(self.busy(key) for key in keys):
            raise rate_limited("too_many_write_operations", 1)
        return await self._hold(keys, work)

    async def commit_queued(
        self, keys: Iterable[str], work: Callable[[], T], *, stay: bool = True
    ) -> T:
        """As `commit`, but waits its turn, as batch jobs do.

        Without `stay` it returns when the work is done although the namespace is still held.
        """
        keys = list(keys)
        while any(self.busy(key) for key in keys):
            namespaces = {self.namespace_of(key) for key in keys}
            await trio.sleep_until(max(self._busy_until.get(each, 0.0) for each in namespaces))
        return await self._hold(keys, work, stay=stay)

    async def _hold(self, keys: list[str], work: Callable[[], T], *, stay: bool = True) -> T:
        namespaces = {self.namespace_of(key) for key in keys}
        before = self.tree.seq
        result = work()
        if self.commit_seconds and self.tree.seq != before:
            until = trio.current_time() + self.commit_seconds
            self._busy_until.update(dict.fromkeys(namespaces, until))
            if stay:
                await trio.sleep_until(until)
        return result


def tuple_of(share: Share) -> tuple[str, str, str]:
    """The row of a share."""
    return (share.id, share.key, share.access)


def is_file(node: Node | None) -> bool:
    """Whether there is something, and it is a file."""
    return node is not None and not node.folder
