"""Carrying out one step of an inode: the call, its confirmation, and what both depend on.

Calls that change a namespace are made in turn with the feed (see `feed`), and each is decided once
more when the turn has come. A reply can be lost after the work was done: what failed in doubt is
looked at before it is done again, content by its hash and a move by id.

What a call may be decided on is also settled here: a folder is deleted, and what lies in a folder
that was moved is sent, only after a look at the feed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

import trio

from dbxfs.api.client import Add, Client, Update
from dbxfs.api.errors import EndpointError
from dbxfs.core import plan
from dbxfs.core.model import DeletedEntry, FileEntry, FolderEntry, RemotePath
from dbxfs.core.names import fold
from dbxfs.store.blocks import BlockCache
from dbxfs.store.inode import Effect, Inode
from dbxfs.store.journal import Journal
from dbxfs.store.staged import StagedFile
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree

from .uploader import ChangedMeanwhileError, Uploader

log = logging.getLogger(__name__)

FEED_PATIENCE = 10.0
"""Seconds to wait for the feed, at the most."""
OPEN_TOO_LONG = 30.0
"""Seconds after which what a program keeps writing to is sent as it is."""
AT_ONCE = 0.0
"""Patience of a call under the turn: what has to wait must not keep the feed waiting."""


class Steps:
    """Makes the calls of `core.plan` for one account."""

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
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_effects` is told what an answer made stale; it must not block.

        `catch_up` returns when the feed has told all that was done before the call.
        """
        self._client = client
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._uploader = uploader
        self._cache = cache
        self._turn = turn
        self._on_effects = on_effects
        self._catch_up = catch_up
        self._doubtful: set[int] = set()
        self._committing: set[int] = set()
        self._revisions_unknown = False

    def is_committing(self, ino: int) -> bool:
        """Whether a commit of the inode is under way: its row must stay until the reply."""
        return ino in self._committing

    def doubt(self, ino: int) -> None:
        """The inode's last call may have been carried out though it failed."""
        self._doubtful.add(ino)

    def settled(self, ino: int) -> None:
        """Nothing is left to do for the inode."""
        self._doubtful.discard(ino)

    async def carry_out(self, ino: int, step: plan.Call) -> None:
        """Make the call and store its answer.

        Raises `DropboxError` when it fails, `ChangedMeanwhileError` when it is to be decided again.
        """
        if self._feed_comes_first(ino, step):
            await self._see_the_feed()
        if isinstance(step, plan.Upload):
            await self._upload(ino, step)
            return
        if isinstance(step, plan.Bring):
            await self._bring(ino)
            return
        async with self._turn:
            if self._still_next(ino, step):
                with self._commit(ino):
                    await self._call(ino, step)

    def _feed_comes_first(self, ino: int, step: plan.Call) -> bool:
        """Whether the step must be decided on what Dropbox has now, not on what was told last.

        A folder is deleted with all that is in it, so what somebody has put there has to be seen
        first. A folder's move gives every file below a new revision, which only the feed tells:
        what is sent from there before would be made from a revision that is past.
        """
        if isinstance(step, plan.Delete) and self._tree.get(ino).is_folder:
            return True
        if isinstance(step, plan.CreateFolder) and not self._journal.sent.is_same(ino, None):
            return True
        return self._revisions_unknown

    async def _see_the_feed(self) -> None:
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

    @contextlib.contextmanager
    def _commit(self, ino: int) -> Iterator[None]:
        self._committing.add(ino)
        try:
            yield
        finally:
            self._committing.discard(ino)
            # Where it was removed, here or by this very commit, nobody else comes by.
            self._tree.drop_unused(ino)

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
        self._journal.sending(ino, None)
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
        entry = await self._moved_already(ino, step) if ino in self._doubtful else None
        if entry is None:
            moved = await self._client.move(step.source, step.target, patience=AT_ONCE)
            if isinstance(moved, DeletedEntry):
                raise ChangedMeanwhileError("it was deleted in the moment of its move")
            entry = moved
        self._on_effects(self._journal.confirm_place(ino, entry, parent))
        self._doubtful.discard(ino)
        self._revisions_unknown = self._revisions_unknown or inode.is_folder

    async def _moved_already(self, ino: int, step: plan.Move) -> FileEntry | FolderEntry | None:
        """After a lost reply: the entry, when it is at its target."""
        try:
            entry = await self._client.metadata(RemotePath(self._tree.get(ino).id or step.target))
        except EndpointError:
            return None
        return entry if fold(entry.path) == fold(step.target) else None

    async def _bring(self, ino: int) -> None:
        staged = self._staging.begin(self._tree.get(ino))
        try:
            with staged.reading(), self._commit(ino):
                await self._uploader.fill(staged)
                self._staging.record(staged)
        finally:
            self._staging.let_go(ino)

    async def _upload(self, ino: int, step: plan.Upload) -> None:
        staged = self._staging.get(ino)
        if staged is None:
            raise ChangedMeanwhileError("its staged content is gone")
        if staged.dirty:
            if not self._open_too_long(ino):
                raise ChangedMeanwhileError("a program is writing to it")
            self._staging.record(staged)
        try:
            with staged.reading(), self._commit(ino):
                digest = await self._send(staged, step)
        finally:
            self._staging.let_go(ino)
        if digest is not None:
            await trio.to_thread.run_sync(self._keep_as_clean, staged, digest)

    async def _send(self, staged: StagedFile, step: plan.Upload) -> str | None:
        """Send and confirm what is staged; gives its content hash if it is not staged any more."""
        ino, generation = staged.ino, staged.generation
        inode = self._tree.get(ino)
        clean = False
        digest = await self._uploader.hash(staged)
        if ino in self._doubtful and not self._journal.sent.is_same(ino, digest):
            # It was sent from another place, or with other content, and may be there.
            await self._see_the_feed()
            self._doubtful.discard(ino)
            raise ChangedMeanwhileError("sent before with an answer that did not come")

        def current() -> bool:  # Asked in the moment of the commit.
            same = staged.generation == generation and not staged.writers
            if not same or plan.next_step(self._journal.facts(ino)) != step:
                return False
            self._journal.sending(ino, digest)
            return True

        def confirm(entry: FileEntry) -> None:
            nonlocal clean
            clean = self._confirm_upload(staged, entry, inode, generation)

        if ino in self._doubtful and await self._uploaded_already(step, digest, confirm):
            self._doubtful.discard(ino)
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
        """What was staged is a clean copy now: it moves into the cache. Blocks.

        The file goes when the database that no longer names it is on the disk: after a power cut
        there would else be a name for bytes that are gone.
        """
        self._cache.put_file(digest, staged.path)
        self._tree.database.sync()
        staged.path.unlink(missing_ok=True)

    def _open_too_long(self, ino: int) -> bool:
        row = self._journal.row(ino)
        age = 0 if row is None else self._tree.clock() - row.since_ns
        return age > OPEN_TOO_LONG * 1_000_000_000
