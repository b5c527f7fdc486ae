"""A Dropbox in memory, for tests of what stores and sends: small, exact, without a network.

`FakeDropbox` keeps entries by folded path and a log of changes, and answers as the API reference
says: identities that survive moves, a new revision with each change of content or place, write
modes with autorename, and cursors that walk the tree as it is now and then follow the log.
Updates are reported with the state of now, deletions always, in their order. `FakeClient` is the
same behind the methods of `dbxfs.api.client.Client`.

It is no second embedded Dropbox: no permissions, no quota, no sessions beyond what the uploader
needs. Everything is deterministic, time comes from a counter.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dbxfs.api.client import Add, CursorReset, EndpointError, Overwrite, Update, WriteMode
from dbxfs.core.content_hash import content_hash
from dbxfs.core.model import (
    Cursor,
    DeletedEntry,
    Entry,
    FileEntry,
    FileId,
    FolderEntry,
    Page,
    RemotePath,
    Rev,
)

SECOND = 1_000_000_000


def key_of(path: str) -> str:
    """The path by which Dropbox compares."""
    lowered = unicodedata.normalize("NFC", path).lower()
    return unicodedata.normalize("NFC", lowered)


def parent_of(path: str) -> str:
    """The folder of a path; "" for the root's."""
    return path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Node:
    """One file or folder; `data` is None for a folder."""

    path: str
    """As displayed."""
    id: str
    rev: str
    data: bytes | None
    mtime_ns: int
    properties: dict[str, str] = field(default_factory=dict)
    """The fields of the one property group that there is."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_folder(self) -> bool:
        return self.data is None


def entry_of(node: Node) -> FileEntry | FolderEntry:
    """The node as the API layer hands it on."""
    path = RemotePath(key_of(node.path))
    if node.data is None:
        return FolderEntry(
            id=FileId(node.id), name=node.name, path=path, properties=node.properties
        )
    return FileEntry(
        id=FileId(node.id),
        name=node.name,
        path=path,
        rev=Rev(node.rev),
        size=len(node.data),
        content_hash=content_hash(node.data),
        client_modified_ns=node.mtime_ns,
        server_modified_ns=node.mtime_ns,
        properties=node.properties,
    )


def refusal(*tags: str) -> EndpointError:
    """The error of an endpoint with this chain of tags."""
    return EndpointError(tags, "/".join(tags))


@dataclass(frozen=True, slots=True)
class _Change:
    seq: int
    key: str
    deleted: bool
    name: str


class FakeDropbox:
    """One account's Dropbox."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        """By folded path."""
        self.contents: dict[str, bytes] = {}
        """Of every revision that ever was."""
        self.seq = 0
        self._log: list[_Change] = []
        self._latest: dict[str, int] = {}
        self._epoch = 0
        self._ids = itertools.count(1)

    # ---- Edits made elsewhere, and what they build on ----

    def write(self, path: str, data: bytes, mtime_ns: int = SECOND) -> Node:
        """Put content at a path, over whatever file is there."""
        old = self.nodes.get(key_of(path))
        if old is not None and old.is_folder:
            raise refusal("path", "conflict", "folder")
        if old is not None and old.data == data:
            return old
        self._make_parents(path)
        if old is None:
            return self._put(Node(path, self._new_id(), "", data, mtime_ns))
        return self._put(replace(old, data=data, mtime_ns=mtime_ns))

    def mkdir(self, path: str) -> Node:
        """Make a folder."""
        old = self.nodes.get(key_of(path))
        if old is not None:
            raise refusal("path", "conflict", "folder" if old.is_folder else "file")
        self._make_parents(path)
        return self._put(Node(path, self._new_id(), "", None, 0))

    def delete(self, path: str, parent_rev: str | None = None) -> Node:
        """Remove what is at a path, or bears an id, and all that is below."""
        node = self._source(path, "path_lookup")
        path = node.path
        if parent_rev is not None and node.rev != parent_rev:
            raise refusal("path_write", "conflict", "file")
        for below in self.below(path):
            del self.nodes[key_of(below.path)]
        self._note(node, deleted=True)
        return node

    def move(self, source: str, target: str) -> Node:
        """Move a file or a folder by its path or id; a change of case alone is a conflict."""
        node = self._source(source, "from_lookup")
        source = node.path
        if key_of(target).startswith(key_of(source) + "/"):
            raise refusal("cant_move_folder_into_itself")
        there = self.nodes.get(key_of(target))
        if there is not None:
            raise refusal("to", "conflict", "folder" if there.is_folder else "file")
        self._check_ancestors(target, "to")
        moving = self.below(source)
        self.delete(source)
        self._make_parents(target)
        for each in moving:
            rest = "/".join(each.path.split("/")[source.count("/") + 1 :])
            self._put(replace(each, path=f"{target}/{rest}" if rest else target))
        return self.nodes[key_of(target)]

    def set_properties(self, reference: str, fields: dict[str, str]) -> Node:
        """Keep these fields with what is at a path, or bears an id; the revision stays."""
        node = replace(self._source(reference, "path"), properties=fields)
        self.nodes[key_of(node.path)] = node
        self._note(node, deleted=False)
        return node

    def update_properties(self, reference: str, fields: dict[str, str], removed: list[str]) -> Node:
        """Set some of the fields and remove others."""
        old = self._source(reference, "path").properties
        kept = {name: value for name, value in old.items() if name not in removed}
        return self.set_properties(reference, kept | fields)

    # ---- Commits ----

    def upload(
        self,
        path: str,
        data: bytes,
        mode: WriteMode,
        mtime_ns: int = SECOND,
        properties: dict[str, str] | None = None,
    ) -> Node:
        """Commit content with autorename, by the rules of `WriteMode`.

        Where the same content is there already, nothing is written, properties neither.
        """
        before = self.at(path)
        node = self._upload(path, data, mode, mtime_ns)
        if properties is None or node is before:
            return node
        return self.set_properties(node.id, properties)

    def _upload(self, path: str, data: bytes, mode: WriteMode, mtime_ns: int) -> Node:
        self._check_ancestors(path, "path")
        old = self.nodes.get(key_of(path))
        if old is None:
            return self.write(path, data, mtime_ns)
        if old.is_folder:
            return self.write(self._free(path, mode), data, mtime_ns)
        if old.data == data:
            return old
        match mode:
            case Overwrite():
                return self.write(path, data, mtime_ns)
            case Update(rev) if rev == old.rev:
                return self.write(path, data, mtime_ns)
            case _:
                return self.write(self._free(path, mode), data, mtime_ns)

    def _free(self, path: str, mode: WriteMode) -> str:
        folder, _, name = path.rpartition("/")
        stem, dot, extension = name.rpartition(".")
        if not stem:
            stem, dot, extension = name, "", ""
        for number in itertools.count(1):
            mark = f"({number})"
            if not isinstance(mode, Add):
                mark = "(conflicted copy)" if number == 1 else f"(conflicted copy {number})"
            free = f"{folder}/{stem} {mark}{dot}{extension}"
            if key_of(free) not in self.nodes:
                return free
        raise AssertionError

    # ---- Looking ----

    def at(self, path: str) -> Node | None:
        """What is at a path."""
        return self.nodes.get(key_of(path))

    def find(self, reference: str) -> Node:
        """What is at a path or bears an id; `EndpointError` where there is nothing."""
        if reference.startswith("id:"):
            for node in self.nodes.values():
                if node.id == reference:
                    return node
        elif (node := self.at(reference)) is not None:
            return node
        raise refusal("path", "not_found")

    def _source(self, reference: str, tag: str) -> Node:
        try:
            return self.find(reference)
        except EndpointError:
            raise refusal(tag, "not_found") from None

    def below(self, path: str) -> list[Node]:
        """What is at a path and below it, folders before what is in them."""
        key = key_of(path)
        return [
            node for at, node in sorted(self.nodes.items()) if at == key or at.startswith(key + "/")
        ]

    def tree(self) -> dict[str, bytes | None]:
        """Everything by its path as displayed, each component as its own folder shows it."""
        shown = {}
        for node in self.nodes.values():
            parts = node.path.split("/")[1:]
            names = [
                self.nodes[key_of("/" + "/".join(parts[: i + 1]))].name for i in range(len(parts))
            ]
            shown["/" + "/".join(names)] = node.data
        return shown

    # ---- Listing ----

    def reset_cursors(self) -> None:
        """Every cursor given out so far is no longer good."""
        self._epoch += 1

    def list_folder(self, path: str = "", limit: int = 2000, *, recursive: bool = True) -> Page:
        """The first page of a listing."""
        if path and not self.find(path).is_folder:
            raise refusal("path", "not_folder")
        flag = "r" if recursive else "f"
        first = f"{self._epoch}|{flag}{key_of(path)}|{self.seq}|"
        return self.list_folder_continue(Cursor(first), limit)

    def list_folder_continue(self, cursor: Cursor, limit: int = 2000) -> Page:
        """The next page: of the walk, then of the log."""
        epoch, folder, seq, after = cursor.split("|", 3)
        if int(epoch) != self._epoch:
            raise CursorReset(("reset",), "reset")
        recursive, folder = folder[0] == "r", folder[1:]
        head = f"{epoch}|{'r' if recursive else 'f'}{folder}"
        if after == ".":
            return self._follow(head, folder, int(seq), limit, recursive)
        keys = [
            key for key in sorted(self.nodes) if self._lists(folder, key, recursive) and key > after
        ]
        entries: list[Entry] = [entry_of(self.nodes[key]) for key in keys[:limit]]
        if len(keys) > limit:
            return Page(
                entries=entries, cursor=Cursor(f"{head}|{seq}|{keys[limit - 1]}"), has_more=True
            )
        more = any(self._lists(folder, change.key, recursive) for change in self._since(int(seq)))
        return Page(entries=entries, cursor=Cursor(f"{head}|{seq}|."), has_more=more)

    def latest_cursor(self, path: str = "") -> Cursor:
        """A cursor after everything that has happened."""
        return Cursor(f"{self._epoch}|r{key_of(path)}|{self.seq}|.")

    def has_changes(self, cursor: Cursor) -> bool:
        """Whether a page after the cursor would bring something. `CursorReset` as there."""
        page = self.list_folder_continue(cursor)
        return bool(page.entries) or page.has_more

    def _follow(self, head: str, folder: str, seq: int, limit: int, recursive: bool) -> Page:
        rows = [row for row in self._since(seq) if self._lists(folder, row.key, recursive)]
        entries: list[Entry] = []
        for row in rows[:limit]:
            if row.deleted:
                entries.append(DeletedEntry(name=row.name, path=RemotePath(row.key)))
            elif self._latest.get(row.key) == row.seq and row.key in self.nodes:
                entries.append(entry_of(self.nodes[row.key]))
        more = len(rows) > limit
        end = rows[limit - 1].seq if more else self.seq
        return Page(entries=entries, cursor=Cursor(f"{head}|{end}|."), has_more=more)

    def _since(self, seq: int) -> Iterator[_Change]:
        return (row for row in self._log if row.seq > seq)

    @staticmethod
    def _lists(folder: str, key: str, recursive: bool) -> bool:
        if recursive:
            return key.startswith(folder + "/") or bool(folder and key == folder)
        return parent_of(key) == folder

    # ---- Inside ----

    def _new_id(self) -> str:
        return f"id:{next(self._ids)}"

    def _put(self, node: Node) -> Node:
        self._note(node, deleted=False)
        if node.data is not None:
            node = replace(node, rev=f"{self.seq:x}")
            self.contents[node.rev] = node.data or b""
        self.nodes[key_of(node.path)] = node
        return node

    def _note(self, node: Node, *, deleted: bool) -> None:
        self.seq += 1
        key = key_of(node.path)
        self._log.append(_Change(self.seq, key, deleted, node.name))
        if not deleted:
            self._latest[key] = self.seq

    def _make_parents(self, path: str) -> None:
        self._check_ancestors(path, "path")
        folder = parent_of(path)
        if folder and key_of(folder) not in self.nodes:
            self._make_parents(folder)
            self._put(Node(folder, self._new_id(), "", None, 0))

    def _check_ancestors(self, path: str, tag: str) -> None:
        folder = parent_of(path)
        while folder:
            node = self.nodes.get(key_of(folder))
            if node is not None and not node.is_folder:
                raise refusal(tag, "conflict", "file_ancestor")
            folder = parent_of(folder)
