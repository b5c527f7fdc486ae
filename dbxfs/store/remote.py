"""The tree as Dropbox changes it: pages of the feed, of a crawl, and listings on demand.

A page is applied in slices, each one transaction, the last one with the page's cursor: a kill costs
at most that a page comes again. Entries are applied in order (`entries`), as the API reference
asks: a file or folder at a path takes that place, a deletion takes what is below with it, first
into limbo (`limbo`).

A crawl (the first one, or another one after a cursor reset) numbers itself, and each entry that
it lists is stamped with the number; what bears an older one when it ends is gone from Dropbox.
So a reset costs a difference, not the tree.

The methods give what became stale in the kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from dbxfs.core.model import Cursor, DeletedEntry, Entry, FileEntry, FolderEntry, Page, RemotePath
from dbxfs.core.names import fold

from .entries import Entries, Stamps
from .inode import Effect
from .limbo import Limbo
from .news import News
from .pending import is_journaled
from .sent import Sent
from .tree import Tree

SLICE = 10
"""Entries that are usually applied in one transaction, in a few milliseconds."""


class RemoteChanges:
    """Applies to a tree what Dropbox reports."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database
        self._sent = Sent(tree)
        self._news = News(tree)
        self._limbo = Limbo(tree, self._news)
        number = int(self._database.get_meta("epoch") or 0)
        self._stamps = Stamps(number, number)
        self._entries = Entries(tree, self._stamps, self._sent, self._news, self._limbo)

    # ---- The feed's position ----

    @property
    def templates(self) -> tuple[str, ...]:
        """The property templates whose fields come with the cursor."""
        return tuple((self._database.get_meta("listed_templates") or "").split())

    def list_with(self, templates: tuple[str, ...]) -> None:
        """The crawl that begins now is asked for with these."""
        self._database.set_meta("listed_templates", " ".join(templates) or None)

    @property
    def cursor(self) -> Cursor | None:
        """Where the feed goes on; None: a crawl has to begin."""
        value = self._database.get_meta("cursor")
        return None if value is None else Cursor(value)

    @property
    def crawling(self) -> bool:
        """Whether the pages that come now are those of a crawl."""
        return self._database.get_meta("crawl") != "done"

    @property
    def complete(self) -> bool:
        """Whether one crawl was ever finished: every folder's entries are known."""
        return self._database.get_meta("crawled") == "1"

    def begin_crawl(self) -> None:
        """Forget the cursor, keep the tree; the next page is a crawl's first."""
        with self._database.transaction():
            self._number_crawl()
            self._database.set_meta("crawl", "running")
            self._database.set_meta("cursor", None)
            self._database.execute("DELETE FROM moved")

    def _number_crawl(self) -> None:
        """A listing begins.

        Its first page, should it be broken off, is asked for anew: what the old one had and the
        new one has not must not count as listed.
        """
        number = int(self._database.get_meta("epoch") or 0) + 1
        self._stamps.crawl = self._stamps.listed = number
        self._database.set_meta("epoch", str(number))

    def checkpoint(self) -> None:
        """Keep the database's log short. Blocks: call it in a thread."""
        self._database.checkpoint()

    # ---- Pages ----

    def apply_page(self, page: Page) -> list[Effect]:
        """Apply a page of the crawl or the feed and store its cursor."""
        return [effect for slice_ in self.apply_in_slices(page, SLICE) for effect in slice_]

    def apply_in_slices(self, page: Page, size: int) -> Iterator[list[Effect]]:
        """Apply a page a few entries at a time, so that programs need not wait for all of it.

        Its cursor is stored with the last slice. A page that was broken off comes again whole, and
        what it tells then of entries that are applied already is no news.
        """
        crawling = self.crawling
        self._news.new_page()
        starts = range(0, len(page.entries), size) or range(1)
        for start in starts:
            with self._change(first=crawling and not self.complete):
                if start == 0 and self.cursor is None:
                    self._number_crawl()
                for entry in page.entries[start : start + size]:
                    self._entries.apply(entry)
                if start == starts[-1]:
                    self._end_page(page, crawling)
            yield self._news.take()

    def _end_page(self, page: Page, crawling: bool) -> None:
        if not page.has_more:
            if crawling:
                self._end_crawl()
            self._limbo.empty(self._stamps.crawl)
            self._sent.forget_old()
            self._database.execute("DELETE FROM moved")
        self._database.set_meta("cursor", page.cursor)

    def _end_crawl(self) -> None:
        """What this crawl did not list is gone."""
        missed = self._database.execute(
            "SELECT ino FROM inode WHERE base_key IS NOT NULL AND seen != ?",
            self._stamps.crawl,
        ).fetchall()
        for (ino,) in missed:
            inode = self._tree.find(ino)
            if inode is not None and inode.base_key is not None:
                self._entries.delete(inode)
        self._entries.send_unkept_attributes()
        self._database.set_meta("crawl", "done")
        self._database.set_meta("crawled", "1")
        self._database.execute("DELETE FROM superseded")

    def apply_listing(
        self, folder: int, path: RemotePath, entries: Sequence[Entry], size: int = SLICE
    ) -> Iterator[list[Effect]]:
        """Apply the complete listing of one folder that the crawl has not reached, in slices.

        `path`: where it was listed. Where it is there no more, it has to be listed again.

        Where something local is pending at a name, the crawl decides later: a listing can come
        between a commit and its reply. What the crawl has listed since is newer, and what only
        this listing has goes again if the crawl does not find it.
        """
        for start in range(0, len(entries), size) or range(1):
            if self.complete or not self._is_at(folder, path):
                return
            self._stamps.listed = self._stamps.crawl - 1
            try:
                with self._change(first=True):
                    for entry in entries[start : start + size]:
                        if not isinstance(entry, DeletedEntry) and self._is_news(folder, entry):
                            self._entries.apply(entry)
                    if start + size >= len(entries):
                        self._tree.update(folder, listed=1)
            finally:
                self._stamps.listed = self._stamps.crawl
            yield self._news.take()

    def _is_at(self, folder: int, path: RemotePath) -> bool:
        return self._tree.find(folder) is not None and self._tree.base_path(folder) == path

    def _is_news(self, folder: int, entry: FileEntry | FolderEntry) -> bool:
        """Whether a listing tells of something that neither the crawl nor a program has changed."""
        occupant = self._tree.child(folder, entry.name)
        if occupant is not None and is_journaled(self._tree, occupant.ino):
            return False
        listed = self._tree.select_one(
            "seen = ? AND (id = ? OR (base_parent = ? AND base_key = ?))",
            self._stamps.crawl,
            entry.id,
            folder,
            fold(entry.name),
        )
        return listed is None

    @contextlib.contextmanager
    def _change(self, *, first: bool) -> Iterator[None]:
        """What is changed within is stored as one. `first`: it is listed for the first time."""
        self._entries.begin(first=first)
        try:
            with self._database.transaction(), self._news.gathered(first=first):
                yield
        except BaseException:
            self._tree.forget_hot()
            raise
