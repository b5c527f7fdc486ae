"""Sending contents and committing them: each in the cheapest way that does.

- What Dropbox has already, as any file's content, is copied there: no bytes are sent.
- A few small files are one `upload` each. Many share sessions' calls: `start_batch`, their bytes in
  as few bodies as possible, `finish_batch`.
- A large file has a session of its own (`uploader`).

The bytes go first, beside everything else. Only the commit waits for the namespace's turn, and
with it what was read is checked once more: a file that changed meanwhile is not committed. A copy
has the time of its source; the right one is kept here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence, Set
from functools import partial

import trio

from dbxfs.api.batches import Outcome
from dbxfs.api.client import Client, SessionId
from dbxfs.api.errors import AccessDenied, BadRequest, EndpointError, Unauthorized
from dbxfs.core import plan
from dbxfs.core.batching import SMALL, Member
from dbxfs.core.model import FileEntry, FileId, RemotePath
from dbxfs.store.blocks import BlockCache
from dbxfs.store.journal import Journal
from dbxfs.store.pins import Pins
from dbxfs.store.staged import StagedFile
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree, TreeError

from .attributes import AttributeKeeper
from .draft import Draft
from .fetcher import DamagedContentError
from .small import SmallFiles
from .steps import AT_ONCE, SLICE, ChangedMeanwhileError, GoesOnError, Outcomes, Steps
from .timetable import CEILING
from .uploader import Uploader

log = logging.getLogger(__name__)

EARLY = 10.0
"""Seconds after which a file that is still written is begun with though it may be a copy of what
Dropbox has, of which nothing would have to be sent."""
SETTLED = 1.0
"""Seconds after which what was sent early of a file that was closed is likely to stay."""
OVERDUE = CEILING / 2
"""Seconds after which what never rests is committed as it was when it was read."""
OPEN_TOO_LONG = 30.0
"""Seconds after which what a program keeps writing to is sent as it is."""
FEW = 3
"""Files so few cost no more requests one by one than a batch has."""
LITTLE = 256 * 1024
"""Bytes that may go with the commit itself, while the feed waits for its turn."""
SESSION_OF_NO_USE = (
    "lookup_failed",
    "concurrent_session_not_closed",
    "concurrent_session_missing_data",
)
COPIED = 1024 * 1024
"""Bytes from which on a known content is copied. A copy has the time and the properties of nobody's
wish, so they take a call more; less than this is sent in less time, with all that belongs to it."""


class Uploads:
    """Makes the `Bring` and `Upload` calls of `core.plan`."""

    def __init__(
        self,
        client: Client,
        tree: Tree,
        journal: Journal,
        staging: Staging,
        uploader: Uploader,
        steps: Steps,
        cache: BlockCache,
        attributes: AttributeKeeper,
    ) -> None:
        self._client = client
        self._tree = tree
        self._journal = journal
        self._staging = staging
        self._uploader = uploader
        self._steps = steps
        self._cache = cache
        self._pins = Pins(tree)
        self._attributes = attributes
        self._small = SmallFiles(client)
        self._copied = True
        self._not_copied: set[str] = set()
        """Contents whose known sources turned out to have another one."""

    async def bring(self, ino: int) -> None:
        """Bring all of a file's content here: Dropbox is to lose it."""
        staged = self._staging.begin(self._tree.get(ino))
        try:
            with staged.reading():
                # Known from now on, so that another version that comes meanwhile is told from it.
                self._staging.record(staged)
                await self._uploader.fill(staged)
                await trio.to_thread.run_sync(staged.sync)
                if staged.retired:
                    raise ChangedMeanwhileError("it is not wanted any more")
                self._staging.record(staged)
                # What Dropbox is about to lose must not be lost here by a power cut.
                await trio.to_thread.run_sync(self._tree.database.sync)
        finally:
            self._staging.let_go(ino)

    async def send(self, members: Sequence[Member]) -> Outcomes:
        """Send and commit what is staged of the members; who failed, and why.

        Raises `DropboxError` when a call for all of them fails.
        """
        failed: Outcomes = {}
        clean: list[Draft] = []
        with contextlib.ExitStack() as stack:
            drafts = []
            for number, member in enumerate(members, 1):
                if number % SLICE == 0:
                    await trio.lowlevel.checkpoint()
                try:
                    drafts.append(stack.enter_context(self._draft(member.ino)))
                except (ChangedMeanwhileError, TreeError, OSError) as error:
                    failed[member.ino] = error
                    if await self._send_early(member.ino):
                        failed[member.ino] = GoesOnError("a program is writing to it")
            drafts = await self._fill(drafts, failed)
            await self._hash(drafts, failed)
            drafts = [draft for draft in drafts if draft.ino not in failed]
            for draft in drafts:
                draft.source = self._source(draft)
            await self._send_bytes([d for d in drafts if d.source is None], failed)
            drafts = [draft for draft in drafts if draft.ino not in failed]
            try:
                await self._commit(members, drafts, failed, clean)
            finally:
                pinned = {draft.ino for draft in clean if self._pins.covers(draft.ino)}
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._keep_as_clean, clean, pinned)
        return failed

    # ---- What is to be sent ----

    @contextlib.contextmanager
    def _draft(self, ino: int) -> Iterator[Draft]:
        staged = self._staging.get(ino)
        if staged is None:
            raise ChangedMeanwhileError("its staged content is gone")
        if staged.dirty:
            if not self._is_older(ino, OPEN_TOO_LONG):
                raise ChangedMeanwhileError("a program is writing to it")
            self._staging.record(staged)
        try:
            with staged.reading():
                yield Draft(staged, staged.generation, staged.size, staged.mtime_ns)
        finally:
            self._staging.let_go(ino)

    async def _send_early(self, ino: int) -> bool:
        """Begin with a large file that a program is still writing; whether there was anything."""
        staged = self._staging.peek(ino)
        if staged is None or not staged.dirty:
            return False
        with staged.reading():
            if not self._is_older(ino, EARLY) and await self._uploader.may_be_a_copy(staged):
                return False
            return await self._uploader.send_early(staged, lambda: self._is_settled(staged))

    def _is_settled(self, staged: StagedFile) -> bool:
        """Whether a program has closed it and left it alone since."""
        age = self._tree.clock() - staged.written_ns
        return not staged.dirty and age > SETTLED * 1_000_000_000

    def _is_older(self, ino: int, seconds: float) -> bool:
        """Whether the inode has been pending for so long."""
        row = self._journal.row(ino)
        age = 0 if row is None else self._tree.clock() - row.since_ns
        return age > seconds * 1_000_000_000

    async def _fill(self, drafts: Sequence[Draft], failed: Outcomes) -> list[Draft]:
        filled = []
        for draft in drafts:
            try:
                await self._uploader.fill(draft.staged)
                filled.append(draft)
            except (ChangedMeanwhileError, DamagedContentError, EndpointError, OSError) as error:
                failed[draft.ino] = error
        return filled

    async def _hash(self, drafts: Sequence[Draft], failed: Outcomes) -> None:
        def work() -> None:
            for draft in drafts:
                try:
                    draft.read()
                except (OSError, ChangedMeanwhileError) as error:
                    failed[draft.ino] = error

        await trio.to_thread.run_sync(work)

    def _source(self, draft: Draft) -> FileId | None:
        """Who on Dropbox has the content, where a copy can take the place that is wanted."""
        known = self._copied and draft.digest not in self._not_copied
        if not known or draft.size < COPIED or self._tree.find(draft.ino) is None:
            return None
        call = plan.next_step(self._journal.facts(draft.ino))
        if not isinstance(call, plan.Upload) or call.replaces is not None:
            return None
        return self._journal.source_of(draft.digest)

    # ---- The bytes ----

    async def _send_bytes(self, drafts: Sequence[Draft], failed: Outcomes) -> None:
        for draft in drafts:
            if draft.size > SMALL:
                draft.session = await self._uploader.send(draft.staged, draft.size, draft.digests)
            else:
                draft.session = self._small.sent_before(draft)
        small = [draft for draft in drafts if draft.session is None]
        little = len(small) < FEW and sum(draft.size for draft in small) <= LITTLE
        if not little:
            await self._small.send(small, failed)

    # ---- The commit ----

    async def _commit(
        self,
        members: Sequence[Member],
        drafts: Sequence[Draft],
        failed: Outcomes,
        clean: list[Draft],
    ) -> None:
        wanted = {draft.ino: draft for draft in drafts}
        async with self._steps.turn([m for m in members if m.ino in wanted]) as current:
            for member in current:
                draft = wanted[member.ino]
                if self._may_go(draft) and isinstance(member.call, plan.Upload):
                    inode = self._tree.get(draft.ino)
                    draft.call, draft.name = member.call, inode.name
                    draft.parent = inode.parent
                    if not (self._is_copy(draft) or draft.is_sent or draft.is_at_hand):
                        # Its source cannot be copied any more to where it is wanted.
                        draft.call = None
            await self._steps.store([d for d in drafts if d.call is not None], self._about_to_send)
            for draft in drafts:
                if draft.call is None:
                    failed[draft.ino] = ChangedMeanwhileError("changed while it was sent")
            ready = [draft for draft in drafts if draft.call is not None]
            for group in self._groups(ready):
                answers = await self._answers(group)
                await self._steps.store(
                    [*zip(group, answers, strict=True)],
                    lambda pair: self._confirm(*pair, failed, clean),
                )

    def _may_go(self, draft: Draft) -> bool:
        """Whether nothing was written since; or it is written to again and again, and is due."""
        if draft.is_current:
            return True
        return draft.whole and not draft.staged.retired and self._is_older(draft.ino, OVERDUE)

    def _about_to_send(self, draft: Draft) -> None:
        inode = self._tree.get(draft.ino)
        if (inode.parent, inode.name) != (draft.parent, draft.name):
            # A program has moved or removed it since the others were noted.
            draft.call = None
            return
        self._journal.sending(draft.ino, draft.digest)
        if not self._is_copy(draft):
            draft.properties = self._attributes.for_commit(draft.ino, draft.mtime_ns)

    def _groups(self, drafts: Sequence[Draft]) -> Iterator[list[Draft]]:
        """Those that go in one call."""
        copies = [draft for draft in drafts if self._is_copy(draft)]
        others = [draft for draft in drafts if not self._is_copy(draft)]
        sessions = [draft for draft in others if draft.session is not None]
        if copies:
            yield copies
        if sessions:
            yield sessions
        for draft in others:
            if draft.session is None:
                yield [draft]

    @staticmethod
    def _is_copy(draft: Draft) -> bool:
        return draft.source is not None and draft.call is not None and draft.call.replaces is None

    async def _answers(self, group: Sequence[Draft]) -> list[Outcome]:
        try:
            if self._is_copy(group[0]):
                return await self._copy(group)
            if len(group) > 1:
                return await self._client.finish_batch([draft.finish for draft in group])
            if group[0].session is not None:
                return [await self._finish_one(group[0], group[0].session)]
            return [await self._upload(group[0])]
        except EndpointError as error:
            return [error for _ in group]
        except AccessDenied:
            self._small.forget(group)
            raise
        except (BadRequest, Unauthorized) as error:
            self._small.forget(group)
            inos = [draft.ino for draft in group if draft.properties is not None]
            if not self._attributes.refused_with_commit(inos, error):
                raise
            raise ChangedMeanwhileError(str(error)) from error

    async def _copy(self, group: Sequence[Draft]) -> list[Outcome]:
        pairs = [
            (RemotePath(draft.source or ""), draft.call.path)
            for draft in group
            if draft.call is not None
        ]
        try:
            if len(pairs) > 1:
                return await self._client.copy_batch(pairs)
            return [await self._client.copy(*pairs[0], patience=AT_ONCE)]
        except (AccessDenied, BadRequest) as error:
            log.warning("what Dropbox has already is sent all the same: %s", error)
            self._copied = False
            raise ChangedMeanwhileError(str(error)) from error

    async def _finish_one(self, draft: Draft, session: SessionId) -> FileEntry:
        finish = draft.finish
        return await self._client.session_finish(
            session,
            finish.size,
            finish.path,
            mode=finish.mode,
            client_modified_ns=finish.client_modified_ns,
            properties=finish.properties,
            patience=AT_ONCE,
        )

    async def _upload(self, draft: Draft) -> FileEntry:
        assert draft.call is not None  # noqa: S101
        return await self._client.upload(
            draft.call.path,
            draft.data,
            size=draft.size,
            mode=draft.mode,
            content_hash=draft.digest,
            client_modified_ns=draft.mtime_ns,
            properties=draft.properties,
            patience=AT_ONCE,
        )

    def _confirm(self, draft: Draft, answer: Outcome, failed: Outcomes, clean: list[Draft]) -> None:
        """Store one answer."""
        if not isinstance(answer, FileEntry):
            failed[draft.ino] = self._reason(draft, answer)
            return
        self._small.forget([draft])
        same = answer.content_hash in (None, draft.digest)
        if not same:
            self._not_copied.add(draft.digest)
            failed[draft.ino] = ChangedMeanwhileError("its source has another content by now")
        self._uploader.committed(answer)
        current = same and draft.is_current
        assert draft.parent is not None  # noqa: S101
        stale = self._journal.confirm_upload(
            draft.ino, answer, parent=draft.parent, name=draft.name, current=current
        )
        if draft.properties is not None:
            self._attributes.committed(draft.ino, answer, draft.properties, draft.mtime_ns)
        # Where the answer cannot be stored, the bytes are still needed.
        if current:
            self._tree.database.after_commit(partial(self._retire, draft, clean))
        else:
            made_from = partial(draft.staged.made_from, answer.rev, answer.content_hash)
            self._tree.database.after_commit(partial(made_from, answer.size))
            failed.setdefault(draft.ino, ChangedMeanwhileError("written to while it was sent"))
        self._steps.effects(stale)

    def _retire(self, draft: Draft, clean: list[Draft]) -> None:
        self._cache.arrives(draft.digest, draft.staged.path)
        self._staging.retire(draft.staged)
        clean.append(draft)

    def _reason(self, draft: Draft, answer: Outcome) -> Exception:
        if not isinstance(answer, EndpointError):
            return ChangedMeanwhileError("a folder has come of it")
        if self._is_copy(draft) and not answer.has("too_many_write_operations"):
            self._not_copied.add(draft.digest)
            return ChangedMeanwhileError(str(answer))
        if answer.has("properties_error"):
            # The content may have been committed all the same; its hash will tell.
            self._attributes.refused_with_commit([draft.ino], answer)
            return ChangedMeanwhileError(str(answer))
        if answer.has("content_hash_mismatch"):
            return ChangedMeanwhileError(str(answer))
        if any(answer.has(tag) for tag in SESSION_OF_NO_USE):
            if draft.size <= SMALL:
                self._small.forget([draft])
                return ChangedMeanwhileError(str(answer))
            try:
                self._uploader.start_over(draft.ino, answer)
            except ChangedMeanwhileError as error:
                return error
        return answer

    def _keep_as_clean(self, drafts: Sequence[Draft], pinned: Set[int]) -> None:
        """What was staged is a clean copy now: it moves into the cache. Blocks.

        The files go when the database that no longer names them is on the disk: after a power cut
        there would else be a name for bytes that are gone.
        """
        for draft in drafts:
            self._cache.put_file(draft.digest, draft.staged.path, pinned=draft.ino in pinned)
        if drafts:
            self._tree.database.sync()
        for draft in drafts:
            self._cache.arrived(draft.digest)
            draft.staged.path.unlink(missing_ok=True)
