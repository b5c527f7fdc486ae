"""One mount's store over a `FakeDropbox`, driven by hand: every page and every call is a step.

`Mount` does what the handlers of `fs` and the tasks of `sync` do, but synchronously and one piece
at a time, so that a test decides what comes between. Nothing here decides anything: the tree, the
journal and the plan are the real ones.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import cast

from dbxfs.api.client import Add, Client, CursorReset, EndpointError, Update
from dbxfs.core import plan
from dbxfs.core.attributes import delta, encode
from dbxfs.core.model import ROOT, FileEntry, RemotePath
from dbxfs.store import attributes
from dbxfs.store.checking import StoreCheck
from dbxfs.store.database import Database
from dbxfs.store.inode import ROOT_INO, Content, Effect, Entry, Inode
from dbxfs.store.journal import Journal
from dbxfs.store.keeping import Keeping
from dbxfs.store.remote import RemoteChanges
from dbxfs.store.staging import StagedFile, Staging
from dbxfs.store.tree import Tree
from dbxfs.sync.attributes import AttributeKeeper
from tests.fakes import SECOND, FakeDropbox, entry_of

PAGE = 2000


class Clock:
    """Nanoseconds that go on by one second with each look."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        self.now += SECOND
        return self.now


class Mount:
    """Tree, journal and staging of one mount, and the Dropbox that they follow."""

    properties = True
    """Whether Dropbox can keep properties."""

    def __init__(self, folder: Path, dropbox: FakeDropbox, root: RemotePath = ROOT) -> None:
        self.folder = folder
        self.dropbox = dropbox
        self.root = root
        self.clock = Clock()
        self.effects: list[Effect] = []
        self._revisions_unknown = False
        (folder / "staging").mkdir(exist_ok=True)
        self.open()

    def open(self) -> None:
        """Build everything over the database that is there."""
        self.database = Database(self.folder / "tree.db")
        self.tree = Tree(self.database, self.clock, self.root)
        self.staging = Staging(self.tree, self.folder / "staging")
        self.changes = RemoteChanges(self.tree)
        self.journal = Journal(self.tree)
        self.attributes = AttributeKeeper(cast(Client, None), self.tree, self.journal)
        if self.properties:
            self.database.set_meta("templates", "a template")

    def close(self) -> None:
        """End as the daemon does."""
        self.staging.record_all()
        self.staging.close()
        self.database.close()

    def restart(self) -> list[Path]:
        """End and begin again; gives what staging could not place."""
        self.close()
        self.open()
        moved = self.staging.recover_strays(self.folder / "recovered")
        for ino in self.tree.unused():
            self.tree.drop_unused(ino)
        return moved

    # ---- Looking ----

    def ino(self, path: str) -> int:
        """The inode number at a local path; `KeyError` where there is nothing."""
        inode = self.look(path)
        if inode is None:
            raise KeyError(path)
        return inode.ino

    def look(self, path: str) -> Inode | None:
        """The inode at a local path."""
        at: Inode | None = self.tree.get(ROOT_INO)
        for name in path.split("/")[1:]:
            at = None if at is None else self.tree.child(at.ino, name)
        return at

    def read(self, path: str) -> bytes:
        """What a program reads there."""
        return self.content(self.tree.get(self.ino(path)))

    def content(self, inode: Inode) -> bytes:
        """What a program reads from the inode."""
        staged = self.staging.get(inode.ino)
        if staged is not None:
            self.fill(staged)
            return staged.read(0, staged.size)
        assert inode.rev is not None, f"{inode} has no content anywhere"
        return self.dropbox.contents[inode.rev]

    def paths(self) -> dict[str, bytes | None]:
        """All that programs see, by path; None for a folder."""
        seen: dict[str, bytes | None] = {}
        waiting = [("", ROOT_INO)]
        while waiting:
            path, folder = waiting.pop()
            for inode in self.tree.children(folder):
                place = f"{path}/{inode.name}"
                seen[place] = None if inode.is_folder else self.content(inode)
                if inode.is_folder:
                    waiting.append((place, inode.ino))
        return seen

    # ---- What programs do ----

    def _split(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self.ino(folder), name

    def mkdir(self, path: str) -> int:
        """mkdir(2)."""
        parent, name = self._split(path)
        return self.tree.create_folder(parent, name, None).ino

    def create(self, path: str) -> int:
        """open(2) with O_CREAT of a name that is not there."""
        parent, name = self._split(path)
        with self.database.transaction():
            inode = self.tree.create_file(parent, name, None)
            self.staging.record(self.staging.begin(inode))
        return inode.ino

    def write(self, path: str, data: bytes) -> int:
        """Create or truncate, write, close."""
        there = self.look(path)
        ino = self.create(path) if there is None else there.ino
        staged = self.staging.begin(self.tree.get(ino))
        staged.truncate(0, self.clock())
        staged.write(0, data, self.clock())
        self.staging.record(staged)
        return ino

    def append(self, path: str, data: bytes) -> int:
        """Write at the end, close."""
        inode = self.tree.get(self.ino(path))
        staged = self.staging.begin(inode)
        staged.write(staged.size, data, self.clock())
        self.staging.record(staged)
        return inode.ino

    def unlink(self, path: str) -> Inode:
        """unlink(2) of a file that nobody has open."""
        gone = self.tree.unlink(*self._split(path))
        self.staging.abandon(gone.ino)
        return gone

    def sent(self) -> dict[str, bytes | None]:
        """What programs see, less what Dropbox does not take."""
        return {
            path: data
            for path, data in self.paths().items()
            if not self.tree.is_local_only(self.tree.get(self.ino(path)))
        }

    def rmdir(self, path: str) -> Inode:
        """rmdir(2)."""
        return self.tree.rmdir(*self._split(path))

    def rmtree(self, path: str) -> None:
        """rm -r, as rm does it."""
        for inode in self.tree.children(self.ino(path)):
            below = f"{path}/{inode.name}"
            if inode.is_folder:
                self.rmtree(below)
            else:
                self.unlink(below)
        self.rmdir(path)

    def rename(self, path: str, target: str, *, replace: bool = True) -> None:
        """rename(2)."""
        _, replaced = self.tree.rename(*self._split(path), *self._split(target), replace=replace)
        if replaced is not None:
            self.staging.abandon(replaced.ino)

    # ---- What the tasks do, a step at a time ----

    def page(self, limit: int = PAGE, broken_off_after: int | None = None) -> bool:
        """Fetch and apply one page, or only so many entries of it; whether there are more."""
        cursor = self.changes.cursor
        try:
            if cursor is None:
                if self.database.get_meta("crawl") is None:
                    self.changes.begin_crawl()
                page = self.dropbox.list_folder(self.root, limit)
            else:
                page = self.dropbox.list_folder_continue(cursor, limit)
        except CursorReset:
            self.changes.begin_crawl()
            return True
        slices = self.changes.apply_in_slices(page, 1)
        for effects in itertools.islice(slices, broken_off_after):
            self._stale(effects)
        return page.has_more

    def follow(self, limit: int = PAGE) -> list[Effect]:
        """Apply pages until there are no more; gives what they made stale."""
        before, self.effects = self.effects, []
        while self.page(limit):
            pass
        brought, self.effects = self.effects, before + self.effects
        return brought

    def listing(self, path: str) -> list[Effect]:
        """List one folder on demand, before the crawl has come there."""
        ino = self.ino(path)
        base = self.tree.base_path(ino)
        assert base is not None
        page = self.dropbox.list_folder(base, recursive=False)
        slices = self.changes.apply_listing(ino, base, page.entries, size=2)
        effects = [effect for slice_ in slices for effect in slice_]
        self._stale(effects)
        return effects

    def step(self, ino: int) -> plan.Step:
        """What the plan says of an inode."""
        return plan.next_step(self.journal.facts(ino))

    def commit(self, ino: int) -> bool:
        """One call for the inode, or for what it depends on; whether it was made and confirmed."""
        waiting: list[int] = []
        while self.journal.row(ino) is not None and self.tree.find(ino) is not None:
            step = self.step(ino)
            if isinstance(step, plan.After) and step.ino in (*waiting, ino):
                circle = [self.journal.facts(each) for each in (*waiting, ino)]
                of = min(circle[::-1], key=lambda of: of.must_leave is None)
                ino, step = of.ino, plan.next_step(of, in_cycle=True)
            if not isinstance(step, plan.After):
                if self._feed_comes_first(ino, step):
                    self.follow()
                    if self.tree.find(ino) is None or self.step(ino) != step:
                        return True
                return self._carry_out(ino, step)
            if self.journal.row(step.ino) is None:
                self.tree.mark_pending(step.ino)
            waiting.append(ino)
            ino = step.ino
        return False

    def drain(self) -> None:
        """Commit until nothing can be sent any more."""
        for _ in range(1000):
            made = [self.commit(row.ino) for row in self.journal.rows()]
            if not any(made):
                return
        raise AssertionError(f"the journal does not come to rest: {self.journal.rows()}")

    def settle(self) -> None:
        """Drain and follow in turn until both sides agree."""
        for _ in range(40):
            self.drain()
            self.follow()
            if not self.journal.count():
                return
        raise AssertionError(
            f"no rest: {[(row, self.journal.facts(row.ino)) for row in self.journal.rows()]}"
        )

    def check(self) -> None:
        """Whatever happened, the rules hold for the rows and the staged files."""
        check = StoreCheck(
            self.folder / "tree.db",
            self.folder / "staging",
            self.tree.in_use,
            lambda ino: self.staging.peek(ino) is not None,
        )
        findings = [str(finding) for finding in check.run()]
        assert not findings, findings

    # ---- Inside ----

    def _stale(self, effects: list[Effect]) -> None:
        self.effects += effects

    def _feed_comes_first(self, ino: int, step: plan.Step) -> bool:
        if isinstance(step, plan.Delete):
            return self.tree.get(ino).is_folder
        unknown, self._revisions_unknown = self._revisions_unknown, False
        return unknown

    def _carry_out(self, ino: int, step: plan.Step) -> bool:
        try:
            match step:
                case plan.Done():
                    self.journal.done(ino)
                case plan.Hold(reason):
                    self.journal.refused(ino, reason)
                    return False
                case plan.CreateFolder(path):
                    self._create_folder(ino, path)
                case plan.Delete(source, rev):
                    self._delete(ino, source, rev)
                case plan.Move(source, target):
                    self._move(ino, source, target)
                case plan.Bring():
                    self._bring(ino)
                case plan.SetAttributes(target):
                    self._set_attributes(ino, target)
                case plan.Upload(path, replaces):
                    return self._upload(ino, path, replaces)
        except EndpointError:
            return False
        return True

    def _bring(self, ino: int) -> None:
        staged = self.staging.begin(self.tree.get(ino))
        self.fill(staged)
        self.staging.record(staged)
        self.staging.let_go(ino)

    def _set_attributes(self, ino: int, target: RemotePath) -> None:
        inode = self.tree.get(ino)
        written = None if inode.is_folder else inode.base_mtime_ns
        fields = encode(attributes.to_keep(inode), written)
        wanted, removed = delta(attributes.confirmed(inode), fields)
        self.dropbox.update_properties(target, wanted, removed)
        Keeping(self.tree).confirm(ino, fields)

    def _create_folder(self, ino: int, path: RemotePath) -> None:
        parent = self.tree.get(ino).parent
        assert parent is not None
        try:
            node = self.dropbox.mkdir(path)
        except EndpointError as error:
            if not error.has("path", "conflict", "folder"):
                raise
            node = self.dropbox.find(path)
        self._stale(self.journal.confirm_place(ino, entry_of(node), parent))

    def _delete(self, ino: int, source: RemotePath, rev: str | None) -> None:
        try:
            self.dropbox.delete(source, rev)
        except EndpointError as error:
            if error.has("path_write", "conflict"):
                self._stale(self.journal.give_up_delete(ino))
                return
            if not error.has("path_lookup", "not_found"):
                raise
        self.journal.confirm_delete(ino)

    def _move(self, ino: int, source: RemotePath, target: RemotePath) -> None:
        inode = self.tree.get(ino)
        base = self.tree.base_path(ino)
        passing = base is not None and target == plan.passing_place(base, ino)
        parent = inode.base_parent if passing else inode.parent
        assert parent is not None
        entry = entry_of(self.dropbox.move(source, target))
        self._revisions_unknown = self._revisions_unknown or inode.is_folder
        self._stale(self.journal.confirm_place(ino, entry, parent))

    def _upload(self, ino: int, path: RemotePath, replaces: str | None) -> bool:
        staged = self.staging.get(ino)
        if staged is None:
            return False
        inode = self.tree.get(ino)
        assert inode.parent is not None
        self.fill(staged)
        mode = Add() if replaces is None else Update(replaces)
        data = staged.read(0, staged.size)
        group = self.attributes.for_commit(ino, staged.mtime_ns)
        fields = None if group is None else group.fields
        second = staged.mtime_ns // SECOND * SECOND
        entry = entry_of(self.dropbox.upload(path, data, mode, second, fields))
        assert isinstance(entry, FileEntry)
        self._stale(
            self.journal.confirm_upload(
                ino, entry, parent=inode.parent, name=inode.name, current=True
            )
        )
        if group is not None:
            self.attributes.committed(ino, entry, group, staged.mtime_ns)
        self.staging.retire(staged)
        staged.path.unlink()
        return True

    def fill(self, staged: StagedFile) -> None:
        """Bring in what shows through from the version that it was made from."""
        for start, end in staged.missing(0, staged.size):
            assert staged.from_rev is not None
            staged.fill(start, self.dropbox.contents[staged.from_rev][start:end])


def entries(effects: list[Effect]) -> set[tuple[int, str]]:
    """The kernel entries that were reported stale."""
    return {(effect.parent, effect.name) for effect in effects if isinstance(effect, Entry)}


def contents(effects: list[Effect]) -> set[int]:
    """The inodes whose pages were reported stale."""
    return {effect.ino for effect in effects if isinstance(effect, Content)}
