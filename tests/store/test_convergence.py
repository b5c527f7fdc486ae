"""The promise of the whole store, against a Dropbox in memory and any order of events.

A state machine mixes what programs do, what happens elsewhere, single pages of the feed and
single commits, over names so few that they collide. After every remote step it checks that the
kernel was told of all that changed; at the end, when everything has been sent and followed:

* programs see what Dropbox has, under the same names, with the same bytes;
* nothing is pending, nothing is unreachable;
* every content that was acknowledged, here or elsewhere, still exists, unless somebody who saw it
  deleted it or wrote over it.

Failures that were found are pinned as `test_regression_*` in the tests of the module at fault.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dbxfs.api.client import EndpointError
from dbxfs.core import plan
from dbxfs.core.attributes import PLAIN_FOLDER_MODE, decode, encode
from dbxfs.core.attributes import Attributes as Kept
from dbxfs.core.content_hash import content_hash
from dbxfs.core.names import fold
from dbxfs.store import attributes
from dbxfs.store.inode import ROOT_INO, Attributes, Content, Effect, Entry, Inode
from dbxfs.store.staging import StagedFile
from dbxfs.store.tree import TreeError
from tests.fakes import FakeDropbox, Node

from .mount import Mount

THEIR_NAMES = st.sampled_from(["a", "A", "b", "ä", "A\u0308", "c.x"])
NAMES = THEIR_NAMES | st.just(".~l")
"""Dropbox does not take the last."""
MODES = st.sampled_from([None, 0o600, 0o755])
MOMENTS = st.sampled_from([None, 7, 5_000_000_007])
VALUES = st.sampled_from([None, b"1", b"2"])
PICK = st.integers(0, 30)
LIMIT = st.sampled_from([1, 2, 3, 2000])


class Noted(Mount):
    """A mount whose commits are told with a failing example."""

    def _carry_out(self, ino: int, step: plan.Step) -> bool:
        note(f"  commit {ino}: {step}")
        done = super()._carry_out(ino, step)
        note(f"    -> {done}")
        return done


class Convergence(RuleBasedStateMachine):
    """Two sides, edited at once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dbxfs-convergence-"))
        self.dropbox = FakeDropbox()
        self.mount = Noted(self.folder, self.dropbox)
        self.alive: set[bytes] = set()
        self.serial = itertools.count(1)
        self.held: dict[int, StagedFile] = {}
        self.watch()

    def watch(self) -> None:
        self.mount.tree.in_use = lambda ino: ino in self.held

    def fresh(self) -> bytes:
        content = b"<%d>" % next(self.serial)
        self.alive.add(content)
        return content

    # ---- What programs do ----

    def local(self, pick: int, *, folders: bool | None = None) -> str | None:
        paths = sorted(
            path
            for path, data in self.mount.paths().items()
            if folders is None or (data is None) == folders
        )
        return paths[pick % len(paths)] if paths else None

    def local_place(self, pick: int, name: str) -> str:
        folder = "" if pick % 2 else self.local(pick // 2, folders=True) or ""
        return f"{folder}/{name}"

    def lose(self, path: str) -> None:
        inode = self.mount.look(path)
        if inode is not None and not inode.is_folder:
            self.alive.discard(self.mount.content(inode))

    @rule(pick=PICK, name=NAMES)
    def program_writes(self, pick: int, name: str) -> None:
        path = self.local_place(pick, name)
        there = self.mount.look(path)
        if there is not None and there.is_folder:
            return
        self.lose(path)
        data = self.fresh()
        note(f"program writes {path} {data!r}")
        self.mount.write(path, data)

    @rule(pick=PICK, name=NAMES)
    def program_writes_what_dropbox_has(self, pick: int, name: str) -> None:
        path = self.local_place(pick, name)
        node = self.dropbox.at(path)
        there = self.mount.look(path)
        if node is None or node.data is None or (there is not None and there.is_folder):
            return
        self.lose(path)
        self.alive.add(node.data)
        note(f"program writes {path} {node.data!r}")
        self.mount.write(path, node.data)

    @rule(pick=PICK)
    def program_appends(self, pick: int) -> None:
        path = self.local(pick, folders=False)
        if path is None:
            return
        old = self.mount.read(path)
        more = b"+%d" % next(self.serial)
        note(f"program appends {path} {more!r}")
        self.alive.discard(old)
        self.alive.add(old + more)
        self.mount.append(path, more)

    @rule(pick=PICK)
    def program_writes_and_keeps_open(self, pick: int) -> None:
        path = self.local(pick, folders=False)
        if path is None:
            return
        self.lose(path)
        data = self.fresh()
        inode = self.mount.tree.get(self.mount.ino(path))
        note(f"program writes {path} {data!r} (inode {inode.ino}) and keeps it open")
        staged = self.mount.staging.begin(inode)
        self.held[inode.ino] = staged
        staged.truncate(0, self.mount.clock())
        staged.write(0, data, self.mount.clock())

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def program_closes(self, pick: int) -> None:
        ino = sorted(self.held)[pick % len(self.held)]
        note(f"program closes inode {ino}")
        self.close(ino)

    def close(self, ino: int) -> None:
        del self.held[ino]
        staged = self.mount.staging.get(ino)
        if staged is not None and staged.dirty:
            self.mount.staging.record(staged)
        self.mount.staging.abandon(ino)
        self.mount.tree.drop_unused(ino)

    @rule(pick=PICK, name=NAMES)
    def program_makes_folder(self, pick: int, name: str) -> None:
        path = self.local_place(pick, name)
        if self.mount.look(path) is None and path.count("/") < 5:
            note(f"program makes {path}")
            self.mount.mkdir(path)

    @rule(pick=PICK)
    def program_removes(self, pick: int) -> None:
        path = self.local(pick)
        if path is None:
            return
        note(f"program removes {path}")
        for below in self.mount.paths():
            if fold(below + "/").startswith(fold(path + "/")):
                self.lose(below)
        inode = self.mount.tree.get(self.mount.ino(path))
        if inode.is_folder:
            self.mount.rmtree(path)
        else:
            self.mount.unlink(path)

    @rule(source=PICK, folder=PICK, name=NAMES)
    def program_renames(self, source: int, folder: int, name: str) -> None:
        path, place = self.local(source), self.local_place(folder, name)
        if path is None:
            return
        replaced = self.mount.look(place)
        lost = None
        if replaced is not None and not replaced.is_folder:
            lost = self.mount.content(replaced)
        try:
            self.mount.rename(path, place)
        except TreeError:
            return
        note(f"program renamed {path} -> {place}")
        if lost is not None and replaced is not None:
            moved = self.mount.look(place)
            assert moved is not None
            if moved.ino != replaced.ino:
                self.alive.discard(lost)

    @rule(pick=PICK, mode=MODES, moment=MOMENTS, value=VALUES)
    def program_sets_attributes(
        self, pick: int, mode: int | None, moment: int | None, value: bytes | None
    ) -> None:
        path = self.local(pick)
        if path is None:
            return
        inode = self.mount.tree.get(self.mount.ino(path))
        note(f"program sets attributes of {path}: {mode} {moment} {value!r}")
        self.mount.tree.set_attributes(inode.ino, mode=mode, mtime_ns=moment)
        staged = self.mount.staging.peek(inode.ino)
        if staged is not None and moment is not None:
            staged.mtime_ns = moment
        if value is not None:
            self.mount.tree.set_xattr(inode.ino, b"user.a", value)

    # ---- What happens elsewhere ----

    def remote(self, pick: int, *, folders: bool | None = None) -> str | None:
        paths = sorted(
            node.path
            for node in self.dropbox.nodes.values()
            if folders is None or node.is_folder == folders
        )
        return paths[pick % len(paths)] if paths else None

    def remote_place(self, pick: int, name: str) -> str:
        folder = "" if pick % 2 else self.remote(pick // 2, folders=True) or ""
        return f"{folder}/{name}"

    @rule(pick=PICK, name=THEIR_NAMES)
    def elsewhere_writes(self, pick: int, name: str) -> None:
        path = self.remote_place(pick, name)
        there = self.dropbox.at(path)
        if there is not None and there.is_folder:
            return
        if there is not None and there.data is not None:
            self.alive.discard(there.data)
        data = self.fresh()
        note(f"elsewhere writes {path} {data!r}")
        self.dropbox.write(path, data)

    @rule(pick=PICK, name=THEIR_NAMES)
    def elsewhere_makes_folder(self, pick: int, name: str) -> None:
        path = self.remote_place(pick, name)
        if self.dropbox.at(path) is None and path.count("/") < 5:
            note(f"elsewhere makes {path}")
            self.dropbox.mkdir(path)

    @rule(pick=PICK)
    def elsewhere_removes(self, pick: int) -> None:
        path = self.remote(pick)
        if path is not None:
            note(f"elsewhere removes {path}")
            for node in self.dropbox.below(path):
                self.alive.discard(node.data or b"")
            self.dropbox.delete(path)

    @rule(source=PICK, folder=PICK, name=THEIR_NAMES)
    def elsewhere_moves(self, source: int, folder: int, name: str) -> None:
        path, place = self.remote(source), self.remote_place(folder, name)
        if path is None:
            return
        try:
            self.dropbox.move(path, place)
        except EndpointError:
            return
        note(f"elsewhere moved {path} -> {place}")

    @rule(pick=PICK, mode=MODES, moment=MOMENTS, value=VALUES)
    def elsewhere_sets_attributes(
        self, pick: int, mode: int | None, moment: int | None, value: bytes | None
    ) -> None:
        path = self.remote(pick)
        if path is None:
            return
        node = self.dropbox.find(path)
        note(f"elsewhere sets attributes of {path}: {mode} {moment} {value!r}")
        xattrs = {} if value is None else {b"user.b": value}
        kept = Kept(mode=mode, mtime_ns=moment, xattrs=xattrs)
        self.dropbox.set_properties(path, encode(kept, None if node.is_folder else node.mtime_ns))

    # ---- What the daemon does ----

    def snapshot(self) -> dict[tuple[int, str], Inode]:
        return {
            (folder, inode.key): inode
            for folder in [ROOT_INO, *(i.ino for i in self.mount.tree.select("kind = 1"))]
            for inode in self.mount.tree.children(folder)
        }

    def check_effects(
        self,
        before: dict[tuple[int, str], Inode],
        effects: list[Effect],
        *,
        committing: bool = False,
    ) -> None:
        """Whatever the kernel may have cached and is no longer so was reported."""
        after = self.snapshot()
        told = {(e.parent, fold(e.name)) for e in effects if isinstance(e, Entry)}
        for place in before.keys() | after.keys():
            old, new = before.get(place), after.get(place)
            if (old and (old.ino, old.name)) != (new and (new.ino, new.name)):
                assert place in told, f"nobody told the kernel of {place}: {old} -> {new}"
        pages = {e.ino for e in effects if isinstance(e, Content)}
        told_of = {e.ino for e in effects if isinstance(e, Attributes)} | pages
        inodes = {inode.ino: inode for inode in after.values()}
        for old in before.values():
            new = inodes.get(old.ino)
            if new is None or self.mount.staging.get(old.ino) is not None:
                continue
            if new.hash != old.hash and not committing:
                assert new.ino in pages, f"stale pages: {old} -> {new}"
            shown = [(i.size, i.mtime_ns, i.mode) for i in (old, new)]
            if shown[0] != shown[1]:
                assert new.ino in told_of, f"stale attributes: {old} -> {new}"

    @rule(limit=LIMIT)
    def feed_brings_a_page(self, limit: int) -> None:
        before = self.snapshot()
        self.mount.effects = []
        note(f"page of {limit}")
        self.mount.page(limit)
        self.check_effects(before, self.mount.effects)

    @rule(count=st.integers(1, 4))
    def page_is_broken_off(self, count: int) -> None:
        before = self.snapshot()
        self.mount.effects = []
        note(f"page broken off after {count}")
        self.mount.page(broken_off_after=count)
        self.check_effects(before, self.mount.effects)

    @rule(pick=PICK)
    def journal_commits(self, pick: int) -> None:
        rows = [row for row in self.mount.journal.rows() if row.ino not in self.held]
        if rows:
            before = self.snapshot()
            self.mount.effects = []
            self.mount.commit(rows[pick % len(rows)].ino)
            self.check_effects(before, self.mount.effects, committing=True)

    @rule()
    def cursor_is_reset(self) -> None:
        note("cursors reset")
        self.dropbox.reset_cursors()

    @precondition(lambda self: not self.held)
    @rule()
    def daemon_restarts(self) -> None:
        note("restart")
        recovered = self.mount.restart()
        assert recovered == []
        self.watch()

    # ---- What must hold ----

    @invariant()
    def rows_are_consistent(self) -> None:
        self.mount.check()

    def teardown(self) -> None:
        try:
            for ino in list(self.held):
                self.close(ino)
            self.mount.settle()
            assert self.mount.sent() == self.dropbox.tree()
            self.check_rows()
            kept = {node.data for node in self.dropbox.nodes.values()}
            kept |= set(self.mount.paths().values())
            lost = self.alive - kept
            assert not lost, f"lost: {lost}"
            assert self.mount.restart() == []
            assert self.mount.sent() == self.dropbox.tree()
        finally:
            self.mount.staging.close()
            self.mount.database.close()
            shutil.rmtree(self.folder)

    def check_rows(self) -> None:
        for inode in self.mount.tree.select("ino != 1"):
            assert inode.parent is not None, f"left behind: {inode}"
            if self.mount.tree.is_local_only(inode):
                assert not inode.on_dropbox
                continue
            assert not inode.moved
            node = self.dropbox.find(str(inode.id))
            assert node.rev == (inode.rev or "")
            self.check_attributes(inode, node)

    def check_attributes(self, inode: Inode, node: Node) -> None:
        """What programs see is what Dropbox keeps; but for folders' times, which are not sent."""
        if node.data is None:
            there = decode(node.properties, None, None)
            mode = None if there.mode == PLAIN_FOLDER_MODE else there.mode
            there = msgspec.structs.replace(there, mtime_ns=None, mode=mode)
            here = msgspec.structs.replace(attributes.to_keep(inode), mtime_ns=None)
        else:
            there = decode(node.properties, node.mtime_ns, content_hash(node.data))
            here = attributes.to_keep(inode)
        assert here == there, f"{inode} {node}"


Convergence.TestCase.settings = settings(
    max_examples=int(os.environ.get("DBXFS_CONVERGENCE", "60")),
    stateful_step_count=int(os.environ.get("DBXFS_STEPS", "30")),
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestConvergence = Convergence.TestCase
TestConvergence.__test__ = True
