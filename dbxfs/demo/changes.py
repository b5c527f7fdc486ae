"""Listing and the change feed: what a cursor is, and what its next page holds.

A cursor first walks a snapshot in the order of keys, then follows the log from the change number
at which the walk began. The walk reads the state of now, so entries that change meanwhile may
come twice or, if they moved backwards, only by the log; applied in order, the pages lead to the
true state either way.

A cursor carries its whole state, signed, so it costs the server nothing and survives restarts.
Its epoch makes all cursors invalid at once (`reset`). Rejected: cursors as rows in the database,
which nobody could ever delete.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import NamedTuple

from dbxfs.demo.account import Account, View
from dbxfs.demo.metadata import add_properties, describe, describe_deleted
from dbxfs.demo.names import is_below
from dbxfs.demo.tree import COLUMNS, Node, Tomb
from dbxfs.demo.wire import Json, TemplateFilter

DEFAULT_LIMIT = 500
SIGNATURE = 9
"""Bytes of the signature: 12 characters of base64."""


class Listing(NamedTuple):
    """What a listing was asked for. `key` is the folder's physical key."""

    namespace: str
    display: str
    key: str
    recursive: bool
    deleted: bool
    mounted: bool
    documents: bool
    members: bool
    limit: int
    templates: list[str] | None

    @property
    def view(self) -> View:
        return View(self.namespace, self.display)

    @property
    def filter(self) -> TemplateFilter | None:
        if self.templates is None:
            return None
        tag = "filter_some" if self.templates else "filter_none"
        return TemplateFilter({".tag": tag, "filter_some": self.templates})


class Cursor(NamedTuple):
    """A position: in the snapshot after the key `after`, or (None) in the log after `seq`."""

    epoch: int
    listing: Listing
    after: str | None
    seq: int


class Page(NamedTuple):
    """What ListFolderResult holds."""

    entries: list[Json]
    cursor: Cursor
    has_more: bool


class InvalidCursorError(Exception):
    """Not a cursor that this account gave out."""


class ResetError(Exception):
    """The cursor was invalidated."""


class GoneError(Exception):
    """The folder that the cursor lists is not there any more."""


def seal_text(account: Account, raw: bytes) -> str:
    """What only this account can have said, in letters."""
    return base64.urlsafe_b64encode(_signature(account, raw) + raw).decode().rstrip("=")


def unseal_text(account: Account, text: str) -> bytes:
    """What `seal_text` was given. Raises InvalidCursorError."""
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCursorError from None
    signature, raw = sealed[:SIGNATURE], sealed[SIGNATURE:]
    if not hmac.compare_digest(signature, _signature(account, raw)):
        raise InvalidCursorError
    return raw


def seal(account: Account, cursor: Cursor) -> str:
    """The cursor as the wire has it."""
    return seal_text(account, json.dumps(cursor, separators=(",", ":")).encode())


def unseal(account: Account, text: str) -> Cursor:
    """Raises InvalidCursorError, ResetError."""
    try:
        epoch, listing, after, seq = json.loads(unseal_text(account, text))
        cursor = Cursor(epoch, Listing(*listing), after, seq)
    except (ValueError, TypeError):
        raise InvalidCursorError from None
    if cursor.epoch != account.epoch:
        raise ResetError
    return cursor


def _signature(account: Account, raw: bytes) -> bytes:
    return hmac.digest(account.secret, raw, hashlib.sha256)[:SIGNATURE]


def begin(account: Account, listing: Listing, *, at_end: bool = False) -> Cursor:
    """A cursor before the first entry, or (`at_end`) after all that has happened so far."""
    return Cursor(account.epoch, listing, None if at_end else "", account.tree.seq)


def next_page(account: Account, cursor: Cursor) -> Page:
    """The entries after `cursor`. Raises GoneError."""
    listing = cursor.listing
    if listing.key:
        folder = account.tree.get(listing.key)
        if folder is None or not folder.folder or not account.sees(folder.key):
            raise GoneError
    if cursor.after is not None:
        page = _snapshot(account, cursor, cursor.after)
    else:
        page = _changes(account, cursor)
    if listing.members:
        for entry in page.entries:
            if entry[".tag"] == "file":
                entry["has_explicit_shared_members"] = False
    return page


def has_changes(account: Account, cursor: Cursor) -> bool:
    """Whether `next_page` would have something to go through."""
    if cursor.after is not None:
        return True
    where, bounds = _in_listing(cursor.listing)
    sql = f"SELECT 1 FROM log WHERE seq > ? AND {where} LIMIT 1"  # noqa: S608 — constants
    return account.db.execute(sql, (cursor.seq, *bounds)).fetchone() is not None


def _in_listing(listing: Listing) -> tuple[str, tuple[str, ...]]:
    if not listing.recursive:
        return "(log.parent = ? OR log.key = ?)", (listing.key, listing.key)
    if not listing.key:
        return "log.key > ?", ("",)
    bounds = (listing.key + "/", listing.key + "0")
    if listing.key == listing.view.key:
        return "(log.key > ? AND log.key < ?)", bounds
    return "(log.key = ? OR (log.key > ? AND log.key < ?))", (listing.key, *bounds)


def _wanted(account: Account, listing: Listing, node: Node) -> bool:
    if node.document and not listing.documents:
        return False
    if node.key == listing.key and not listing.recursive:
        return False
    if not account.shares:
        return True
    if not account.sees(node.key):
        return False
    if listing.mounted:
        return True
    return not any(
        is_below(key, listing.key) and (node.key == key or is_below(node.key, key))
        for key in account.shares
    )


def _snapshot(account: Account, cursor: Cursor, after: str) -> Page:
    listing, tree = cursor.listing, account.tree
    rows: list[Node | Tomb] = []
    if listing.recursive and not after and listing.key != listing.view.key:
        top = tree.get(listing.key)
        rows += [top] if top else []
    fetch = tree.below if listing.recursive else tree.children
    found = fetch(listing.key, after, listing.limit)
    rows += found
    if listing.deleted:
        tombs = _tombs(account, listing, after)
        rows = sorted([*rows, *tombs], key=lambda row: row.key)[: listing.limit]
    entries = _describe(account, listing, rows)
    if len(rows) >= listing.limit and rows[-1].key != listing.key:
        return Page(entries, cursor._replace(after=rows[-1].key), True)
    end = cursor._replace(after=None)
    return Page(entries, end, has_changes(account, end))


def _tombs(account: Account, listing: Listing, after: str) -> list[Tomb]:
    where, bounds = _in_listing(listing)
    rows = account.db.execute(
        f"SELECT key, name, display FROM tombs AS log WHERE {where} AND key > ?"  # noqa: S608
        " ORDER BY key LIMIT ?",
        (*bounds, after, listing.limit),
    )
    return [Tomb(*row) for row in rows]


def _changes(account: Account, cursor: Cursor) -> Page:
    listing, now = cursor.listing, account.tree.seq
    where, bounds = _in_listing(listing)
    columns = ", ".join(f"entries.{name.strip()}" for name in COLUMNS.split(","))
    rows = account.db.execute(
        "SELECT log.seq, log.deleted, log.key, log.name, log.display, "  # noqa: S608
        f"{columns} FROM log LEFT JOIN entries ON entries.key = log.key AND entries.seq = log.seq"
        f" WHERE log.seq > ? AND {where} ORDER BY log.seq LIMIT ?",
        (cursor.seq, *bounds, listing.limit),
    ).fetchall()
    states: list[Node | Tomb] = []
    for _seq, deleted, key, name, display, *state in rows:
        if deleted:
            states.append(Tomb(key, name, display))
        elif state[0] is not None:
            states.append(Node._make(state))
    full = len(rows) == listing.limit
    end = cursor._replace(seq=rows[-1][0] if full else now)
    more = full and has_changes(account, end)
    return Page(_describe(account, listing, states), end, more)


def _describe(account: Account, listing: Listing, rows: list[Node | Tomb]) -> list[Json]:
    view = listing.view
    entries: list[Json] = []
    with_fids: list[tuple[int, Json]] = []
    for row in rows:
        if isinstance(row, Tomb):
            entries.append(describe_deleted(view, row))
        elif _wanted(account, listing, row):
            value = describe(account, view, row)
            entries.append(value)
            with_fids.append((row.fid, value))
    add_properties(account, with_fids, listing.filter)
    return entries
