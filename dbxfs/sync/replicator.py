"""Draining the journal: one inode after the other, each until nothing is left to do.

What to do is decided in `core.plan`; here it is carried out, confirmed and, where it fails,
put off. An inode's turn comes when it has been left alone for the settle delay, so that a file
that is created and removed at once, or saved by way of a temporary file, costs nothing or one
commit. What it depends on (its folder, whoever holds its name) goes first.

A reply can be lost after the work was done. Whatever failed in doubt is looked at before it is
done again: content by its hash, a move by id.

Dropbox's refusals are kept in the journal with the reason and tried again after some minutes, or
at once when a program changes the file; they never hold up what does not depend on them.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator

import trio

from dbxfs.api.client import Add, Client, Update
from dbxfs.api.errors import (
    DropboxError,
    EndpointError,
    PathRootChanged,
    RateLimited,
    ServerTrouble,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from dbxfs.core import plan
from dbxfs.core.backoff import delay
from dbxfs.core.model import DeletedEntry, FileEntry, FolderEntry, RemotePath
from dbxfs.core.names import fold
from dbxfs.store.blocks import BlockCache
from dbxfs.store.inode import Effect, Inode
from dbxfs.store.journal import Journal
from dbxfs.store.staging import StagedFile, Staging
from dbxfs.store.tree import Tree

from .agenda import Agenda
from .fetcher import DamagedContentError
from .uploader import ChangedMeanwhileError, Uploader

log = logging.getLogger(__name__)

SETTLE = 1.0
AGAIN = 0.1
"""Seconds after which what changed under our hands is tried again, at the earliest."""
HELD_AGAIN = 300.0
FEED_FIRST = 1.0
"""Seconds to wait when Dropbox knows something that the feed has still to tell."""
FEED_TRIES = 5
FEED_PATIENCE = 10.0
"""Seconds to wait for the feed, at the most."""
WAIT_FOR = (Unreachable, RateLimited, ServerTrouble, Unauthorized, PathRootChanged)
"""Failures that are nobody's fault but the moment's: everything waits. Others are held alone."""
FEED_KNOWS = (("from_lookup", "not_found"), ("to", "conflict"), ("path", "conflict"))
OPEN_TOO_LONG = 30.0
"""Seconds after which what a program keeps writing to is sent as it is."""
PAUSE_CAP = 30.0
LOOK_AGAIN = 1.0
AT_ONCE = 0.0
"""Patience of a call under the turn: what has to wait must not keep the feed waiting."""


class NotSentError(Exception):
    """Dropbox does not have it, and `str()` says why; it stays in the journal."""


class Replicator:
    """Makes Dropbox equal to what programs see."""

    def __init__(
        self,
        client: Client,
        tree: Tree,
        journal: Journal,
        staging: Staging,
        uploader: Uploader,
        cache: BlockCache,
        turn: trio.Lock,
        on_effects: Callable[[list[Effect]], None],
        settle: float = SETTLE,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`settle`: seconds that an inode must be left alone before it is sent.

        `catch_up` returns when the feed has told all that was done before the call.
        """
        self._catch_up = catch_up
        self._client = client
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._uploader = uploader
        self._cache = cache
        self._turn = turn
        self._on_effects = on_effects
        self._settle = settle
        self._agenda = Agenda()
        self._failures: dict[int, int] = {}
        self._doubt: set[int] = set()
        self._in_a_row = 0
        self._resume_at = 0.0
        self._wake = trio.Event()
        self._progress = trio.Event()
        self._committing: set[int] = set()
        self._revisions_unknown = False
        self.running = False
        self.trouble: str | None = None
        """Why nothing can be sent at the moment, for people; None: all is well."""

    # ---- What others call ----

    def pending(self, ino: int) -> None:
        """The inode has changed: it is due when it has settled."""
        self._put_off(ino, self._settle)

    def hurry(self) -> None:
        """Send everything now, also what was put off."""
        self._resume_at = 0.0
        for row in self._journal.rows():
            self._put_off(row.ino, 0)

    async def drained(self) -> None:
        """Return when nothing is left that can be sent; what Dropbox refuses again may remain."""
        self._staging.record_all()
        self._journal.forgive()
        self.hurry()
        while any(row.error is None for row in self._journal.rows()):
            await self._progress.wait()

    def is_committing(self, ino: int) -> bool:
        """Whether a commit of the inode is under way: its row must stay until the reply."""
        return ino in self._committing

    async def sent(self, ino: int) -> None:
        """Return when Dropbox has the inode as it is now; `NotSentError` when it refuses."""
        self._put_off(ino, 0)
        while (row := self._journal.row(ino)) is not None:
            trouble = row.error or self.trouble
            if trouble is None and not self.running:
                trouble = "Dropbox has not answered yet"
            if trouble is not None:
                raise NotSentError(trouble)
            with trio.move_on_after(LOOK_AGAIN):
                await self._progress.wait()

    async def run(self) -> None:
        """Work for ever."""
        self.running = True
        for row in self._journal.rows():
            self._put_off(row.ino, 0)
        while True:
            now = trio.current_time()
            ino = self._agenda.take(now) if now >= self._resume_at else None
            if ino is not None:
                await self._guarded(ino)
                self._progress.set()
                self._progress = trio.Event()
                continue
            self._wake = trio.Event()
            with trio.CancelScope(deadline=max(self._agenda.next_time(), self._resume_at)):
                await self._wake.wait()

    def _put_off(self, ino: int, seconds: float) -> None:
        self._agenda.put(ino, trio.current_time() + seconds)
        self._wake.set()

    # ---- One inode ----

    async def _guarded(self, ino: int) -> None:
        """Work on it; a mistake of ours with one inode must not end the mount for all."""
        try:
            await self._work(ino)
        except Exception as error:
            log.exception("inode %d could not be worked on", ino)
            self._put_off(ino, HELD_AGAIN)
            with contextlib.suppress(sqlite3.Error):
                self._hold(ino, f"internal error ({type(error).__name__}); see the log")

    async def _work(self, ino: int) -> None:
        """Do what the inode needs, and before that what it depends on."""
        waiting: list[int] = []
        finished: set[int] = set()
        while True:
            await trio.lowlevel.checkpoint()
            if self._journal.row(ino) is None or self._tree.find(ino) is None:
                finished.add(ino)
                if not waiting:
                    return
                ino = waiting.pop()
                continue
            step = plan.next_step(self._journal.facts(ino))
            if isinstance(step, plan.After) and step.ino in (*waiting, ino):
                step = plan.next_step(self._journal.facts(ino), in_cycle=True)
            if not isinstance(step, plan.After):
                going_on = await self._do(ino, step)
            elif step.ino in (*waiting, ino) or step.ino in finished:
                self._hold(ino, f"waits for inode {step.ino}, which waits for it")
                going_on = False
            elif going_on := self._may_go_first(ino, step.ino):
                waiting.append(ino)
                ino = step.ino
            if not going_on:
                for other in waiting:
                    self._put_off(other, FEED_FIRST)
                return

    def _may_go_first(self, ino: int, first: int) -> bool:
        """Whether the inode that `ino` waits for can be worked on now; else `ino` is put off."""
        row = self._journal.row(first)
        if row is None:
            self._tree.mark_pending(first)
        elif row.error is not None:
            self._hold(ino, f"waits for {self._tree.get(first).name!r}: {row.error}")
            return False
        elif self._agenda.due(first) > trio.current_time() + self._settle:
            self._put_off(ino, FEED_FIRST)
            return False
        return True

    async def _do(self, ino: int, step: plan.Step) -> bool:
        """Carry out one step; whether to go on now."""
        try:
            if self._feed_comes_first(ino, step):
                await self._see_the_feed()
            match step:
                case plan.Done():
                    self._finish(ino)
                case plan.Hold(reason):
                    self._hold(ino, reason)
                    return False
                case plan.Upload():
                    return await self._upload(ino, step)
                case plan.CreateFolder() | plan.Delete() | plan.Move():
                    async with self._turn:
                        if self._still_next(ino, step):
                            with self._commit(ino):
                                await self._call(ino, step)
        except EndpointError as error:
            self._refused(ino, error)
            return False
        except WAIT_FOR as error:
            self._failed(ino, error)
            return False
        except DropboxError as error:
            self._doubt.add(ino)
            self._hold_at_last(ino, error, passing=isinstance(error, UnexpectedReply))
            return False
        except ChangedMeanwhileError as error:
            log.debug("inode %d: %s", ino, error)
            self._put_off(ino, max(self._settle, AGAIN))
            return False
        except (DamagedContentError, OSError) as error:
            self._hold(ino, str(error))
            return False
        self._well()
        return True

    def _feed_comes_first(self, ino: int, step: plan.Step) -> bool:
        """Whether the step must be decided on what Dropbox has now, not on what was told last.

        A folder is deleted with all that is in it, so what somebody has put there has to be seen
        first. A folder's move gives every file below a new revision, which only the feed tells:
        what is sent from there before would be made from a revision that is past.
        """
        if isinstance(step, plan.Delete) and self._tree.get(ino).is_folder:
            return True
        return self._revisions_unknown and isinstance(step, plan.Call)

    async def _see_the_feed(self) -> None:
        if self._catch_up is None:
            return
        with trio.move_on_after(FEED_PATIENCE) as waiting:
            await self._catch_up()
        if waiting.cancelled_caught:
            raise ChangedMeanwhileError("the feed has to come first")
        self._revisions_unknown = False

    def _still_next(self, ino: int, step: plan.Step) -> bool:
        """Whether nothing has changed the decision while we waited for the turn."""
        if self._tree.find(ino) is None:
            return False
        facts = self._journal.facts(ino)
        return step in (plan.next_step(facts), plan.next_step(facts, in_cycle=True))

    def _finish(self, ino: int) -> None:
        row = self._journal.row(ino)
        self._journal.done(ino)
        self._doubt.discard(ino)
        self._failures.pop(ino, None)
        self._agenda.drop(ino)
        if row is not None and row.error is not None:
            # Others may have been held because of this one.
            self.hurry()

    @contextlib.contextmanager
    def _commit(self, ino: int) -> Iterator[None]:
        self._committing.add(ino)
        try:
            yield
        finally:
            self._committing.discard(ino)

    async def _call(self, ino: int, step: plan.CreateFolder | plan.Delete | plan.Move) -> None:
        """Make a call that moves no bytes, and confirm it. The turn is ours."""
        match step:
            case plan.CreateFolder(path):
                await self._create_folder(ino, path)
            case plan.Delete():
                await self._delete(ino, step)
            case plan.Move():
                await self._move(ino, step)

    async def _create_folder(self, ino: int, path: RemotePath) -> None:
        parent = self._tree.get(ino).parent
        assert parent is not None  # noqa: S101
        try:
            entry = await self._client.create_folder(path, patience=AT_ONCE)
        except EndpointError as error:
            if not error.has("path", "conflict", "folder"):
                raise
            found = await self._client.metadata(path, patience=AT_ONCE)
            if isinstance(found, FileEntry):
                raise
            entry = found
        self._on_effects(self._journal.confirm_place(ino, entry, parent))

    async def _delete(self, ino: int, step: plan.Delete) -> None:
        try:
            await self._client.delete(step.source, step.rev, patience=AT_ONCE)
        except EndpointError as error:
            if error.has("path_write", "conflict"):
                log.info("inode %d changed elsewhere since it was deleted; it stays", ino)
                self._on_effects(self._journal.give_up_delete(ino))
                return
            if not error.has("path_lookup", "not_found"):
                raise
        self._journal.confirm_delete(ino)

    async def _move(self, ino: int, step: plan.Move) -> None:
        inode = self._tree.get(ino)
        base = self._tree.base_path(ino)
        passing = base is not None and step.target == plan.passing_place(base, ino)
        parent = inode.base_parent if passing else inode.parent
        assert parent is not None  # noqa: S101
        entry = await self._moved_already(ino, step) if ino in self._doubt else None
        if entry is None:
            moved = await self._client.move(step.source, step.target, patience=AT_ONCE)
            if isinstance(moved, DeletedEntry):
                raise ChangedMeanwhileError("it was deleted in the moment of its move")
            entry = moved
        self._on_effects(self._journal.confirm_place(ino, entry, parent))
        self._doubt.discard(ino)
        self._revisions_unknown = self._revisions_unknown or inode.is_folder

    async def _moved_already(self, ino: int, step: plan.Move) -> FileEntry | FolderEntry | None:
        """After a lost reply: the entry, when it is at its target."""
        try:
            entry = await self._client.metadata(RemotePath(self._tree.get(ino).id or step.target))
        except EndpointError:
            return None
        return entry if fold(entry.path) == fold(step.target) else None

    async def _upload(self, ino: int, step: plan.Upload) -> bool:
        staged = self._staging.get(ino)
        if staged is None:
            raise ChangedMeanwhileError("its staged content is gone")
        if staged.dirty:
            if not self._open_too_long(ino):
                self._put_off(ino, max(self._settle, AGAIN))
                return False
            self._staging.record(staged)
        try:
            with staged.reading(), self._commit(ino):
                digest = await self._send(staged, step)
        finally:
            self._staging.let_go(ino)
        if digest is not None:
            await trio.to_thread.run_sync(self._keep_as_clean, staged, digest)
        self._well()
        return True

    async def _send(self, staged: StagedFile, step: plan.Upload) -> str | None:
        """Send and confirm what is staged; gives its content hash if it is not staged any more."""
        ino, generation = staged.ino, staged.generation
        inode = self._tree.get(ino)
        clean = False
        digest = await self._uploader.hash(staged)

        def current() -> bool:  # Asked in the moment of the commit.
            same = staged.generation == generation and not staged.writers
            if not same or plan.next_step(self._journal.facts(ino)) != step:
                return False
            self._journal.sending(ino, digest)
            return True

        def confirm(entry: FileEntry) -> None:
            nonlocal clean
            clean = self._confirm_upload(staged, entry, inode, generation)

        if ino in self._doubt and await self._uploaded_already(step, digest, confirm):
            self._doubt.discard(ino)
        else:
            mode = Add() if step.replaces is None else Update(step.replaces)
            await self._uploader.send(staged, step.path, mode, digest, current, confirm)
        return digest if clean else None

    def _confirm_upload(
        self, staged: StagedFile, entry: FileEntry, inode: Inode, generation: int
    ) -> bool:
        """Store the answer; whether nothing was written since, so that nothing is staged now."""
        current = staged.generation == generation and not staged.writers
        assert inode.parent is not None  # noqa: S101
        stale = self._journal.confirm_upload(
            staged.ino, entry, parent=inode.parent, name=inode.name, current=current
        )
        if current:
            self._staging.retire(staged)
        else:
            staged.made_from(entry.rev, entry.content_hash, entry.size)
        self._on_effects(stale)
        return current

    async def _uploaded_already(
        self, step: plan.Upload, digest: str, confirm: Callable[[FileEntry], None]
    ) -> bool:
        """After a lost reply: whether the content is there; then it is confirmed."""
        async with self._turn:
            try:
                entry = await self._client.metadata(step.path)
            except EndpointError:
                return False
            if not isinstance(entry, FileEntry) or entry.content_hash != digest:
                return False
            confirm(entry)
        return True

    def _keep_as_clean(self, staged: StagedFile, digest: str) -> None:
        """What was staged is a clean copy now: it moves into the cache. Blocks."""
        self._cache.put_file(digest, staged.path)
        staged.path.unlink(missing_ok=True)

    def _open_too_long(self, ino: int) -> bool:
        row = self._journal.row(ino)
        age = 0 if row is None else self._tree.clock() - row.since_ns
        return age > OPEN_TOO_LONG * 1_000_000_000

    # ---- What went wrong ----

    def _refused(self, ino: int, error: EndpointError) -> None:
        """Dropbox will not do this one: later, after the feed, or after a look by a person."""
        if "too_many_write_operations" in error.tags:
            self._failed(ino, error)
            return
        self._hold_at_last(ino, error, passing=any(error.has(*tags) for tags in FEED_KNOWS))

    def _hold_at_last(self, ino: int, error: DropboxError, *, passing: bool) -> None:
        """Try what may be over in a moment a few times before people are told."""
        failures = self._failures[ino] = self._failures.get(ino, 0) + 1
        if passing and failures <= FEED_TRIES:
            self._put_off(ino, FEED_FIRST * failures)
        else:
            self._hold(ino, str(error))

    def _hold(self, ino: int, reason: str) -> None:
        log.warning("inode %d stays here for now: %s", ino, reason)
        self._journal.refused(ino, reason)
        self._put_off(ino, HELD_AGAIN)

    def _failed(self, ino: int, error: DropboxError) -> None:
        """Dropbox cannot be reached, or asks for patience: everything waits a while."""
        if getattr(error, "doubt", True):
            self._doubt.add(ino)
        pause = delay(self._in_a_row, base=0.5, cap=PAUSE_CAP, random=random.random())  # noqa: S311
        if isinstance(error, RateLimited | ServerTrouble) and error.retry_after:
            pause = max(pause, error.retry_after)
        self._in_a_row += 1
        self._resume_at = trio.current_time() + pause
        self._put_off(ino, pause)
        if self.trouble is None:
            log.warning("changes cannot be sent: %s", error)
        self.trouble = str(error)

    def _well(self) -> None:
        self._in_a_row, self.trouble = 0, None
