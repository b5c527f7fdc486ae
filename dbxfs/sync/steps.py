"""Carrying out the calls that move no bytes, and what every call depends on.

Calls that change a namespace are made in turn with the feed (see `feed`), and each is decided once
more when the turn has come. Several of a kind go as one batch, of which each entry has a fate of
its own: `Outcomes` names those that failed.

What a call may be decided on is also settled here. A folder is deleted, what lies in a folder that
was moved is sent, and a call whose reply was lost is made again only after a look at the feed,
which knows what was done (`store.sent` recognises our own work). Rejected: asking for each entry
in doubt by itself, which after a batch of a thousand is a thousand requests.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import trio

from dbxfs.api.batches import Outcome
from dbxfs.api.client import Client
from dbxfs.api.errors import EndpointError
from dbxfs.core import plan
from dbxfs.core.batching import Member
from dbxfs.core.model import FileEntry, FolderEntry, RemotePath
from dbxfs.store.inode import Effect
from dbxfs.store.journal import Journal
from dbxfs.store.tree import Tree

from .attributes import AttributeKeeper, AttributesGoneError

log = logging.getLogger(__name__)

T = TypeVar("T")

FEED_PATIENCE = 10.0
"""Seconds to wait for the feed, at the most."""
LOOKS = 5
"""How often the feed is looked at before a call that must be decided on what it tells."""
AT_ONCE = 0.0
"""Patience of a call under the turn: what has to wait must not keep the feed waiting."""
SLICE = 20
"""Answers that are stored without a pause: programs wait no longer than for these."""

Outcomes = dict[int, Exception]
"""The members of a batch that failed, and why."""


class ChangedMeanwhileError(Exception):
    """What was decided no longer holds, or the feed has to be seen; it is to be decided again."""


class GoesOnError(ChangedMeanwhileError):
    """What could be done was done, and more may be to do by now."""


class Steps:
    """Makes the calls of `core.plan` for one account."""

    def __init__(
        self,
        client: Client,
        tree: Tree,
        journal: Journal,
        turn: trio.Lock,
        on_effects: Callable[[list[Effect]], None],
        catch_up: Callable[[], Awaitable[None]],
        attributes: AttributeKeeper,
    ) -> None:
        """`on_effects` is told what an answer made stale; it must not block.

        `catch_up` returns when the feed has told all that was done before the call.
        """
        self._client = client
        self._tree = tree
        self._journal = journal
        self._turn = turn
        self.effects = on_effects
        self._catch_up = catch_up
        self._door = trio.Lock()
        self._attributes = attributes
        self._committing: set[int] = set()
        # Calls of a daemon that was killed.
        self._wanted = int(journal.sent.any())
        self._seen = 0

    def is_committing(self, ino: int) -> bool:
        """Whether a commit of the inode is under way: its row must stay until the reply."""
        return ino in self._committing

    def doubt(self) -> None:
        """A call may have been carried out though it failed: the feed will tell."""
        self._wanted += 1

    @property
    def _feed_wanted(self) -> bool:
        return self._seen < self._wanted

    # ---- The turn ----

    @contextlib.asynccontextmanager
    async def turn(self, members: Sequence[Member]) -> AsyncIterator[list[Member]]:
        """The members whose call still is what it was, in the moment in which it may be made."""
        await self._take_turn(any(self._feed_comes_first(member) for member in members))
        try:
            with self._commits(member.ino for member in members):
                yield [now for member in members if (now := self._still_next(member))]
        finally:
            self._turn.release()

    async def _take_turn(self, feed_first: bool) -> None:
        """Take the turn. With `feed_first` nothing lies between a look at the feed and that.

        Who comes meanwhile waits at the door, so that only who was there before is waited for, and
        another look after that is the last one.
        """
        async with self._door:
            for _ in range(LOOKS):
                if feed_first:
                    self.doubt()
                if self._feed_wanted:
                    await self._see_the_feed()
                at_once = self._turn.statistics().owner is None
                await self._turn.acquire()
                if not self._feed_wanted and (at_once or not feed_first):
                    return
                self._turn.release()
        raise ChangedMeanwhileError("the feed has to come first")

    def _feed_comes_first(self, member: Member) -> bool:
        """Whether the call must be decided on what Dropbox has now, not on what was told last.

        A folder is deleted with all that is in it, so what somebody has put there has to be seen
        first.
        """
        if isinstance(member.call, plan.Delete):
            inode = self._tree.find(member.ino)
            return inode is not None and inode.is_folder
        if isinstance(member.call, plan.CreateFolder):
            return not self._journal.sent.is_same(member.ino, None)
        return False

    async def _see_the_feed(self) -> None:
        # Wanted until it has been seen: who comes meanwhile waits as well.
        wanted = self._wanted
        with trio.move_on_after(FEED_PATIENCE) as waiting:
            await self._catch_up()
        if waiting.cancelled_caught:
            raise ChangedMeanwhileError("the feed has to come first")
        self._seen = max(self._seen, wanted)

    def _still_next(self, member: Member) -> Member | None:
        """The member, unless the decision has changed while we waited for the turn.

        An upload may go to another place by now: its bytes are the same.
        """
        if self._tree.find(member.ino) is None or self._tree.is_in_limbo(member.ino):
            return None
        facts = self._journal.facts(member.ino)
        now = plan.next_step(facts)
        if isinstance(member.call, plan.Upload) and isinstance(now, plan.Upload):
            return replace(member, call=now)
        return member if member.call in (now, plan.next_step(facts, in_cycle=True)) else None

    @contextlib.contextmanager
    def _commits(self, inos: Iterable[int]) -> Iterator[None]:
        inos = list(inos)
        self._committing.update(inos)
        try:
            yield
        finally:
            self._committing.difference_update(inos)
            # Where one was removed, here or by this very commit, nobody else comes by.
            for ino in inos:
                self._tree.drop_unused(ino)

    async def store(self, items: Sequence[T], put: Callable[[T], None]) -> None:
        """Store answers, some in a transaction, with room for programs between. Under the turn."""
        for start in range(0, len(items), SLICE):
            with self._journal.transaction():
                for item in items[start : start + SLICE]:
                    put(item)
            # A cancellation must not part what Dropbox has done from what is stored of it.
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()

    # ---- Calls without bytes ----

    async def carry_out(self, members: Sequence[Member]) -> Outcomes:
        """Make the call of members of one kind and store the answers.

        Raises `DropboxError` when it fails as a whole, `ChangedMeanwhileError` when all is to be
        decided again.
        """
        async with self.turn(members) as current:
            if not current:
                return {}
            match current[0].call:
                case plan.CreateFolder():
                    return await self._create_folders(current)
                case plan.Delete():
                    return await self._delete(current)
                case plan.Move():
                    return await self._move(current)
                case plan.SetAttributes():
                    return await self._set_attributes([member.ino for member in current])
                case call:
                    raise TypeError(f"no call without bytes: {call}")

    async def _set_attributes(self, inos: Sequence[int]) -> Outcomes:
        failed = await self._attributes.send(inos)
        return {
            ino: ChangedMeanwhileError(str(error))
            if isinstance(error, AttributesGoneError)
            else error
            for ino, error in failed.items()
        }

    async def _create_folders(self, members: Sequence[Member]) -> Outcomes:
        calls = [(m.ino, m.call) for m in members if isinstance(m.call, plan.CreateFolder)]
        with self._journal.transaction():
            for ino, _ in calls:
                self._journal.sending(ino, None)
        parents = [self._tree.get(ino).parent for ino, _ in calls]
        answers = await self._answers(
            self._client.create_folders,
            partial(self._client.create_folder, patience=AT_ONCE),
            [call.path for _, call in calls],
        )
        for at, (_, call) in enumerate(calls):
            answers[at] = await self._unless_there(call.path, answers[at])
        return await self._place(
            (ino, parent, answer)
            for (ino, _), parent, answer in zip(calls, parents, answers, strict=True)
        )

    async def _unless_there(self, path: RemotePath, answer: Outcome) -> Outcome:
        """A folder that is there already is as good as one that was made."""
        if isinstance(answer, EndpointError) and answer.has("path", "conflict", "folder"):
            found = await self._client.metadata(path, patience=AT_ONCE)
            return found if isinstance(found, FolderEntry) else answer
        return answer

    async def _delete(self, members: Sequence[Member]) -> Outcomes:
        calls = [m.call for m in members if isinstance(m.call, plan.Delete)]
        answers = await self._answers(
            self._client.delete_batch,
            lambda entry: self._client.delete(*entry, patience=AT_ONCE),
            [(call.source, call.rev) for call in calls],
        )
        failed: Outcomes = {}

        def put(item: tuple[int, Outcome]) -> None:
            ino, answer = item
            if not isinstance(answer, EndpointError) or answer.has("path_lookup", "not_found"):
                self._journal.confirm_delete(ino)
            elif answer.has("path_write", "conflict"):
                log.info("inode %d changed elsewhere since it was deleted; it stays", ino)
                self.effects(self._journal.give_up_delete(ino))
            else:
                failed[ino] = answer

        await self.store([*zip((m.ino for m in members), answers, strict=True)], put)
        return failed

    async def _move(self, members: Sequence[Member]) -> Outcomes:
        calls = [(m.ino, m.call) for m in members if isinstance(m.call, plan.Move)]
        parents = [self._parent_after(ino, call) for ino, call in calls]
        with_folders = any(self._tree.get(ino).is_folder for ino, _ in calls)
        answers = await self._answers(
            self._client.move_batch,
            lambda entry: self._client.move(*entry, patience=AT_ONCE),
            [(call.source, call.target) for _, call in calls],
        )
        # Every file below a moved folder has a new revision, which only the feed tells: what is
        # sent from there before would be made from a revision that is past.
        if with_folders:
            self.doubt()
        return await self._place(
            (ino, parent, answer)
            for (ino, _), parent, answer in zip(calls, parents, answers, strict=True)
        )

    def _parent_after(self, ino: int, call: plan.Move) -> int:
        """The folder in which Dropbox has it when it is moved."""
        inode, base = self._tree.get(ino), self._tree.base_path(ino)
        passing = base is not None and call.target == plan.passing_place(base, ino)
        parent = inode.base_parent if passing else inode.parent
        assert parent is not None  # noqa: S101
        return parent

    async def _place(self, answers: Iterable[tuple[int, int | None, Outcome]]) -> Outcomes:
        """Store where Dropbox has them now."""
        failed: Outcomes = {}

        def put(item: tuple[int, int | None, Outcome]) -> None:
            ino, parent, answer = item
            if isinstance(answer, EndpointError):
                failed[ino] = answer
            elif parent is not None:
                self.effects(self._journal.confirm_place(ino, answer, parent))

        await self.store(list(answers), put)
        return failed

    async def _answers(
        self,
        many: Callable[[Sequence[T]], Awaitable[list[Outcome]]],
        one: Callable[[T], Awaitable[FileEntry | FolderEntry]],
        entries: Sequence[T],
    ) -> list[Outcome]:
        """What became of each; one alone is answered sooner by the call for one."""
        if len(entries) > 1:
            return await many(entries)
        try:
            return [await one(entries[0])]
        except EndpointError as error:
            return [error]
