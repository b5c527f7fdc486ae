"""The journal: which inodes Dropbox does not know as programs see them, and its answers.

The replicator asks for the facts of the next inode (`facts`), lets `core.plan` decide, makes the
call and gives the answer back (`confirm_*`). Each answer is one transaction: base columns,
staging and journal change together, so a kill finds either the old difference or the new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dbxfs.core.model import FileEntry, FileId, FolderEntry, Rev
from dbxfs.core.names import fold
from dbxfs.core.plan import Facts, Occupant
from dbxfs.core.ranges import Ranges

from . import attributes
from . import inode as effects
from .inode import FILE, ROOT_INO, Effect, Inode
from .limbo import LIMBO, NO_BASE
from .moves import Moves
from .sent import Sent
from .tree import Tree


@dataclass(frozen=True, slots=True)
class PendingRow:
    """One row of the journal."""

    seq: int
    ino: int
    since_ns: int
    attempts: int
    error: str | None
    code: str | None


class Journal:
    """The pending work of one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._database = tree.database
        self.sent = Sent(tree)
        self._moves = Moves(tree)

    # ---- Questions ----

    def rows(self) -> list[PendingRow]:
        """All pending inodes, oldest first."""
        cursor = self._database.execute(
            "SELECT seq, ino, since_ns, attempts, error, code FROM journal ORDER BY seq"
        )
        return [PendingRow(*row) for row in cursor]

    def row(self, ino: int) -> PendingRow | None:
        """What the journal has of one inode."""
        row = self._database.execute(
            "SELECT seq, ino, since_ns, attempts, error, code FROM journal WHERE ino = ?", ino
        ).fetchone()
        return PendingRow(*row) if row else None

    def anything_to_send(self) -> bool:
        """Whether anything is pending that Dropbox has not refused."""
        row = self._database.execute("SELECT 1 FROM journal WHERE error IS NULL LIMIT 1")
        return row.fetchone() is not None

    def held(self, code: str | None = None) -> list[int]:
        """The inodes that Dropbox has refused, of one kind or all."""
        rows = self._database.execute(
            "SELECT ino FROM journal WHERE error IS NOT NULL AND coalesce(code = ?1, ?1 IS NULL)",
            code,
        )
        return [ino for (ino,) in rows]

    def pending_in(self, folder: int) -> list[int]:
        """The pending inodes that programs see in a folder, or that Dropbox still has there."""
        rows = self._database.execute(
            "SELECT ino FROM journal JOIN inode USING (ino) WHERE parent = ?1 OR base_parent = ?1",
            folder,
        )
        return [ino for (ino,) in rows]

    def count(self) -> int:
        """How many inodes are pending."""
        (count,) = self._database.execute("SELECT count(*) FROM journal").fetchone()
        return int(count)

    def facts(self, ino: int) -> Facts:
        """All that decides about the inode's next step."""
        inode = self._tree.get(ino)
        if inode.parent is None:
            return self._facts_to_go(inode, None)
        if self._tree.is_local_only(inode):
            return self._facts_to_go(inode, inode.name)
        base = self._tree.base_path(ino)
        staged = self._database.execute("SELECT from_rev FROM staging WHERE ino = ?", ino)
        staging = staged.fetchone()
        return Facts(
            ino=ino,
            is_folder=inode.is_folder,
            name=inode.name,
            parent=inode.parent,
            folder=self._tree.base_path(inode.parent),
            base=base,
            id=inode.id,
            rev=inode.rev,
            moved=base is not None and inode.moved,
            same_key=(inode.parent, inode.key) == (inode.base_parent, inode.base_key),
            content=staging is not None,
            from_rev=staging[0] if staging else None,
            attributes=staging is None and self._tree.attributes_to_send(inode),
            occupant=self._occupant(inode),
            must_leave=self._still_in(inode) if inode.is_folder and inode.moved else None,
        )

    def _still_in(self, folder: Inode) -> int | None:
        """What was moved out of the folder, has its new place in it, and Dropbox has not moved."""
        found: int | None = None
        at = None if folder.parent is None else self._tree.find(folder.parent)
        while at is not None and at.ino not in (ROOT_INO, folder.ino):
            if at.parent not in (None, at.base_parent):
                found = at.ino
            at = None if at.base_parent is None else self._tree.find(at.base_parent)
        return found if at is not None and at.ino == folder.ino else None

    def _facts_to_go(self, inode: Inode, name: str | None) -> Facts:
        return Facts(
            ino=inode.ino,
            is_folder=inode.is_folder,
            name=name,
            parent=inode.parent,
            base=self._tree.base_path(inode.ino),
            id=inode.id,
            rev=self._shown_rev(inode),
            local_only=name is not None,
            missing=name is not None and not inode.is_folder and self._is_missing(inode),
            removed_with=self._unlinked_folder(inode) if name is None else None,
            must_leave=self._linked_below(inode.ino) if inode.is_folder else None,
            successor=None if inode.is_folder else self._successor(inode),
        )

    def _is_missing(self, inode: Inode) -> bool:
        """Whether a part of the file's content is only on Dropbox."""
        row = self._database.execute(
            "SELECT base_limit, extents FROM staging WHERE ino = ?", inode.ino
        ).fetchone()
        if row is None:
            return inode.size > 0
        base_limit, extents = row
        return bool(Ranges.from_bytes(extents).missing(0, base_limit))

    def _occupant(self, inode: Inode) -> Occupant | None:
        other = self._tree.select_one(
            "base_parent = ? AND base_key = ? AND ino != ?", inode.parent, inode.key, inode.ino
        )
        if other is None:
            return None
        leaving = other.parent is None or self._tree.is_local_only(other)
        return Occupant(ino=other.ino, leaving=leaving, rev=self._shown_rev(other))

    def _shown_rev(self, inode: Inode) -> Rev | None:
        """The revision of a file that programs have seen last."""
        row = self._database.execute("SELECT shown_rev FROM journal WHERE ino = ?", inode.ino)
        return next((rev for (rev,) in row if rev is not None), inode.rev)

    def _successor(self, inode: Inode) -> int | None:
        """A new file at the place where Dropbox has the unlinked one."""
        other = self._tree.select_one(
            "parent = ? AND key = ? AND kind = ? AND base_parent IS NULL",
            inode.base_parent,
            inode.base_key,
            FILE,
        )
        return None if other is None else other.ino

    def _unlinked_folder(self, inode: Inode) -> int | None:
        """The folder that Dropbox has it in, when that is to be deleted too."""
        folder = None if inode.base_parent is None else self._tree.find(inode.base_parent)
        return folder.ino if folder is not None and folder.parent is None else None

    def _linked_below(self, folder: int) -> int | None:
        """Something that Dropbox has below an unlinked folder and that programs still see."""
        row = self._database.execute(
            "WITH RECURSIVE below (ino, parent) AS ("
            " SELECT ino, parent FROM inode WHERE base_parent = ? AND base_key IS NOT NULL"
            " UNION ALL SELECT inode.ino, inode.parent FROM inode"
            " JOIN below ON inode.base_parent = below.ino"
            " WHERE below.parent IS NULL AND inode.base_key IS NOT NULL"
            ") SELECT ino FROM below WHERE parent IS NOT NULL LIMIT 1",
            folder,
        ).fetchone()
        return row[0] if row else None

    def source_of(self, content_hash: str) -> FileId | None:
        """A file on Dropbox that has this content."""
        row = self._database.execute(
            "SELECT id FROM inode WHERE substr(hash, 1, 10) = substr(?1, 1, 10) AND hash = ?1"
            " AND id NOT NULL AND base_key NOT NULL AND seen >= 0 AND downloadable = 1"
            " LIMIT 1",
            content_hash,
        ).fetchone()
        return row[0] if row else None

    # ---- Answers ----

    def transaction(self) -> AbstractContextManager[None]:
        """Several answers at once."""
        return self._database.transaction()

    def done(self, ino: int) -> None:
        """Local and base agree: the inode leaves the journal."""
        with self._database.transaction():
            self._database.execute("DELETE FROM journal WHERE ino = ?", ino)
            self._tree.drop_unused(ino)

    def refused(self, ino: int, reason: str, code: str | None = None) -> None:
        """Dropbox refused it, or would: keep the work, the reason and its code."""
        self._database.execute(
            "UPDATE journal SET attempts = attempts + 1, error = ?, code = ? WHERE ino = ?",
            reason,
            code,
            ino,
        )

    def forgive(self, ino: int | None = None) -> None:
        """Forget the refusals, of one or all: everything is to be tried once more."""
        forgive = "UPDATE journal SET error = NULL, code = NULL WHERE error IS NOT NULL"
        if ino is None:
            self._database.execute(forgive)
        else:
            self._database.execute(f"{forgive} AND ino = ?", ino)

    def sending(self, ino: int, content_hash: str | None) -> None:
        """A commit of this content is about to be tried."""
        with self._database.transaction():
            self.sent.note(ino, content_hash)
            self._database.execute(
                "UPDATE staging SET sent_hash = ? WHERE ino = ?", content_hash, ino
            )

    def confirm_place(self, ino: int, entry: FileEntry | FolderEntry, parent: int) -> list[Effect]:
        """A folder was created or something moved: Dropbox now has it at `entry` in `parent`.

        Gives what the kernel has to drop: the content can have changed before the move.
        """
        changed: list[Effect] = []
        with self._database.transaction():
            inode = self._tree.get(ino)
            if isinstance(entry, FileEntry):
                changed = self._tree.new_revision(inode, entry)
            self._release_identity(entry, ino)
            self._remember_old_path(inode)
            self.sent.answered(ino)
            self._set_base(inode, entry, parent)
        return changed

    def confirm_upload(
        self, ino: int, entry: FileEntry, *, parent: int, name: str, current: bool
    ) -> list[Effect]:
        """Content was committed as `entry`, sent for `name` in `parent`.

        `current`: nothing was written since, so that the staging can go. Otherwise what is staged
        is from now on made from this commit. Gives what the kernel has to drop.
        """
        changed: list[Effect] = []
        with self._database.transaction(), self._moves.noted():
            inode = self._tree.get(ino)
            self._release_identity(entry, ino)
            parted = inode.id is not None and inode.id != entry.id
            if parted:
                self._tree.update(ino, **NO_BASE)
            if fold(entry.name) != fold(name) and (inode.parent, inode.name) == (parent, name):
                changed += self._follow_name(inode, entry)
            if parted and inode.base_key not in (None, fold(entry.name)):
                changed += self._restore_base(inode)
            self._set_base(self._tree.get(ino), entry, parent)
            self.sent.answered(ino)
            self._database.execute("DELETE FROM session WHERE ino = ?", ino)
            self._database.execute("UPDATE journal SET shown_rev = NULL WHERE ino = ?", ino)
            if current:
                self._database.execute("DELETE FROM staging WHERE ino = ?", ino)
                self._tree.update(ino, size=entry.size)
            else:
                self._database.execute(
                    "UPDATE staging SET from_rev = ?, from_hash = ?, from_size = ?, base_limit = 0"
                    " WHERE ino = ?",
                    entry.rev,
                    entry.content_hash,
                    entry.size,
                    ino,
                )
                # What was written since waits anew.
                since = "UPDATE journal SET since_ns = ? WHERE ino = ?"
                self._database.execute(since, self._tree.clock(), ino)
        return [*changed, *self._moves.take()]

    def confirm_delete(self, ino: int) -> None:
        """Dropbox no longer has it, nor anything below."""
        with self._database.transaction():
            for gone in self._base_subtree(ino):
                inode = self._tree.get(gone)
                self._supersede(inode)
                self._tree.update(gone, **NO_BASE)
                if inode.parent is None:
                    self.sent.answered(gone)
                    self._database.execute("DELETE FROM journal WHERE ino = ?", gone)
                    self._tree.drop_unused(gone)

    def give_up_delete(self, ino: int) -> list[Effect]:
        """It changed elsewhere since it was deleted here: bring the entry back.

        Where a version of it is kept here only, the two go separate ways.
        """
        with self._database.transaction(), self._moves.noted():
            inode = self._tree.get(ino)
            if inode.parent is not None:
                self._tree.update(ino, **NO_BASE)
                changed = self._restore_base(inode)
            else:
                # What was written before the deletion went with it.
                self._tree.on_delete(ino)
                made = self._tree.revive(ino)
                changed = [effects.Entry(parent, name, 0) for parent, name in made]
                changed.append(effects.Content(ino))
        return [*changed, *self._moves.take()]

    # ---- Inside ----

    def _set_base(self, inode: Inode, entry: FileEntry | FolderEntry, parent: int) -> None:
        if not isinstance(entry, FileEntry) or entry.rev != inode.rev:
            self._supersede(inode)
        self._release_place(parent, fold(entry.name), inode.ino)
        columns: dict[str, object] = {
            "id": entry.id,
            "base_parent": parent,
            "base_name": entry.name,
            "base_key": fold(entry.name),
            "seen": self._seen_now(),
        }
        if isinstance(entry, FileEntry):
            columns |= {
                "rev": entry.rev,
                "hash": entry.content_hash,
                "base_size": entry.size,
                "base_mtime_ns": entry.client_modified_ns,
            }
        self._tree.update(inode.ino, **columns)
        if inode.parent is None:
            # It was unlinked while the commit was under way.
            self._tree.mark_pending(inode.ino)

    def _remember_old_path(self, inode: Inode) -> None:
        old = self._tree.base_path(inode.ino) if inode.is_folder else None
        if old is not None:
            self._database.execute(
                "INSERT OR REPLACE INTO moved (path, ino) VALUES (?, ?)", fold(old), inode.ino
            )

    def _seen_now(self) -> int:
        """The crawl that need not list what was confirmed now: one that has begun to walk.

        Before its first page it will list what is there, and what is removed until then it
        reports in no other way.
        """
        epoch = int(self._database.get_meta("epoch") or 0)
        walking = self._database.get_meta("cursor") is not None
        return epoch if walking else max(0, epoch - 1)

    def _release_place(self, parent: int, key: str, ino: int) -> None:
        """Whatever we thought was there is not: the feed will tell where it went."""
        other = self._tree.select_one(
            "base_parent = ? AND base_key = ? AND ino != ?", parent, key, ino
        )
        if other is not None:
            self._tree.update(other.ino, base_key=None, seen=LIMBO)

    def _release_identity(self, entry: FileEntry | FolderEntry, ino: int) -> None:
        """The identity has a new inode: the one that this commit replaced was unlinked here.

        Where it was not, Dropbox has moved it here unseen; the feed will empty its old place.
        """
        for other in list(self._tree.select("id = ? AND ino != ?", entry.id, ino)):
            if other.parent is not None:
                self._tree.update(other.ino, id=None)
                continue
            self._supersede(other)
            self._tree.update(other.ino, **NO_BASE)
            self._database.execute("DELETE FROM journal WHERE ino = ?", other.ino)
            self._tree.drop_unused(other.ino)

    def _restore_base(self, inode: Inode) -> list[Effect]:
        """What Dropbox has at the old place is not this inode any more: it gets one of its own."""
        base = {
            name: getattr(inode, name)
            for name in (
                "id",
                "base_parent",
                "base_name",
                "base_key",
                "rev",
                "hash",
                "base_size",
                "base_mtime_ns",
                "base_attributes",
                "seen",
            )
        }
        assert inode.base_parent is not None  # noqa: S101
        assert inode.base_name is not None  # noqa: S101
        made = self._tree.revive(inode.base_parent)
        changed: list[Effect] = [effects.Entry(parent, name, 0) for parent, name in made]
        name = self._tree.free_name(inode.base_parent, inode.base_name)
        ino = self._tree.insert(
            parent=inode.base_parent,
            name=name,
            key=fold(name),
            kind=FILE,
            size=inode.base_size,
            ctime_ns=self._tree.clock(),
            **{**base, **attributes.restored(inode, setuid=self._tree.setuid)},
        )
        if name != inode.base_name:
            self._tree.mark_pending(ino)
        changed.append(effects.Entry(inode.base_parent, name, 0))
        return changed

    def _follow_name(self, inode: Inode, entry: FileEntry) -> list[Effect]:
        """The server chose another name: programs see it under that."""
        if inode.parent is None or self._tree.child(inode.parent, entry.name) is not None:
            return []
        self._tree.update(inode.ino, name=entry.name, key=fold(entry.name))
        return [
            effects.Entry(inode.parent, inode.name, 0),
            effects.Entry(inode.parent, entry.name, 0),
        ]

    def _base_subtree(self, ino: int) -> Iterable[int]:
        rows = self._database.execute(
            "WITH RECURSIVE below (ino) AS (SELECT ? UNION ALL"
            " SELECT inode.ino FROM inode JOIN below ON inode.base_parent = below.ino"
            " WHERE inode.base_key IS NOT NULL)"
            " SELECT ino FROM below",
            ino,
        ).fetchall()
        return [row[0] for row in reversed(rows)]

    def _supersede(self, inode: Inode) -> None:
        """While a crawl goes on, remember what it may still report though it is past."""
        token: Rev | str | None = inode.rev if inode.rev is not None else None
        if token is None and inode.is_folder and inode.parent is None:
            token = inode.id
        if token is not None and self._database.get_meta("crawl") != "done":
            self._database.execute(
                "INSERT OR IGNORE INTO superseded (token, at_ns) VALUES (?, ?)",
                token,
                self._tree.clock(),
            )
