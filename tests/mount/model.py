"""What the model test knows: contents by hash, what must exist, and the tree as it should be.

`Ledger` keeps the first invariant. Every content is written once, so a hash names who wrote it.
What `close` accepted, here or elsewhere, is a *promise* until somebody who had it before him wrote
over it or deleted it. Who had what before him is the difficulty: the feed changes files at any
moment, so what a program read a moment ago need not be what it then wrote over. Two means give an
exact answer. For what programs do, the daemon's own database, looked at before and after (`Look`):
it names the version that staged content was made from, and which inodes were unlinked. For edits
made elsewhere the daemon is stopped while the server's tree is read and changed.

`Reference` is the tree that programs must see as long as nobody edits elsewhere.

Rejected: to excuse whatever *may* have been written over. Those are just the moments in which
work is lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from dbxfs.core.content_hash import ContentHasher
from dbxfs.core.names import fold

EMPTY = b""


def digest(content: bytes) -> str:
    """The content hash."""
    hasher = ContentHasher()
    hasher.update(content)
    return hasher.hexdigest()


@dataclass(frozen=True)
class Row:
    """One inode as the daemon's database has it."""

    ino: int
    parent: int | None
    name: str
    is_folder: bool
    hash: str | None
    seen: int
    staged: str | None
    from_hash: str | None

    @property
    def unlinked(self) -> bool:
        """Whether a program or the feed removed it; not while the feed may bring it back."""
        return self.parent is None and self.seen >= 0


class Look:
    """The daemon's tree in one moment."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {row.ino: row for row in rows}

    @classmethod
    def at(cls, database: Path) -> Look:
        """As it is now, whether the daemon runs or not."""
        with closing(sqlite3.connect(database, timeout=10)) as connection:
            rows = connection.execute(
                "SELECT inode.ino, parent, name, kind, hash, seen, file, from_hash"
                " FROM inode LEFT JOIN staging USING (ino) WHERE inode.ino != 1"
            ).fetchall()
        return cls(Row(row[0], row[1], row[2], row[3] == 1, *row[4:]) for row in rows)

    def paths(self) -> dict[str, Row]:
        """What programs see, by path."""
        found = {}
        for row in self.rows.values():
            path = self._path(row)
            if path is not None:
                found[path] = row
        return found

    def _path(self, row: Row) -> str | None:
        names = [row.name]
        while row.parent != 1:
            above = None if row.parent is None else self.rows.get(row.parent)
            if above is None:
                return None
            row = above
            names.append(row.name)
        return "/" + "/".join(reversed(names))

    def gone(self, after: Look) -> Iterator[tuple[Row | None, Row | None]]:
        """The files unlinked between this look and a later one, as they were and as they are."""
        for row in self.rows.values():
            now = after.rows.get(row.ino)
            if not row.is_folder and row.parent is not None and (now is None or now.unlinked):
                yield row, now
        for now in after.rows.values():
            if not now.is_folder and now.unlinked and now.ino not in self.rows:
                yield None, now


@dataclass
class Promise:
    """One of these contents must exist: the accepted one, or what a killed daemon may have had
    of a program that was just writing over it."""

    contents: set[bytes]
    said: str


class Ledger:
    """All contents that ever were, and those that must exist."""

    def __init__(self) -> None:
        self.by_hash = {digest(EMPTY): EMPTY}
        self.promises: list[Promise] = []
        self.written: dict[int, set[bytes]] = {}
        """What programs last wrote to an inode; more than one: a kill decided which."""
        self.unclosed: dict[int, bytes] = {}
        """What programs have written to an inode and not closed."""
        self.ambiguous = {EMPTY}
        """Contents that can come about twice."""
        self._serial = 0

    def fresh(self, length: int = 0) -> bytes:
        """A content like no other."""
        self._serial += 1
        content = b"%05d:" % self._serial + b"." * length
        self.by_hash[digest(content)] = content
        return content

    def register(self, content: bytes) -> None:
        """This content comes about by an operation."""
        self.by_hash.setdefault(digest(content), content)

    def accept(self, contents: set[bytes], said: str) -> None:
        """`close` returned, or an edit was made elsewhere: from now on it must exist."""
        if EMPTY not in contents:
            self.promises.append(Promise(set(contents), said))

    def stand_in(self, old: set[bytes], new: bytes) -> None:
        """A program is writing over `old` and has not closed: a kill may leave either."""
        for promise in self.promises:
            if promise.contents & old:
                promise.contents.add(new)

    def forgive(self, contents: Iterable[bytes]) -> None:
        """Somebody who had them before him wrote over them or deleted them."""
        given_up = set(contents)
        self.promises = [p for p in self.promises if not p.contents & given_up]

    def of(self, row: Row | None) -> set[bytes]:
        """What programs saw in the file."""
        if row is None:
            return set()
        unclosed = {self.unclosed[row.ino]} if row.ino in self.unclosed else set()
        base = EMPTY if row.hash is None else self.known(row.hash)
        written = self.written.get(row.ino)
        if written and (row.staged is not None or row.hash is None or base in written):
            return written | unclosed
        return {base} | unclosed

    def known(self, content_hash: str) -> bytes:
        """The content with that hash."""
        assert content_hash in self.by_hash, f"nobody has ever written {content_hash}"
        return self.by_hash[content_hash]

    def made_from(self, row: Row | None) -> set[bytes]:
        """The version that what is staged was made from."""
        if row is None or row.from_hash is None:
            return set()
        return {self.known(row.from_hash)}

    def settle(self, found: Iterable[bytes]) -> list[str]:
        """Both sides agree on these contents; gives what was promised and is not there."""
        there = set(found)
        lost = [
            f"{promise.said}: none of {sorted(promise.contents)}"
            for promise in self.promises
            if not promise.contents & there
        ]
        for promise in self.promises:
            promise.contents &= there
        return lost


@dataclass
class Node:
    """A file (`contents`: one of them) or folder (`children` by folded name) of the reference."""

    name: str
    contents: set[bytes] = field(default_factory=set)
    children: dict[str, Node] | None = None


class Reference:
    """A tree that knows no case and takes the operations that the mount took."""

    def __init__(self, tree: dict[str, bytes | None]) -> None:
        """`tree`: contents by path, None for folders."""
        self.root = Node("", children={})
        for path in sorted(tree, key=lambda path: path.count("/")):
            content = tree[path]
            if content is None:
                self.mkdir(path)
            else:
                self.write(path, {content})

    def find(self, path: str) -> Node | None:
        """What is there."""
        node: Node | None = self.root
        for name in path.split("/")[1:]:
            node = None if node is None or node.children is None else node.children.get(fold(name))
        return node

    def _place(self, path: str) -> tuple[dict[str, Node], str]:
        folder, _, name = path.rpartition("/")
        above = self.find(folder)
        assert above is not None, f"the mount has put something into {folder}, which is not there"
        assert above.children is not None, f"the mount has put something into {folder}, a file"
        return above.children, name

    def write(self, path: str, contents: set[bytes]) -> None:
        """The file has this content now."""
        children, name = self._place(path)
        node = children.setdefault(fold(name), Node(name))
        assert node.children is None, f"the mount has written to {path}, a folder"
        node.contents = contents

    def mkdir(self, path: str) -> None:
        """The folder was made."""
        children, name = self._place(path)
        assert fold(name) not in children, f"the mount has made {path}, which is there"
        children[fold(name)] = Node(name, children={})

    def remove(self, path: str) -> None:
        """It was removed."""
        children, name = self._place(path)
        assert fold(name) in children, f"the mount has removed {path}, which is not there"
        node = children.pop(fold(name))
        assert not node.children, f"the mount has removed {path}, which is not empty"

    def rename(self, source: str, target: str) -> None:
        """It was renamed, maybe only to another spelling of its name."""
        children, name = self._place(source)
        assert fold(name) in children, f"the mount has renamed {source}, which is not there"
        node = children.pop(fold(name))
        node.name = target.rpartition("/")[2]
        there, name = self._place(target)
        there[fold(name)] = node

    def shape(self) -> dict[str, set[bytes] | None]:
        """Every path with its contents, None for folders."""
        found: dict[str, set[bytes] | None] = {}

        def walk(node: Node, path: str) -> None:
            for child in (node.children or {}).values():
                place = f"{path}/{child.name}"
                found[place] = child.contents if child.children is None else None
                walk(child, place)

        walk(self.root, "")
        return found
