"""The tree as programs change it: local operations, each one transaction with its journal row.

Everything that the kernel asks is answered from here without a request. A few thousand inodes
that are asked for again and again are kept decoded (`_hot`); every change goes through this class
or its siblings (`entries`, `limbo`, `journal`), which drop what they touch, so the rest of the
program never meets a stale one.

Names are told apart by key: creating `A` where `a` is finds `a`. A rename onto the same inode's
own key changes the spelling.

The clock is given, and gives nanoseconds since the epoch.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from dbxfs.core.attributes import fits, pack_xattrs, unpack_xattrs
from dbxfs.core.model import ROOT, FileEntry, RemotePath, Rev, join
from dbxfs.core.names import fold, problem, shown_name
from dbxfs.core.reconcile import conflicted_name

from . import attributes
from .database import Database
from .inode import COLUMNS, FILE, FOLDER, ROOT_INO, SOCKET, Content, Effect, Inode

HOT_INODES = 8192

Owner = tuple[int | None, int | None]
"""User and group; None: as it is, or the mount's own."""

NO_OWNER: Owner = (None, None)

BELOW = (
    "WITH RECURSIVE below (ino) AS (SELECT ? UNION ALL"
    " SELECT inode.ino FROM inode JOIN below ON inode.parent = below.ino) SELECT ino FROM below"
)
"""All that programs see in a folder, and the folder itself first."""


class TreeError(OSError):
    """A local operation that the tree refuses; `errno` says why, as POSIX does."""


class Tree:
    """The inodes of one mount, and every local change of names and attributes."""

    def __init__(
        self, database: Database, clock: Callable[[], int], root: RemotePath = ROOT
    ) -> None:
        """`clock`: nanoseconds since the epoch; `root`: the remote folder that inode 1 is."""
        self.database = database
        self.root = root
        self.clock = clock
        self.in_use: Callable[[int], bool] = lambda ino: False
        self.on_pending: Callable[[int], None] = lambda ino: None
        self.on_delete: Callable[[int], None] = lambda ino: None
        self.on_replace: Callable[[int, int], None] = lambda old, new: None
        self.write_down: Callable[[int], None] = lambda ino: None
        self.hold_content: Callable[[Inode], None] = lambda inode: None
        self.on_rebase: Callable[[int, Rev | None, Rev], None] = lambda ino, old, new: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_place: Callable[[int, Inode | None], None] = lambda ino, before: None
        """Told of an inode that gets another place, with what it was before."""
        self.setuid = False
        """Whether set-uid and set-gid bits are sent to Dropbox and taken from it."""
        self._hot: OrderedDict[int, Inode] = OrderedDict()
        database.rolled_back.append(self.forget_hot)

    # ---- Questions ----

    def get(self, ino: int) -> Inode:
        """The inode; `TreeError(ENOENT)` where there is none."""
        inode = self.find(ino)
        if inode is None:
            raise TreeError(errno.ENOENT, "no such inode")
        return inode

    def find(self, ino: int) -> Inode | None:
        """The inode, or None."""
        inode = self._hot.get(ino)
        if inode is not None:
            self._hot.move_to_end(ino)
            return inode
        return self._keep_hot(self.select_one("ino = ?", ino))

    def _keep_hot(self, inode: Inode | None) -> Inode | None:
        if inode is not None:
            self._hot[inode.ino] = inode
            if len(self._hot) > HOT_INODES:
                self._hot.popitem(last=False)
        return inode

    def child(self, parent: int, name: str) -> Inode | None:
        """What programs see under that name, in any case."""
        return self._keep_hot(self.select_one("parent = ? AND key = ?", parent, fold(name)))

    def children(self, parent: int, after: int = 0, limit: int = -1) -> list[Inode]:
        """The folder's entries with an inode number above `after`, in that order."""
        return list(
            self.select("parent = ? AND ino > ? ORDER BY ino LIMIT ?", parent, after, limit)
        )

    def has_children(self, ino: int) -> bool:
        """Whether anything is in the folder."""
        return (
            self.database.execute("SELECT 1 FROM inode WHERE parent = ? LIMIT 1", ino).fetchone()
            is not None
        )

    def path(self, ino: int) -> RemotePath:
        """The local place as a path; `TreeError(ENOENT)` when it is unlinked or below such."""
        names = []
        while ino != ROOT_INO:
            inode = self.get(ino)
            if inode.parent is None:
                raise TreeError(errno.ENOENT, "unlinked")
            names.append(inode.name)
            ino = inode.parent
        return _as_path(ROOT, names)

    def shown_path(self, ino: int) -> str:
        """The local place for messages."""
        try:
            return "/".join(map(shown_name, self.path(ino).split("/")))
        except TreeError:
            return f"(removed, inode {ino})"

    def base_path(self, ino: int) -> RemotePath | None:
        """Where Dropbox has it, from its own root; None: nowhere."""
        names = []
        while ino != ROOT_INO:
            inode = self.get(ino)
            if inode.base_parent is None or inode.base_name is None or inode.base_key is None:
                return None
            names.append(inode.base_name)
            ino = inode.base_parent
        return _as_path(self.root, names)

    def is_local_only(self, inode: Inode) -> bool:
        """Whether it is a socket, or has, or is in a folder of, a name that Dropbox does not take.

        What Dropbox has under such a name all the same does not count.
        """
        if inode.kind == SOCKET and inode.parent is not None:
            return True
        at = inode
        while at.ino != ROOT_INO and at.parent is not None:
            if (at.base_key is None or at.moved) and problem(at.name) is not None:
                return True
            at = self.get(at.parent)
        return False

    def is_below(self, ino: int, folder: int) -> bool:
        """Whether `ino` is `folder` or somewhere in it."""
        at: int | None = ino
        while at is not None and at != folder:
            if at == ROOT_INO:
                return False
            at = self.get(at).parent
        return at is not None

    def is_in_limbo(self, ino: int) -> bool:
        """Whether it, or a folder above it, is just being moved or deleted on Dropbox.

        What the next page of the feed tells decides which (`limbo`).
        """
        if self.select_one("seen < 0 LIMIT 1") is None:
            return False
        return any(self._leads_through_limbo(ino, way) for way in ("parent", "base_parent"))

    def _leads_through_limbo(self, ino: int, column: str) -> bool:
        at = self.find(ino)
        while at is not None and at.ino != ROOT_INO:
            if at.seen < 0:
                return True
            above = getattr(at, column)
            at = None if above is None else self.find(above)
        return False

    def free_name(self, parent: int, name: str) -> str:
        """The name if nothing is there, else the first conflicted copy's that is free."""
        attempt = 0
        free = name
        while self.child(parent, free) is not None:
            free = conflicted_name(name, attempt)
            attempt += 1
        return free

    def children_known(self, inode: Inode) -> bool:
        """Whether the folder's entries are all here, so that no request is needed."""
        return bool(inode.listed) or self.database.get_meta("crawled") == "1"

    def attributes_to_send(self, inode: Inode) -> bool:
        """Whether Dropbox could keep attributes of the inode that it does not."""
        return (
            not inode.attributes_refused
            and not inode.read_only
            and inode.ino != ROOT_INO
            and self.database.get_meta("templates") is not None
            and attributes.differ(inode, setuid=self.setuid)
        )

    def select(self, where: str, *values: object) -> Iterator[Inode]:
        """The inodes that meet a condition. For the store's own modules."""
        cursor = self.database.execute(f"SELECT {COLUMNS} FROM inode WHERE {where}", *values)  # noqa: S608
        return (Inode(*row) for row in cursor)

    def select_one(self, where: str, *values: object) -> Inode | None:
        """The first such inode. For the store's own modules."""
        return next(self.select(where, *values), None)

    # ---- Changes by programs ----

    def create_file(
        self,
        parent: int,
        name: str,
        mode: int | None,
        link: bytes | None = None,
        owner: Owner = NO_OWNER,
    ) -> Inode:
        """A new empty file. The caller gives it staging in the same transaction.

        `link`: it is a symbolic link; the caller makes its target the content.
        """
        return self._create(parent, name, FILE, mode, owner, link)

    def create_folder(
        self, parent: int, name: str, mode: int | None, owner: Owner = NO_OWNER
    ) -> Inode:
        """A new empty folder."""
        return self._create(parent, name, FOLDER, mode, owner)

    def create_socket(self, parent: int, name: str, mode: int, owner: Owner = NO_OWNER) -> Inode:
        """What programs of this computer meet at; Dropbox hears nothing of it."""
        return self._create(parent, name, SOCKET, mode, owner)

    def _create(
        self,
        parent: int,
        name: str,
        kind: int,
        mode: int | None,
        owner: Owner,
        link: bytes | None = None,
    ) -> Inode:
        with self.database.transaction():
            self._writable_folder(parent)
            if self.child(parent, name) is not None:
                raise TreeError(errno.EEXIST, "exists")
            now = self.clock()
            ino = self.insert(
                parent=parent,
                name=name,
                key=fold(name),
                kind=kind,
                mode=mode,
                uid=owner[0],
                gid=owner[1],
                link=link,
                mtime_ns=now,
                ctime_ns=now,
                listed=1,
            )
            self._touch(parent, now)
            self.mark_pending(ino)
        return self.get(ino)

    def unlink(self, parent: int, name: str) -> Inode:
        """Take the file out of its folder; gives what it was."""
        with self.database.transaction():
            inode = self._removable(parent, name)
            if inode.is_folder:
                raise TreeError(errno.EISDIR, "a folder")
            self._detach(inode)
        return inode

    def rmdir(self, parent: int, name: str) -> Inode:
        """Take the empty folder out of its own; `ENOTEMPTY` when it is not empty."""
        with self.database.transaction():
            inode = self._removable(parent, name)
            if not inode.is_folder:
                raise TreeError(errno.ENOTDIR, "not a folder")
            if self.has_children(inode.ino):
                raise TreeError(errno.ENOTEMPTY, "not empty")
            self._detach(inode)
        return inode

    def rename(
        self, parent: int, name: str, new_parent: int, new_name: str, *, replace: bool
    ) -> tuple[Inode, Inode | None]:
        """Move an entry, over another one where `replace`; gives it as it was, and the other.

        The rules are rename(2)'s. Both steps and their journal rows are one transaction, so the
        target is never missing.
        """
        with self.database.transaction():
            inode = self._removable(parent, name)
            self._writable_folder(new_parent)
            target = self.child(new_parent, new_name)
            if inode.is_folder and self.is_below(new_parent, inode.ino):
                raise TreeError(errno.EINVAL, "into itself")
            if target is not None and target.ino != inode.ino:
                self._check_replace(inode, target, replace)
                self.hand_pin_on(target.ino, inode.ino)
                self.on_replace(target.ino, inode.ino)
                self._detach(target)
            elif target is not None:
                if not replace and inode.name == new_name:
                    raise TreeError(errno.EEXIST, "exists")
                target = None
            now = self.clock()
            was_local_only = inode.is_folder and self.is_local_only(inode)
            self.update(
                inode.ino, parent=new_parent, name=new_name, key=fold(new_name), ctime_ns=now
            )
            self._check_crossing(inode, was_local_only)
            self._touch(parent, now)
            self._touch(new_parent, now)
            self.mark_pending(inode.ino)
        return inode, target

    def exchange(
        self, parent: int, name: str, new_parent: int, new_name: str
    ) -> tuple[Inode, Inode]:
        """Each takes the other's place, in one transaction (RENAME_EXCHANGE); gives both as they
        were."""
        with self.database.transaction():
            one, other = self._removable(parent, name), self._removable(new_parent, new_name)
            if one.ino == other.ino:
                return one, other
            for inode, into in ((one, new_parent), (other, parent)):
                if inode.is_folder and self.is_below(into, inode.ino):
                    raise TreeError(errno.EINVAL, "into itself")
            now = self.clock()
            were_local_only = [i.is_folder and self.is_local_only(i) for i in (one, other)]
            self.update(one.ino, parent=None)
            self.update(other.ino, parent=parent, name=name, key=fold(name), ctime_ns=now)
            self.update(one.ino, parent=new_parent, name=new_name, key=fold(new_name), ctime_ns=now)
            for inode, was_local_only in zip((one, other), were_local_only, strict=True):
                self._check_crossing(inode, was_local_only)
                self.mark_pending(inode.ino)
            self._touch(parent, now)
            self._touch(new_parent, now)
        return one, other

    def _check_crossing(self, inode: Inode, was_local_only: bool) -> None:
        """A folder was moved: between what is kept here only and the rest that is no small thing.

        Outwards, all that is in it is to be sent. Inwards, a folder that Dropbox has would have to
        be brought here whole, and what others put there meanwhile with it; EXDEV makes mv(1) copy.
        """
        if not inode.is_folder:
            return
        local_only = self.is_local_only(self.get(inode.ino))
        if local_only and inode.on_dropbox and not was_local_only:
            self.forget_hot()
            raise TreeError(errno.EXDEV, "Dropbox does not keep a folder of this name")
        if was_local_only and not local_only:
            for (ino,) in self.database.execute(BELOW, inode.ino).fetchall():
                self.mark_pending(ino)

    def set_attributes(
        self,
        ino: int,
        *,
        mtime_ns: int | None = None,
        atime_ns: int | None = None,
        mode: int | None = None,
        owner: Owner = NO_OWNER,
    ) -> Inode:
        """Change what is given; the inode's ctime follows."""
        changes: dict[str, object] = {"mode": mode, "uid": owner[0], "gid": owner[1]}
        changes = {name: value for name, value in changes.items() if value is not None}
        if atime_ns is not None:
            changes["atime_ns"] = None if atime_ns == mtime_ns else atime_ns
        if mtime_ns is not None:
            changes["mtime_ns"] = mtime_ns
            if self.get(ino).is_folder:
                changes["mtime_set"] = 1
        return self._change_attributes(ino, changes)

    def set_xattr(self, ino: int, name: bytes, value: bytes | None) -> Inode:
        """Set one extended attribute of programs, or with None remove it.

        `TreeError`: ENODATA when there is none to remove, ENOSPC when Dropbox would not keep all.
        """
        inode = self.get(ino)
        xattrs = unpack_xattrs(inode.xattrs)
        if value is not None:
            xattrs[name] = value
        elif xattrs.pop(name, None) is None:
            raise TreeError(errno.ENODATA, "no such attribute")
        wanted = msgspec.structs.replace(inode, xattrs=pack_xattrs(xattrs))
        if value is not None and not fits(attributes.to_keep(wanted)):
            raise TreeError(errno.ENOSPC, "more attributes than Dropbox keeps")
        return self._change_attributes(ino, {"xattrs": wanted.xattrs})

    def _change_attributes(self, ino: int, changes: dict[str, object]) -> Inode:
        changes |= {"ctime_ns": self.clock(), "attributes_refused": None}
        with self.database.transaction():
            self.update(ino, **changes)
            if ino != ROOT_INO and self.get(ino).parent is not None:
                self.mark_pending(ino)
        return self.get(ino)

    def drop_unused(self, ino: int) -> bool:
        """Remove the row of an unlinked inode that nobody needs any more; whether it is gone."""
        with self.database.transaction():
            inode = self.find(ino)
            if inode is None:
                return True
            needed = (
                inode.parent is not None
                or inode.base_parent is not None
                or inode.seen < 0
                or self.in_use(ino)
                or self.database.exists("sent", ino)
            )
            if needed:
                return False
            self.delete(ino)
            return True

    def unused(self) -> list[int]:
        """Unlinked inodes that only a program can still hold; at start nobody does."""
        rows = self.database.execute(
            "SELECT ino FROM inode WHERE parent IS NULL AND base_parent IS NULL AND seen >= 0"
        )
        return [ino for (ino,) in rows]

    # ---- Rows: for the store's own modules ----

    def insert(self, **columns: object) -> int:
        """A new row; gives its inode number."""
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        cursor = self.database.execute(
            f"INSERT INTO inode ({names}) VALUES ({marks})",  # noqa: S608
            *columns.values(),
        )
        assert cursor.lastrowid is not None  # noqa: S101
        self.on_place(cursor.lastrowid, None)
        self.on_change()
        return cursor.lastrowid

    def update(self, ino: int, **columns: object) -> None:
        """Change columns of a row."""
        if "parent" in columns or "name" in columns:
            self.on_place(ino, self.find(ino))
        names = ", ".join(f"{name} = ?" for name in columns)
        self.database.execute(
            f"UPDATE inode SET {names} WHERE ino = ?",  # noqa: S608
            *columns.values(),
            ino,
        )
        known = self._hot.get(ino)
        if known is not None:
            self._hot[ino] = msgspec.structs.replace(known, **columns)
        self.on_change()

    def delete(self, ino: int) -> None:
        """Remove a row and all that hangs on it."""
        self.on_place(ino, self.find(ino))
        self._hot.pop(ino, None)
        self.on_delete(ino)
        for table in ("session", "staging", "journal", "sent", "pin", "inode"):
            self.database.execute(f"DELETE FROM {table} WHERE ino = ?", ino)  # noqa: S608
        self.on_change()

    def hand_pin_on(self, old: int, new: int) -> None:
        """What takes the place of a pinned inode is pinned: to people it is the same document.

        Programs save by renaming a new file over the old one.
        """
        self.database.execute("UPDATE OR REPLACE pin SET ino = ? WHERE ino = ?", new, old)

    def has_content(self, ino: int) -> bool:
        """Whether programs wrote what Dropbox does not have, also what they have not closed."""
        self.write_down(ino)
        return self.database.exists("staging", ino)

    def new_revision(self, inode: Inode, entry: FileEntry) -> list[Effect]:
        """Dropbox has the file under another revision: what that means to its content here.

        The same content, as after a move: what was made from the old revision is still current.
        Other content: programs see it, or it is hidden by what is pending.
        """
        ino = inode.ino
        same = entry.content_hash == inode.hash if entry.content_hash else entry.rev == inode.rev
        if same:
            old, new = inode.rev, entry.rev
            self.database.execute(
                "UPDATE staging SET from_rev = ? WHERE ino = ? AND from_rev = ?", new, ino, old
            )
            self.database.after_commit(lambda: self.on_rebase(ino, old, new))
            return []
        if self.has_content(ino):
            if not self.database.exists("journal", ino):
                self.mark_pending(ino)
            self.database.execute(
                "UPDATE journal SET shown_rev = coalesce(shown_rev, ?) WHERE ino = ?",
                inode.rev,
                ino,
            )
            return []
        self.update(ino, size=entry.size, mtime_ns=entry.client_modified_ns, ctime_ns=self.clock())
        return [Content(ino)]

    def forget_hot(self) -> None:
        """Drop the decoded inodes: after a change of many rows, or a rolled-back transaction."""
        self._hot.clear()

    def mark_pending(self, ino: int) -> None:
        """The inode's local state has changed: the journal has it, its failures are forgiven."""
        self.database.execute(
            "INSERT INTO journal (ino, since_ns) VALUES (?, ?)"
            " ON CONFLICT (ino) DO UPDATE SET attempts = 0, error = NULL, code = NULL",
            ino,
            self.clock(),
        )
        self.on_pending(ino)

    def revive(self, ino: int) -> list[tuple[int, str]]:
        """Give up a pending deletion, and those of the folders above; gives the entries made.

        The inode comes back where Dropbox has it; what has taken its name meanwhile steps aside.
        """
        inode = self.get(ino)
        if inode.parent is not None or inode.base_parent is None or inode.base_name is None:
            return []
        made = self.revive(inode.base_parent)
        occupant = self.child(inode.base_parent, inode.base_name)
        if occupant is not None:
            made += self.step_aside(occupant)
        key = fold(inode.base_name)
        self.update(ino, parent=inode.base_parent, name=inode.base_name, key=key)
        if not inode.is_folder and not self.has_content(ino):
            # What was written before the deletion went with it.
            shown = attributes.kept(inode).mtime_ns
            shown = inode.base_mtime_ns if shown is None else shown
            self.update(ino, size=inode.base_size, mtime_ns=shown)
        self.database.execute("DELETE FROM journal WHERE ino = ?", ino)
        return [*made, (inode.base_parent, inode.base_name)]

    def step_aside(self, inode: Inode) -> list[tuple[int, str]]:
        """Give a local entry another name, for one of Dropbox's; gives both names as entries."""
        assert inode.parent is not None  # noqa: S101
        name = self.free_name(inode.parent, inode.name)
        self.update(inode.ino, name=name, key=fold(name))
        self.mark_pending(inode.ino)
        return [(inode.parent, inode.name), (inode.parent, name)]

    # ---- Inside ----

    def _writable_folder(self, ino: int) -> Inode:
        folder = self.get(ino)
        if not folder.is_folder:
            raise TreeError(errno.ENOTDIR, "not a folder")
        if folder.read_only:
            raise TreeError(errno.EACCES, "Dropbox lets nobody write here")
        if not self.is_below(ino, ROOT_INO):
            raise TreeError(errno.ENOENT, "removed")
        return folder

    def _removable(self, parent: int, name: str) -> Inode:
        self._writable_folder(parent)
        inode = self.child(parent, name)
        if inode is None:
            raise TreeError(errno.ENOENT, "no such entry")
        return inode

    def _check_replace(self, inode: Inode, target: Inode, replace: bool) -> None:
        if not replace:
            raise TreeError(errno.EEXIST, "exists")
        if target.is_folder and not inode.is_folder:
            raise TreeError(errno.EISDIR, "a folder")
        if inode.is_folder and not target.is_folder:
            raise TreeError(errno.ENOTDIR, "not a folder")
        if target.is_folder and self.has_children(target.ino):
            raise TreeError(errno.ENOTEMPTY, "not empty")
        if not target.downloadable:
            # No file can take a document's place: what people wrote together would be gone.
            raise TreeError(errno.EACCES, "an online document")

    def _detach(self, inode: Inode) -> None:
        now = self.clock()
        assert inode.parent is not None  # noqa: S101
        self._touch(inode.parent, now)
        if inode.on_dropbox:
            self.update(inode.ino, parent=None, ctime_ns=now)
            self.mark_pending(inode.ino)
        else:
            self.database.execute("DELETE FROM journal WHERE ino = ?", inode.ino)
            self.update(inode.ino, parent=None, ctime_ns=now)
            self.drop_unused(inode.ino)

    def _touch(self, folder: int, now: int) -> None:
        self.update(folder, mtime_ns=now, ctime_ns=now, mtime_set=None)


def _as_path(root: RemotePath, names: list[str]) -> RemotePath:
    path = root
    for name in reversed(names):
        path = join(path, name)
    return path
