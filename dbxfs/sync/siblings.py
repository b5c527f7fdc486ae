"""The next files of a program that reads its way through folders, fetched before it asks.

`core.siblings` recognises the walk; here the next files are found in the tree and fetched, several
side by side, within a budget of bytes. Each read that reaches us is noted; the kernel's page cache
keeps the rest away. A walk that ends takes its queue with it, what is on its way may come. Direct
reads are not held up: the walks' connections are fewer than the lane has.

Rejected: `download_zip` of the folder. It brings what is below a folder whole, large files too and
whatever is cached already, without revisions and without a way to go on after a broken connection
(docs/performance.md has figures).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator

import trio

from dbxfs.core.siblings import Walk, follow, reach
from dbxfs.store.blocks import BLOCK
from dbxfs.store.inode import ROOT_INO, Inode
from dbxfs.store.tree import Tree

from .fetcher import Fetcher
from .switch import Switch
from .version import Version

WALKS = 8
CONNECTIONS = 24
LARGEST = BLOCK
"""Bytes of a file that is fetched unasked."""
BUDGET = 16 * 1024 * 1024
"""Bytes that are fetched ahead of one walk."""
LOOKED_AT = 512
"""Entries that are looked at for the next files."""


class _Way:
    """A walk, and what was foreseen of it."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.foreseen: OrderedDict[int, int] = OrderedDict()
        """Files fetched, or to be, and not read yet; with their sizes."""
        self.last: Inode | None = None
        """The farthest file that was foreseen."""
        self.over = False


class Siblings:
    """Foresees what will be read."""

    def __init__(self, tree: Tree, fetcher: Fetcher, nursery: trio.Nursery, switch: Switch) -> None:
        self._tree = tree
        self._fetcher = fetcher
        self._nursery = nursery
        self._switch = switch
        self._ways: list[_Way] = []
        self._connections = trio.CapacityLimiter(CONNECTIONS)

    def note(self, inode: Inode) -> None:
        """A program reads the beginning of a file."""
        if inode.parent is None or self._switch.paused:
            return
        way = self._way_of(inode)
        for ino in list(way.foreseen):
            # What was passed over will not be read any more.
            del way.foreseen[ino]
            if ino == inode.ino:
                break
        self._go_on(way, inode)

    def _way_of(self, inode: Inode) -> _Way:
        """The walk that the file is a part of, a new one if need be; it becomes the latest."""
        assert inode.parent is not None  # noqa: S101
        found = None
        for way in sorted(self._ways, key=lambda way: inode.ino not in way.foreseen):
            foreseen = inode.ino in way.foreseen
            walk = follow(way.walk, inode.parent, inode.ino, inode.key, foreseen=foreseen)
            if walk is not None:
                way.walk, found = walk, way
                break
        if found is None:
            found = _Way(Walk(inode.parent, inode.ino, inode.key))
            for way in self._ways:
                # One walk a folder: this file is none of the old one's.
                way.over = way.over or way.walk.folder == inode.parent
            self._ways = [way for way in self._ways if not way.over]
        else:
            self._ways.remove(found)
        self._ways.append(found)
        if len(self._ways) > WALKS:
            self._ways.pop(0).over = True
        return found

    def _go_on(self, way: _Way, inode: Inode) -> None:
        wanted = reach(way.walk)
        if not wanted or len(way.foreseen) > wanted // 2:
            return
        begin = way.last if way.foreseen and way.last is not None else inode
        size = sum(way.foreseen.values())
        for file in self._next_files(begin, by_name=way.walk.by_name):
            size += file.size
            if len(way.foreseen) >= wanted or size > BUDGET:
                return
            if file.ino not in way.foreseen:
                way.foreseen[file.ino] = file.size
                way.last = file
                self._nursery.start_soon(self._fetch, way, file)

    async def _fetch(self, way: _Way, file: Inode) -> None:
        assert file.rev is not None  # noqa: S101
        async with self._connections:
            if not way.over:
                version = Version(file.rev, file.hash, file.base_size or 0)
                await self._fetcher.prefetch(version)

    def _next_files(self, inode: Inode, *, by_name: bool) -> Iterator[Inode]:
        """The small files that come after one in an order; in that of the listing, also those of
        the folders that come after it."""
        order = self._by_name(inode) if by_name else self._by_listing(inode)
        return filter(self._is_worth_it, itertools.islice(order, LOOKED_AT))

    def _by_name(self, inode: Inode) -> Iterator[Inode]:
        after = "parent = ? AND key > ? ORDER BY key LIMIT ?"
        yield from self._tree.select(after, inode.parent, inode.key, LOOKED_AT)

    def _by_listing(self, inode: Inode) -> Iterator[Inode]:
        at: Inode | None = inode
        while at is not None and at.parent is not None and at.ino != ROOT_INO:
            for entry in self._tree.children(at.parent, at.ino, LOOKED_AT):
                yield from self._below(entry)
            at = self._tree.find(at.parent)

    def _below(self, entry: Inode) -> Iterator[Inode]:
        if not entry.is_folder:
            yield entry
        elif self._tree.children_known(entry):
            for child in self._tree.children(entry.ino, 0, LOOKED_AT):
                yield from self._below(child)

    def _is_worth_it(self, entry: Inode) -> bool:
        return (
            not entry.is_folder
            and entry.rev is not None
            and 0 < entry.size <= LARGEST
            and bool(entry.downloadable)
            and not self._tree.has_content(entry.ino)
        )
