"""Keeping attributes on Dropbox: the one template, what goes with a commit, and the calls alone.

The template is looked for once for each account and made where there is none; its ids are
remembered in the database. Two machines that do that in the same moment make two of the same name:
all of that name are read, and the one whose id sorts first is written to.

New content takes its attributes along in the commit. What changes without content (`chmod`,
`touch`, a folder) needs a call for each entry, since the API has no batch; those of a round of the
replicator go beside each other, within one turn.

Where the account, the app or the token cannot have properties, attributes are kept here only:
that is said once, shown in the status, and looked at again with the next mount, which then sends
all that is not there. Where Dropbox refuses those of one entry, they stay here until they change,
and those of others are sent on. No content waits for either.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import trio

from dbxfs.api.client import Client
from dbxfs.api.errors import (
    AccessDenied,
    BadRequest,
    DropboxError,
    EndpointError,
    Unauthorized,
    UnexpectedReply,
)
from dbxfs.core import attributes as core
from dbxfs.core import plan
from dbxfs.core.attributes import TEMPLATE_DESCRIPTION, TEMPLATE_NAME
from dbxfs.core.model import FileEntry, PropertyGroup, RemotePath
from dbxfs.store import attributes
from dbxfs.store.journal import Journal
from dbxfs.store.keeping import Keeping
from dbxfs.store.tree import Tree

log = logging.getLogger(__name__)

AT_ONCE = 0.0

LOOK_AT = 5000
"""Inodes that are looked through without a pause for programs, in some milliseconds."""

_SECOND = 1_000_000_000

_NOT_ALLOWED = re.compile(r"not permitted|\bscope", re.IGNORECASE)
"""How Dropbox words it in plain text (HTTP 400) that an app may not make a call."""


class AttributesGoneError(Exception):
    """What the attributes belong to is not on Dropbox any more; the feed will tell."""


class AttributeKeeper:
    """Brings attributes to Dropbox, where it can keep them."""

    def __init__(
        self, client: Client, tree: Tree, journal: Journal, *, may_make: bool = True
    ) -> None:
        """`may_make`: the mount may write, so the template is made where there is none."""
        self._client = client
        self._tree = tree
        self._journal = journal
        self._keeping = Keeping(tree)
        self._may_make = may_make
        self._refusal_told = False
        self.trouble: str | None = None
        """Why attributes are kept here only, for people; None: Dropbox keeps them."""

    # ---- The template ----

    async def templates(self) -> tuple[str, ...]:
        """The ids of our template, the one to write to first; none: there can be no properties.

        Raises `DropboxError` when there is no answer.
        """
        found = self._keeping.templates()
        if not found:
            try:
                found = await self._find_or_make()
            except DropboxError as error:
                if not _is_for_good(error):
                    raise
                self._give_up(error)
                return ()
            self.trouble = None if found else "the mount is read-only"
            if found:
                self._keeping.found(found)
        while self._may_make and not self._keeping.send_what_differs(LOOK_AT):
            await trio.lowlevel.checkpoint()
        return found

    async def _find_or_make(self) -> tuple[str, ...]:
        found = await self._find()
        if found or not self._may_make:
            return found
        await self._client.add_template(TEMPLATE_NAME, TEMPLATE_DESCRIPTION, core.FIELDS)
        return await self._find()

    async def _find(self) -> tuple[str, ...]:
        found = []
        for ident in sorted(await self._client.templates()):
            template = await self._client.template(ident)
            if template.name == TEMPLATE_NAME and template.fields >= core.FIELDS.keys():
                found.append(ident)
        return tuple(found)

    def _give_up(self, error: DropboxError) -> None:
        self._keeping.lost()
        if self.trouble is None:
            log.warning(
                "modes, times, links and attributes are kept on this computer only: %s", error
            )
        self.trouble = str(error)

    # ---- With a commit ----

    def for_commit(self, ino: int, client_modified_ns: int) -> PropertyGroup | None:
        """What the commit of the inode's content with this time takes along; None: nothing."""
        templates = self._keeping.templates()
        inode = self._tree.find(ino)
        if not templates or inode is None or inode.attributes_refused:
            return None
        wanted = attributes.to_commit(inode, client_modified_ns, setuid=self._tree.setuid)
        try:
            fields = core.encode(wanted, client_modified_ns)
        except ValueError:
            return None
        if not fields and inode.base_attributes is None:
            return None
        return PropertyGroup(template=templates[0], fields=fields)

    def committed(
        self, ino: int, entry: FileEntry, group: PropertyGroup, client_modified_ns: int
    ) -> None:
        """The commit that took this along has been answered with `entry`.

        Where the same content was there already, Dropbox has written nothing and tells so by the
        time: then the attributes are still to be sent.
        """
        if entry.client_modified_ns // _SECOND == client_modified_ns // _SECOND:
            self._keeping.confirm(ino, group.fields)

    def refused_with_commit(self, inos: Sequence[int], error: DropboxError) -> bool:
        """Whether Dropbox has refused a commit for its properties, so that it may go without them.

        `inos`: whose commits had any. A refusal of the call as such (HTTP 400, 401) may have
        another cause, which the next attempt then shows.
        """
        if inos and concerns_all(error):
            self._give_up(error)
        elif len(inos) == 1 and isinstance(error, BadRequest | EndpointError):
            self._refused(inos[0], error)
        else:
            return False
        return True

    # ---- By themselves ----

    async def send(self, inos: Sequence[int]) -> dict[int, Exception]:
        """Bring the attributes of these to Dropbox, beside each other; who failed, and why.

        Under the feed's turn. Raises `DropboxError` where all have to wait; what it belongs to may
        be gone (`AttributesGoneError`).
        """
        failures: dict[int, Exception] = {}
        async with trio.open_nursery() as nursery:
            for ino in inos:
                nursery.start_soon(self._send_one, ino, failures)
        for error in failures.values():
            if isinstance(error, DropboxError) and not isinstance(error, EndpointError):
                raise error
        return failures

    async def _send_one(self, ino: int, failures: dict[int, Exception]) -> None:
        try:
            await self._call(ino)
        except EndpointError as error:
            if error.has("path", "not_found"):
                failures[ino] = AttributesGoneError(str(error))
            elif concerns_all(error):
                self._give_up(error)
            elif "too_many_write_operations" in error.tags:
                failures[ino] = error
            else:
                self._refused(ino, error)
        except BadRequest as error:
            if concerns_all(error):
                self._give_up(error)
            else:
                self._refused(ino, error)
        except DropboxError as error:
            if concerns_all(error):
                self._give_up(error)
            else:
                failures[ino] = error

    async def _call(self, ino: int) -> None:
        templates = self._keeping.templates()
        step = plan.next_step(self._journal.facts(ino)) if self._tree.find(ino) else None
        if not templates or not isinstance(step, plan.SetAttributes):
            return
        inode = self._tree.get(ino)
        wanted = attributes.to_keep(inode, setuid=self._tree.setuid)
        try:
            fields = core.encode(wanted, None if inode.is_folder else inode.base_mtime_ns)
        except ValueError:
            self._keeping.refused(ino)
            return
        await self._set(step.target, templates[0], attributes.confirmed(inode), fields)
        self._keeping.confirm(ino, fields)

    async def _set(
        self, target: RemotePath, template: str, old: dict[str, str], new: dict[str, str]
    ) -> None:
        if old:
            wanted, removed = core.delta(old, new)
            group = PropertyGroup(template=template, fields=wanted)
            try:
                await self._client.update_properties(target, group, removed, patience=AT_ONCE)
            except EndpointError as error:
                if not error.has("property_group_not_found"):
                    raise
            else:
                return
        group = PropertyGroup(template=template, fields=new)
        await self._client.set_properties(target, group, patience=AT_ONCE)

    def _refused(self, ino: int, error: DropboxError) -> None:
        self._keeping.refused(ino)
        path = self._tree.shown_path(ino)
        level = logging.INFO if self._refusal_told else logging.WARNING
        self._refusal_told = True
        log.log(level, "%s: its mode, times and attributes are kept here only: %s", path, error)


def concerns_all(error: DropboxError) -> bool:
    """Whether a refusal is one of all properties, and not of those of one file or folder."""
    match error:
        case Unauthorized():
            return error.tag == "missing_scope"
        case AccessDenied():
            return True
        case BadRequest():
            return _NOT_ALLOWED.search(error.text) is not None
        case EndpointError():
            return error.has("template_not_found")
        case _:
            return False


def _is_for_good(error: DropboxError) -> bool:
    """Whether asking again will give the same answer: the feature is not to be had."""
    return concerns_all(error) or isinstance(error, BadRequest | EndpointError | UnexpectedReply)
