"""The tree as Dropbox changes it: pages of the feed, of a crawl, and listings on demand.

A page is applied as one transaction together with its cursor, so a kill between two pages costs
nothing. Entries are applied in order, as the API reference asks: a file or folder at a path takes
that place, a deletion takes what is below with it. What a deletion takes is first put into
*limbo* (`seen = -1`) and dropped only at the end of the batch: a move arrives as a deletion and
an addition with the same id, maybe on different pages, and must keep its inode.

A crawl (the first one, or another one after a cursor reset) numbers itself, and each entry that
it lists is stamped with the number; what bears an older one when it ends is gone from Dropbox.
So a reset costs a difference, not the tree.

What was decided in `core.reconcile` is carried out here. The methods give the kernel entries that
became stale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dbxfs.core import reconcile
from dbxfs.core.model import (
    Cursor,
    DeletedEntry,
    Entry,
    FileEntry,
    FolderEntry,
    Page,
    RemotePath,
)
from dbxfs.core.names import fold

from . import attributes
from . import inode as effects
from .inode import FILE, FOLDER, ROOT_INO, Effect, Inode
from .moves import Moves
from .places import BasePlaces
from .sent import Sent
from .tree import Tree

SLICE = 10
"""Entries that are usually applied in one transaction, in a few milliseconds."""
LIMBO = -1

NOT_SEEN = {"base_attributes", "mtime_set"}
"""Columns of attributes that say nothing to programs."""

NO_BASE: dict[str, object] = dict.fromkeys(
    ("id", "base_parent", "base_name", "base_key", "base_attributes")
)
"""Dropbox does not have it. The revision stays: who has it open reads on by that."""


class RemoteChanges:
    """Applies to a tree what Dropbox reports."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database
        self._sent = Sent(tree)
        self._effects: list[Effect] = []
        self._touched: set[int] = set()
        self._timed: set[int] = set()
        """Folders whose time a program has set elsewhere, as this page tells."""
        self._folders: dict[str, int] = {}
        self._epoch = self._stamp = int(self._database.get_meta("epoch") or 0)
        self._quiet = False
        self._depth = tree.root.count("/")
        self._places = BasePlaces(tree)
        self._moves = Moves(tree)

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
        self._epoch = self._stamp = int(self._database.get_meta("epoch") or 0) + 1
        self._database.set_meta("epoch", str(self._epoch))

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
        self._timed = set()
        starts = range(0, len(page.entries), size) or range(1)
        for start in starts:
            self._quiet = crawling and not self.complete
            with self._change():
                if start == 0 and self.cursor is None:
                    self._number_crawl()
                for entry in page.entries[start : start + size]:
                    self._apply(entry)
                if start == starts[-1]:
                    self._end_page(page, crawling)
            yield self._take_effects()

    def _end_page(self, page: Page, crawling: bool) -> None:
        if not page.has_more:
            if crawling:
                self._end_crawl()
            self._drop_limbo()
            self._sent.forget_old()
            self._database.execute("DELETE FROM moved")
        self._database.set_meta("cursor", page.cursor)

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
            self._quiet = True
            self._stamp = self._epoch - 1
            try:
                with self._change():
                    for entry in entries[start : start + size]:
                        if not isinstance(entry, DeletedEntry) and self._is_news(folder, entry):
                            self._apply(entry)
                    if start + size >= len(entries):
                        self._tree.update(folder, listed=1)
            finally:
                self._stamp = self._epoch
            yield self._take_effects()

    def _is_at(self, folder: int, path: RemotePath) -> bool:
        return self._tree.find(folder) is not None and self._tree.base_path(folder) == path

    def _is_news(self, folder: int, entry: FileEntry | FolderEntry) -> bool:
        """Whether a listing tells of something that neither the crawl nor a program has changed."""
        occupant = self._tree.child(folder, entry.name)
        if occupant is not None and self._is_journaled(occupant.ino):
            return False
        listed = self._tree.select_one(
            "seen = ? AND (id = ? OR (base_parent = ? AND base_key = ?))",
            self._epoch,
            entry.id,
            folder,
            fold(entry.name),
        )
        return listed is None

    # ---- One entry ----

    def _apply(self, entry: Entry) -> None:
        if entry.path.count("/") <= self._depth:
            # The mounted folder itself, or one above it.
            if isinstance(entry, DeletedEntry):
                for child in list(self._tree.select("base_parent = ?", ROOT_INO)):
                    self._delete(child)
            return
        if isinstance(entry, DeletedEntry):
            inode = self._places.at_path(entry.path) or self._places.at_old_path(entry.path)
            if inode is not None:
                self._delete(inode)
            return
        if self._is_superseded(entry):
            seen = self._tree.select_one("id = ? AND seen >= 0", entry.id)
            if seen is not None:
                self._tree.update(seen.ino, seen=self._epoch)
            self._follow_attributes_alone(entry)
            return
        parent, key = self._place_of(entry.path)
        known = self._tree.select_one("id = ?", entry.id)
        own = self._own_unseen(known, entry, parent, key)
        if own is not None and known is not None:
            self._hand_over(known)
            known = None
        if known is not None and self._places.is_below(parent, known.ino):
            # Its place went to another folder, of which we have not been told.
            self._tree.update(known.ino, id=None)
            known = None
        at_place = self._places.at(parent, key)
        if at_place is not None and (known is None or at_place.ino != known.ino):
            if known is None and self._is_same_folder(at_place, entry):
                known = at_place
            else:
                if known is not None and self._is_same_folder(known, entry):
                    self._take_over(at_place, known)
                self._delete(at_place)
        if known is None and own is not None:
            self._adopt(own, entry, parent, key)
        elif known is None:
            self._add(entry, parent, key)
        else:
            self._change_known(known, entry, parent, key)

    def _take_over(self, named: Inode, folder: Inode) -> None:
        """A folder that paths have named already is one that has moved there: its entries are its.

        Dropbox tells of a folder after what is in it where the folder was changed last.
        """
        if named.id is not None:
            return
        for child in list(self._tree.select("base_parent = ?", named.ino)):
            other = None if child.base_key is None else self._places.at(folder.ino, child.base_key)
            if other is not None:
                self._delete(other)
            self._tree.update(child.ino, base_parent=folder.ino)
        for child in self._tree.children(named.ino):
            occupant = self._tree.child(folder.ino, child.name)
            if occupant is not None:
                self._make_way(occupant)
            self._stale_entry(named.ino, child.name, child.ino)
            self._tree.update(child.ino, parent=folder.ino)
            self._stale_entry(folder.ino, child.name, 0)
        self._folders.clear()

    def _is_same_folder(self, inode: Inode, entry: FileEntry | FolderEntry) -> bool:
        """A folder that is reported where one stands: it stays, its children with it."""
        return inode.is_folder and isinstance(entry, FolderEntry)

    def _own_unseen(
        self, known: Inode | None, entry: FileEntry | FolderEntry, parent: int, key: str
    ) -> Inode | None:
        """The inode that we sent as this entry and did not know to be on Dropbox.

        `known`: who has the entry's identity here; a file that was replaced by a rename over it
        still has it.
        """
        sender = self._sent.sender(entry, parent, key)
        if sender is None or sender.base_parent is not None:
            return None
        return sender if known is None or known.parent is None else None

    def _adopt(self, inode: Inode, entry: FileEntry | FolderEntry, parent: int, key: str) -> None:
        """What we sent is there; what programs have done with it since is still to be sent."""
        if (inode.parent, inode.name) == (parent, entry.name):
            self._add(entry, parent, key)
        else:
            columns = self._base_columns(entry, parent, key)
            columns |= self._follow_attributes(inode, entry, content=False)
            self._tree.update(inode.ino, **columns)
            if isinstance(entry, FileEntry):
                self._own_commit(inode, entry)
            else:
                self._folders[entry.path] = inode.ino
            self._tree.mark_pending(inode.ino)
        self._sent.answered(inode.ino)

    def _hand_over(self, inode: Inode) -> None:
        """An unlinked inode's identity is another's now: nothing is left to delete."""
        self._tree.update(inode.ino, **NO_BASE)
        self._database.execute("DELETE FROM journal WHERE ino = ?", inode.ino)
        self._tree.drop_unused(inode.ino)

    def _add(self, entry: FileEntry | FolderEntry, parent: int, key: str) -> None:
        self._revive(parent)
        merged = self._clear_place(parent, key, entry)
        base = self._base_columns(entry, parent, key)
        if merged is not None:
            # Others see the name already: it is spelled as they chose.
            self._stale_entry(parent, merged.name, merged.ino)
            self._stale_entry(parent, entry.name, 0)
            base |= {"name": entry.name, "key": key, "listed": 0 if self._quiet else 1}
            base |= self._follow_attributes(merged, entry, content=False)
            self._tree.update(merged.ino, **base)
            if isinstance(entry, FileEntry):
                self._own_commit(merged, entry)
            else:
                self._database.execute("DELETE FROM journal WHERE ino = ?", merged.ino)
                self._send_attributes(merged.ino)
            return
        now = self._tree.clock()
        if isinstance(entry, FileEntry):
            shown: dict[str, object] = {"size": entry.size, "kind": FILE}
            shown["mtime_ns"] = entry.client_modified_ns
        else:
            shown = {"size": 0, "mtime_ns": now, "kind": FOLDER}
        shown |= attributes.of_new(entry, setuid=self._tree.setuid)
        ino = self._tree.insert(
            parent=parent,
            name=entry.name,
            key=key,
            ctime_ns=now,
            listed=0 if self._quiet else 1,
            **shown,
            **base,
        )
        if isinstance(entry, FolderEntry):
            self._folders[entry.path] = ino
        if "mtime_set" in shown:
            self._timed.add(ino)
        self._stale_entry(parent, entry.name, 0)

    def _change_known(
        self, inode: Inode, entry: FileEntry | FolderEntry, parent: int, key: str
    ) -> None:
        pending = self.pending(inode)
        content_changed = isinstance(entry, FileEntry) and _differs(entry, inode)
        if pending.deletion and isinstance(entry, FileEntry):
            sender = self._sent.sender(entry, parent, key)
            if sender is not None and sender.ino == inode.ino:
                # Removed here before the reply to its last commit came.
                self._own_commit(inode, entry)
                self._sent.answered(inode.ino)
                content_changed = False
        follow = reconcile.on_entry(pending, content_changed=content_changed)
        columns = self._base_columns(entry, parent, key)
        if follow.revive:
            self._database.execute("DELETE FROM journal WHERE ino = ?", inode.ino)
            # What was written before the deletion went with it.
            self._tree.on_delete(inode.ino)
        if isinstance(entry, FileEntry):
            if pending.content and self._was_sent(inode, entry):
                self._own_commit(inode, entry)
            elif follow.content or pending.content:
                self._effects += self._tree.new_revision(inode, entry)
        if follow.place and (inode.parent, inode.name) != (parent, entry.name):
            self._revive(parent)
            self._clear_place(parent, key, entry, but=inode.ino)
            columns |= {"parent": parent, "name": entry.name, "key": key}
            if inode.parent is not None:
                self._stale_entry(inode.parent, inode.name, inode.ino)
            self._stale_entry(parent, entry.name, 0)
        if inode.is_folder:
            self._folders.clear()
        columns |= self._follow_attributes(inode, entry, content=not pending.content)
        self._tree.update(inode.ino, **columns)
        if inode.id not in (None, entry.id):
            self._send_attributes(inode.ino)
        if self._tree.has_content(inode.ino) and not self._is_journaled(inode.ino):
            # Written while it was in limbo, when nothing could be pending.
            self._tree.mark_pending(inode.ino)

    def _follow_attributes(
        self, inode: Inode, entry: FileEntry | FolderEntry, *, content: bool
    ) -> dict[str, object]:
        """The columns that follow the entry's attributes; tells the kernel where any does."""
        columns = attributes.following(inode, entry, content=content, setuid=self._tree.setuid)
        replaced = content and isinstance(entry, FileEntry) and _differs(entry, inode)
        if any(columns[name] != getattr(inode, name) for name in columns.keys() - NOT_SEEN):
            columns["ctime_ns"] = self._tree.clock()
            if not replaced:
                self._effects.append(effects.Attributes(inode.ino))
        if columns.get("link", inode.link) != inode.link and inode.parent is not None:
            # Another kind of file: the kernel wants a new inode for it.
            self._effects.append(effects.Entry(inode.parent, inode.name))
        if "mtime_set" in columns:
            self._timed.add(inode.ino)
        return columns

    def _follow_attributes_alone(self, entry: FileEntry | FolderEntry) -> None:
        """The revision may have been given back to an inode of its own, and no reply told these."""
        known = self._tree.select_one("id = ?", entry.id)
        if known is not None and isinstance(entry, FileEntry) and known.rev == entry.rev:
            content = not self.pending(known).content
            columns = self._follow_attributes(known, entry, content=content)
            if columns:
                self._tree.update(known.ino, **columns)

    def _base_columns(
        self, entry: FileEntry | FolderEntry, parent: int, key: str
    ) -> dict[str, object]:
        columns: dict[str, object] = {
            "id": entry.id,
            "base_parent": parent,
            "base_name": entry.name,
            "base_key": key,
            "read_only": int(entry.read_only),
            "seen": self._stamp,
        }
        if isinstance(entry, FileEntry):
            columns |= {
                "rev": entry.rev,
                "hash": entry.content_hash,
                "base_size": entry.size,
                "base_mtime_ns": entry.client_modified_ns,
                "downloadable": int(entry.downloadable),
                "export_as": entry.export_as,
            }
        return columns

    # ---- Deletions ----

    def _delete(self, inode: Inode) -> None:
        """Dropbox no longer has it, nor what was below."""
        if inode.is_folder:
            self._folders.clear()
        self._remove(inode)

    def _remove(self, inode: Inode, *, top: bool = True) -> None:
        """Put what a remote deletion takes into limbo.

        What nothing local is pending in is out of sight at once. The rest, and what is below,
        keeps its place until the batch ends: should it come back under another name, pending
        work goes there with it.
        """
        if inode.is_folder:
            below = "base_parent = ? AND base_key IS NOT NULL"
            for child in list(self._tree.select(below, inode.ino)):
                self._remove(child, top=False)
        self._tree.update(inode.ino, base_key=None, seen=LIMBO)
        if not top or inode.parent is None or self.pending(inode).place:
            return
        if not self._stays(self._tree.get(inode.ino)):
            self._hide(inode)

    def _hide(self, inode: Inode) -> None:
        """Put what is in limbo out of sight."""
        assert inode.parent is not None  # noqa: S101
        self._stale_entry(inode.parent, inode.name, inode.ino)
        self._tree.update(inode.ino, parent=None)
        self._database.execute("DELETE FROM journal WHERE ino = ?", inode.ino)

    def _stays(self, inode: Inode) -> bool:
        """Whether programs keep it, should what is in limbo not come back."""
        if inode.seen >= 0:
            return True
        survivors = inode.is_folder and any(
            self._stays(child) for child in list(self._tree.select("parent = ?", inode.ino))
        )
        pending = replace(self.pending(inode), place=self._moved_here(inode))
        fate = reconcile.on_deleted(pending, holds_survivors=survivors)
        return fate is reconcile.Fate.KEEP_AS_NEW

    def _moved_here(self, inode: Inode) -> bool:
        """Whether a program has moved it, or a folder that went with it, to where it is."""
        at: Inode | None = inode
        while at is not None and at.seen == LIMBO and at.parent is not None:
            if at.base_parent is not None and at.moved:
                return True
            at = self._tree.find(at.parent)
        return False

    def _drop_limbo(self) -> None:
        """The batch is over: what did not come back is gone, or new where work is pending."""
        for inode in list(self._tree.select("seen < 0 AND parent IS NULL")):
            if self._stays(inode):
                # Since it went out of sight, somebody has written to what is in it.
                self._revive(inode.ino)
        for inode in list(self._tree.select("seen < 0")):
            self._resolve(inode.ino)

    def _resolve(self, ino: int) -> None:
        inode = self._tree.find(ino)
        if inode is None or inode.seen >= 0:
            return
        if inode.is_folder:
            for child in list(self._tree.select("parent = ? AND seen < 0", ino)):
                self._resolve(child.ino)
        stays = self._stays(inode)
        self._tree.update(ino, seen=self._epoch, **NO_BASE)
        if stays:
            if not inode.is_folder:
                self._tree.hold_content(self._tree.get(ino))
            self._tree.mark_pending(ino)
            return
        if inode.parent is not None:
            self._stale_entry(inode.parent, inode.name, ino)
        self._tree.update(ino, parent=None)
        self._database.execute("DELETE FROM journal WHERE ino = ?", ino)
        self._hand_pin_on(inode)
        self._tree.drop_unused(ino)

    def _hand_pin_on(self, inode: Inode) -> None:
        """A pinned file that is gone, where another one has taken its name in the same batch."""
        if inode.base_parent is None or inode.base_name is None:
            return
        if self._database.exists("pin", inode.ino):
            successor = self._tree.child(inode.base_parent, inode.base_name)
            if successor is not None and successor.kind == inode.kind:
                self._tree.hand_pin_on(inode.ino, successor.ino)

    def _end_crawl(self) -> None:
        """What this crawl did not list is gone."""
        missed = self._database.execute(
            "SELECT ino FROM inode WHERE base_key IS NOT NULL AND seen != ?",
            self._epoch,
        ).fetchall()
        for (ino,) in missed:
            inode = self._tree.find(ino)
            if inode is not None and inode.base_key is not None:
                self._delete(inode)
        self._send_unkept_attributes()
        self._database.set_meta("crawl", "done")
        self._database.set_meta("crawled", "1")
        self._database.execute("DELETE FROM superseded")

    def _send_unkept_attributes(self) -> None:
        """What was set while Dropbox could not keep it, and it turns out to have nothing of."""
        rows = self._database.execute(
            "SELECT ino FROM inode WHERE id IS NOT NULL AND base_attributes IS NULL"
            " AND coalesce(mode, uid, gid, link, xattrs) IS NOT NULL"
        )
        for (ino,) in rows.fetchall():
            self._send_attributes(ino)

    def _send_attributes(self, ino: int) -> None:
        inode = self._tree.get(ino)
        if inode.parent is not None and self._tree.attributes_to_send(inode):
            self._tree.mark_pending(ino)

    # ---- Places ----

    def _place_of(self, path: RemotePath) -> tuple[int, str]:
        """The folder and key that a path names; folders that are missing are made."""
        folder, _, name = path.rpartition("/")
        return self._folder_at(folder), fold(name)

    def _folder_at(self, path: str) -> int:
        if path.count("/") <= self._depth:
            return ROOT_INO
        ino = self._folders.get(path)
        if ino is not None:
            return ino
        upper, _, name = path.rpartition("/")
        parent, key = self._folder_at(upper), fold(name)
        found = self._places.at(parent, key)
        if found is not None and not found.is_folder:
            self._delete(found)
            found = None
        ino = self._make_unreported_folder(parent, name, key) if found is None else found.ino
        self._folders[path] = ino
        return ino

    def _make_unreported_folder(self, parent: int, name: str, key: str) -> int:
        """A folder that Dropbox names only as part of a path; its own entry is still to come."""
        self._revive(parent)
        base: dict[str, object] = {
            "base_parent": parent,
            "base_name": name,
            "base_key": key,
            "seen": self._epoch,
        }
        merged = self._clear_place(parent, key, None)
        if merged is not None:
            self._tree.update(merged.ino, **base)
            return merged.ino
        now = self._tree.clock()
        self._stale_entry(parent, name, 0)
        return self._tree.insert(
            parent=parent,
            name=name,
            key=key,
            kind=FOLDER,
            mtime_ns=now,
            ctime_ns=now,
            listed=0 if self._quiet else 1,
            **base,
        )

    def _clear_place(
        self, parent: int, key: str, entry: FileEntry | FolderEntry | None, but: int = 0
    ) -> Inode | None:
        """Make the local name free for a remote entry; gives the inode to merge with, if any."""
        occupant = self._tree.select_one("parent = ? AND key = ?", parent, key)
        if occupant is None or occupant.ino == but:
            return None
        verdict = reconcile.on_collision(
            same_content=isinstance(entry, FileEntry) and self._was_sent(occupant, entry),
            local_folder=occupant.is_folder,
            remote_folder=not isinstance(entry, FileEntry),
            local_has_base=occupant.base_key is not None,
        )
        if verdict is reconcile.Collision.MERGE and not but:
            return occupant
        self._make_way(occupant)
        return None

    def _make_way(self, occupant: Inode) -> None:
        """A remote entry takes the name of a local one."""
        if occupant.seen == LIMBO and not self._stays(occupant):
            # It went with the folder that it was in, and has not come back with it.
            self._hide(occupant)
            return
        for place in self._tree.step_aside(occupant):
            self._stale_entry(*place, 0)

    def _revive(self, folder: int) -> None:
        """Give up the pending deletion of a folder into which something came from elsewhere."""
        for parent, name in self._tree.revive(folder):
            self._stale_entry(parent, name, 0)

    # ---- Facts ----

    def pending(self, inode: Inode) -> reconcile.Pending:
        """What Dropbox does not know yet of the inode."""
        if inode.parent is None:
            return reconcile.Pending(deletion=self._is_journaled(inode.ino))
        return reconcile.Pending(
            content=self._tree.has_content(inode.ino),
            place=inode.base_parent is not None and inode.moved,
        )

    def _is_journaled(self, ino: int) -> bool:
        return self._database.exists("journal", ino)

    def _was_sent(self, inode: Inode, entry: FileEntry) -> bool:
        """Whether the entry is what we tried to commit for the inode."""
        row = self._database.execute("SELECT sent_hash FROM staging WHERE ino = ?", inode.ino)
        return entry.content_hash is not None and row.fetchone() == (entry.content_hash,)

    def _own_commit(self, inode: Inode, entry: FileEntry) -> None:
        """A commit whose reply was lost: what is staged goes on from there."""
        self._database.execute(
            "UPDATE staging SET from_rev = ?, from_hash = ?, from_size = ? WHERE ino = ?",
            entry.rev,
            entry.content_hash,
            entry.size,
            inode.ino,
        )
        self._database.execute("UPDATE journal SET shown_rev = NULL WHERE ino = ?", inode.ino)

    def _is_superseded(self, entry: FileEntry | FolderEntry) -> bool:
        token = entry.rev if isinstance(entry, FileEntry) else entry.id
        return (
            self._database.execute("SELECT 1 FROM superseded WHERE token = ?", token).fetchone()
            is not None
        )

    # ---- The frame of a change ----

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        self._effects, self._touched, self._folders = [], set(), {}
        # What is listed for the first time was always there.
        noted = contextlib.nullcontext() if self._quiet else self._moves.noted()
        try:
            with self._database.transaction(), noted:
                yield
                now = self._tree.clock()
                for ino in self._touched - self._timed:
                    self._tree.update(ino, mtime_ns=now, ctime_ns=now, mtime_set=None)
                    self._effects.append(effects.Attributes(ino))
        except BaseException:
            self._tree.forget_hot()
            raise

    def _stale_entry(self, parent: int, name: str, ino: int) -> None:
        self._effects.append(effects.Entry(parent, name, ino))
        if not self._quiet:
            self._touched.add(parent)

    def _take_effects(self) -> list[Effect]:
        taken, self._effects = self._effects, []
        stale = [self._as_move_where_it_lives_on(effect) for effect in taken]
        return [*stale, *self._moves.take()]

    def _as_move_where_it_lives_on(self, effect: Effect) -> Effect:
        """The kernel buries what it is told is deleted, also for who has it open.

        So it must not be told of what has moved, nor of what may still turn out to have moved.
        """
        if not isinstance(effect, effects.Entry) or not effect.ino:
            return effect
        inode = self._tree.find(effect.ino)
        lives_on = inode is not None and (inode.parent is not None or inode.seen == LIMBO)
        return effects.Entry(effect.parent, effect.name) if lives_on else effect


def _differs(entry: FileEntry, inode: Inode) -> bool:
    """Whether the entry's content is not the inode's base."""
    if entry.content_hash is None:
        return entry.rev != inode.rev
    return entry.content_hash != inode.hash
