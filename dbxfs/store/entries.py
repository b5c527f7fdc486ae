"""One entry that Dropbox reports, applied to the tree.

The feed names things by path, so an entry is first brought to its place: by what Dropbox has there
as far as we know, by its identity, and by what we have sent ourselves without hearing of it since.
What it means beside changes that are pending here is decided in `core.reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbxfs.core import reconcile
from dbxfs.core.model import DeletedEntry, Entry, FileEntry, FolderEntry, RemotePath
from dbxfs.core.names import fold

from . import attributes
from .inode import FILE, FOLDER, ROOT_INO, Inode
from .limbo import NO_BASE, Limbo
from .news import News
from .pending import forget, is_journaled, pending
from .places import BasePlaces
from .sent import Sent
from .tree import Tree

NOT_SEEN = {"base_attributes", "mtime_set"}
"""Columns of attributes that say nothing to programs."""


@dataclass(slots=True)
class Stamps:
    """Numbers by which it is known what a crawl has listed."""

    crawl: int
    """That of the last crawl."""
    listed: int
    """What entries are stamped with now: less than a crawl's while a mere listing is applied."""


class Entries:
    """Applies the entries of a page or a listing, one after the other."""

    def __init__(self, tree: Tree, stamps: Stamps, sent: Sent, news: News, limbo: Limbo) -> None:
        self._tree = tree
        self._database = tree.database
        self._stamps = stamps
        self._sent = sent
        self._news = news
        self._limbo = limbo
        self._places = BasePlaces(tree)
        self._depth = tree.root.count("/")
        self._folders: dict[str, int] = {}
        self._first = False

    def begin(self, *, first: bool) -> None:
        """A transaction begins. `first`: what comes is listed for the first time."""
        self._folders, self._first = {}, first

    def apply(self, entry: Entry) -> None:
        """Make the tree what the entry says, as far as nothing local is in the way."""
        inside = entry.path.count("/") > self._depth  # else the mounted folder, or one above it
        if isinstance(entry, DeletedEntry):
            gone = self._gone(entry) if inside else self._tree.select("base_parent = ?", ROOT_INO)
            for inode in list(gone):
                self.delete(inode)
        elif inside and self._is_superseded(entry):
            seen = self._tree.select_one("id = ? AND seen >= 0", entry.id)
            if seen is not None:
                self._tree.update(seen.ino, seen=self._stamps.crawl)
            self._follow_attributes_alone(entry)
        elif inside:
            self._put_in_place(entry)

    def delete(self, inode: Inode) -> None:
        """Dropbox no longer has it, nor what was below."""
        if inode.is_folder:
            self._folders.clear()
        self._limbo.put(inode)

    def send_unkept_attributes(self) -> None:
        """What was set while Dropbox could not keep it, and it turns out to have nothing of."""
        rows = self._database.execute(
            "SELECT ino FROM inode WHERE id IS NOT NULL AND base_attributes IS NULL"
            " AND coalesce(mode, uid, gid, link, xattrs) IS NOT NULL"
        )
        for (ino,) in rows.fetchall():
            self._send_attributes(ino)

    def _gone(self, entry: DeletedEntry) -> Iterator[Inode]:
        inode = self._places.at_path(entry.path) or self._places.at_old_path(entry.path)
        if inode is not None:
            yield inode

    # ---- An entry and its inode ----

    def _put_in_place(self, entry: FileEntry | FolderEntry) -> None:
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
                self.delete(at_place)
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
                self.delete(other)
            self._tree.update(child.ino, base_parent=folder.ino)
        for child in self._tree.children(named.ino):
            occupant = self._tree.child(folder.ino, child.name)
            if occupant is not None:
                self._make_way(occupant)
            self._news.entry(named.ino, child.name, child.ino)
            self._tree.update(child.ino, parent=folder.ino)
            self._news.entry(folder.ino, child.name)
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
        forget(self._tree, inode.ino)
        self._tree.drop_unused(inode.ino)

    def _add(self, entry: FileEntry | FolderEntry, parent: int, key: str) -> None:
        self._limbo.revive(parent)
        merged = self._clear_place(parent, key, entry)
        base = self._base_columns(entry, parent, key)
        if merged is not None:
            # Others see the name already: it is spelled as they chose.
            self._news.entry(parent, merged.name, merged.ino)
            self._news.entry(parent, entry.name)
            base |= {"name": entry.name, "key": key, "listed": 0 if self._first else 1}
            base |= self._follow_attributes(merged, entry, content=False)
            self._tree.update(merged.ino, **base)
            if isinstance(entry, FileEntry):
                self._own_commit(merged, entry)
            else:
                forget(self._tree, merged.ino)
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
            listed=0 if self._first else 1,
            **shown,
            **base,
        )
        if isinstance(entry, FolderEntry):
            self._folders[entry.path] = ino
        if "mtime_set" in shown:
            self._news.time_set(ino)
        self._news.entry(parent, entry.name)

    def _change_known(
        self, inode: Inode, entry: FileEntry | FolderEntry, parent: int, key: str
    ) -> None:
        unsent = pending(self._tree, inode)
        content_changed = isinstance(entry, FileEntry) and _differs(entry, inode)
        if unsent.deletion and isinstance(entry, FileEntry):
            sender = self._sent.sender(entry, parent, key)
            if sender is not None and sender.ino == inode.ino:
                # Removed here before the reply to its last commit came.
                self._own_commit(inode, entry)
                self._sent.answered(inode.ino)
                content_changed = False
        follow = reconcile.on_entry(unsent, content_changed=content_changed)
        columns = self._base_columns(entry, parent, key)
        if follow.revive:
            forget(self._tree, inode.ino)
            # What was written before the deletion went with it.
            self._tree.on_delete(inode.ino)
        if isinstance(entry, FileEntry):
            if unsent.content and self._was_sent(inode, entry):
                self._own_commit(inode, entry)
            elif follow.content or unsent.content:
                self._news.add(self._tree.new_revision(inode, entry))
        if follow.place and (inode.parent, inode.name) != (parent, entry.name):
            self._limbo.revive(parent)
            self._clear_place(parent, key, entry, but=inode.ino)
            columns |= {"parent": parent, "name": entry.name, "key": key}
            if inode.parent is not None:
                self._news.entry(inode.parent, inode.name, inode.ino)
            self._news.entry(parent, entry.name)
        if inode.is_folder:
            self._folders.clear()
        columns |= self._follow_attributes(inode, entry, content=not unsent.content)
        self._tree.update(inode.ino, **columns)
        if inode.id not in (None, entry.id):
            self._send_attributes(inode.ino)
        if self._tree.has_content(inode.ino) and not is_journaled(self._tree, inode.ino):
            # Written while it was in limbo, when nothing could be pending.
            self._tree.mark_pending(inode.ino)

    # ---- Columns ----

    def _follow_attributes(
        self, inode: Inode, entry: FileEntry | FolderEntry, *, content: bool
    ) -> dict[str, object]:
        """The columns that follow the entry's attributes; tells the kernel where any does."""
        columns = attributes.following(inode, entry, content=content, setuid=self._tree.setuid)
        replaced = content and isinstance(entry, FileEntry) and _differs(entry, inode)
        if any(columns[name] != getattr(inode, name) for name in columns.keys() - NOT_SEEN):
            columns["ctime_ns"] = self._tree.clock()
            if not replaced:
                self._news.attributes(inode.ino)
        if columns.get("link", inode.link) != inode.link and inode.parent is not None:
            # Another kind of file: the kernel wants a new inode for it.
            self._news.other_kind(inode.parent, inode.name)
        if "mtime_set" in columns:
            self._news.time_set(inode.ino)
        return columns

    def _follow_attributes_alone(self, entry: FileEntry | FolderEntry) -> None:
        """The revision may have been given back to an inode of its own, and no reply told these."""
        known = self._tree.select_one("id = ?", entry.id)
        if known is not None and isinstance(entry, FileEntry) and known.rev == entry.rev:
            content = not pending(self._tree, known).content
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
            "seen": self._stamps.listed,
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
            self.delete(found)
            found = None
        ino = self._make_unreported_folder(parent, name, key) if found is None else found.ino
        self._folders[path] = ino
        return ino

    def _make_unreported_folder(self, parent: int, name: str, key: str) -> int:
        """A folder that Dropbox names only as part of a path; its own entry is still to come."""
        self._limbo.revive(parent)
        base: dict[str, object] = {
            "base_parent": parent,
            "base_name": name,
            "base_key": key,
            "seen": self._stamps.crawl,
        }
        merged = self._clear_place(parent, key, None)
        if merged is not None:
            self._tree.update(merged.ino, **base)
            return merged.ino
        now = self._tree.clock()
        self._news.entry(parent, name)
        return self._tree.insert(
            parent=parent,
            name=name,
            key=key,
            kind=FOLDER,
            mtime_ns=now,
            ctime_ns=now,
            listed=0 if self._first else 1,
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
        if self._limbo.gives_way(occupant):
            # It went with the folder that it was in, and has not come back with it.
            return
        for place in self._tree.step_aside(occupant):
            self._news.entry(*place)

    # ---- What we have sent ----

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


def _differs(entry: FileEntry, inode: Inode) -> bool:
    """Whether the entry's content is not the inode's base."""
    if entry.content_hash is None:
        return entry.rev != inode.rev
    return entry.content_hash != inode.hash
