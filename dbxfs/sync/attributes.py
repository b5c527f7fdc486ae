"""Keeping attributes on Dropbox: the one template, what goes with a commit, and the calls alone.

The template is looked for once for each account and made where there is none; its ids are
remembered in the database. Two machines that do that in the same moment make two of the same name:
all of that name are read, and the one whose id sorts first is written to.

New content takes its attributes along in the commit. What changes without content (`chmod`,
`touch`, a folder) needs a call for each entry, since the API has no batch; those of a round of the
replicator go beside each other, within one turn.

Where the account, the app or the token cannot have properties, attributes are kept here only:
that is said once, shown in the status, and looked at again with the next mount. Where Dropbox
refuses those of one entry, they stay here until they change; no content waits for that.
"""

from __future__ import annotations

import logging
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
from dbxfs.store.tree import Tree

log = logging.getLogger(__name__)

TEMPLATES = "templates"
"""The setting (`Database.get_meta`) with the templates' ids; none: Dropbox keeps no attributes."""

AT_ONCE = 0.0

_SECOND = 1_000_000_000


class AttributesGoneError(Exception):
    """What the attributes belong to is not on Dropbox any more; the feed will tell."""


class AttributeKeeper:
    """Brings attributes to Dropbox, where it can keep them."""

    def __init__(
        self, client: Client, tree: Tree, journal: Journal, *, may_make: bool = True
    ) -> None:
        """`may_make`: the template is made where there is none."""
        self._client = client
        self._tree = tree
        self._journal = journal
        self._may_make = may_make
        self._refusal_told = False
        self.trouble: str | None = None
        """Why attributes are kept here only, for people; None: Dropbox keeps them."""

    # ---- The template ----

    async def templates(self) -> tuple[str, ...]:
        """The ids of our template, the one to write to first; none: there can be no properties.

        Raises `DropboxError` when there is no answer.
        """
        known = self._known()
        if known:
            return known
        try:
            found = await self._find()
            if not found and self._may_make:
                await self._client.add_template(TEMPLATE_NAME, TEMPLATE_DESCRIPTION, core.FIELDS)
                found = await self._find()
        except DropboxError as error:
            if not _is_for_good(error):
                raise
            self._give_up(error)
            return ()
        self._tree.database.set_meta(TEMPLATES, " ".join(found) or None)
        self.trouble = None if found else "the mount is read-only"
        return found

    async def _find(self) -> tuple[str, ...]:
        found = []
        for ident in sorted(await self._client.templates()):
            template = await self._client.template(ident)
            if template.name == TEMPLATE_NAME and template.fields >= core.FIELDS.keys():
                found.append(ident)
        return tuple(found)

    def _known(self) -> tuple[str, ...]:
        return tuple((self._tree.database.get_meta(TEMPLATES) or "").split())

    def _give_up(self, error: DropboxError) -> None:
        self._tree.database.set_meta(TEMPLATES, None)
        if self.trouble is None:
            log.warning(
                "modes, times, links and attributes are kept on this computer only: %s", error
            )
        self.trouble = str(error)

    # ---- With a commit ----

    def for_commit(self, ino: int, client_modified_ns: int) -> PropertyGroup | None:
        """What the commit of the inode's content with this time takes along; None: nothing."""
        templates = self._known()
        inode = self._tree.find(ino)
        if not templates or inode is None:
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
            self._journal.confirm_attributes(ino, group.fields)

    def refused_with_commit(self, error: EndpointError) -> None:
        """Dropbox did not take the properties of a commit; the next one goes without."""
        self._give_up(error)

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
            elif error.has("template_not_found"):
                self._give_up(error)
            elif "too_many_write_operations" in error.tags:
                failures[ino] = error
            else:
                self._refused(ino, error)
        except DropboxError as error:
            if isinstance(error, UnexpectedReply) or not _is_for_good(error):
                failures[ino] = error
            else:
                self._give_up(error)

    async def _call(self, ino: int) -> None:
        templates = self._known()
        step = plan.next_step(self._journal.facts(ino)) if self._tree.find(ino) else None
        if not templates or not isinstance(step, plan.SetAttributes):
            return
        inode = self._tree.get(ino)
        wanted = attributes.to_keep(inode, setuid=self._tree.setuid)
        try:
            fields = core.encode(wanted, None if inode.is_folder else inode.base_mtime_ns)
        except ValueError:
            self._journal.attributes_refused(ino)
            return
        await self._set(step.target, templates[0], attributes.confirmed(inode), fields)
        self._journal.confirm_attributes(ino, fields)

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

    def _refused(self, ino: int, error: EndpointError) -> None:
        self._journal.attributes_refused(ino)
        path = self._tree.shown_path(ino)
        level = logging.INFO if self._refusal_told else logging.WARNING
        self._refusal_told = True
        log.log(level, "%s: its mode, times and attributes are kept here only: %s", path, error)


def _is_for_good(error: DropboxError) -> bool:
    """Whether asking again will give the same answer: the feature is not to be had."""
    if isinstance(error, Unauthorized):
        return error.tag == "missing_scope"
    return isinstance(error, AccessDenied | BadRequest | EndpointError | UnexpectedReply)
