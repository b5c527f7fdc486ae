"""What a running daemon consists of, and how its parts are wired to each other."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial

import trio

from dbxfs.api.client import Client
from dbxfs.fs.behind import WritesBehind
from dbxfs.fs.context import Context, Shown
from dbxfs.fs.echo import Echo
from dbxfs.fs.facts import TreeFacts
from dbxfs.fs.kernel import Kernel
from dbxfs.fs.replaying import Replaying
from dbxfs.store.database import Database
from dbxfs.store.inode import Content
from dbxfs.store.journal import Journal
from dbxfs.store.pinned import PinningCache
from dbxfs.store.pins import Pins
from dbxfs.store.remote import RemoteChanges
from dbxfs.store.sessions import Sessions
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree
from dbxfs.sync.attributes import AttributeKeeper
from dbxfs.sync.exports import Exports
from dbxfs.sync.feed import Feed, Listing
from dbxfs.sync.fetcher import Fetcher
from dbxfs.sync.holdings import Holdings
from dbxfs.sync.pinner import Pinner
from dbxfs.sync.programs import Programs
from dbxfs.sync.replicator import Replicator
from dbxfs.sync.siblings import Siblings
from dbxfs.sync.space import SpaceWatch
from dbxfs.sync.steps import Steps
from dbxfs.sync.switch import Switch
from dbxfs.sync.timetable import SETTLE, Timetable
from dbxfs.sync.uploader import Uploader
from dbxfs.sync.uploads import Uploads

from .folders import Folders
from .options import MountOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one daemon, for who runs them and for commands."""

    options: MountOptions
    folders: Folders
    tree: Tree
    changes: RemoteChanges
    journal: Journal
    staging: Staging
    feed: Feed
    replicator: Replicator
    uploader: Uploader
    space: SpaceWatch
    client: Client
    fetcher: Fetcher
    cache: PinningCache
    pins: Pins
    pinner: Pinner
    holdings: Holdings
    switch: Switch
    context: Context
    kernel: Kernel
    echo: Echo
    attributes: AttributeKeeper


def assemble(
    options: MountOptions,
    folders: Folders,
    tree: Tree,
    staging: Staging,
    cache: PinningCache,
    client: Client,
    nursery: trio.Nursery,
    together: int,
) -> Services:
    """Make all parts; nothing runs yet. `together`: entries of one batch at most."""
    database = tree.database
    kernel = Kernel()
    changes = RemoteChanges(tree)
    if database.get_meta("root_changed"):
        changes.begin_crawl()
        database.set_meta("root_changed", None)
    turn = trio.Lock()
    programs = Programs()
    fetcher = Fetcher(client, cache, nursery)
    pins = Pins(tree)
    switch = Switch(database)
    pinner = Pinner(pins, cache, fetcher.read_behind, database.path, switch)
    holdings = Holdings(cache, kernel.stale, database.path)
    uploader = Uploader(client, fetcher, Sessions(database), switch)
    journal = Journal(tree)
    tree.setuid = "nosuid" not in options.kernel
    may_make = "ro" not in options.kernel
    attributes = AttributeKeeper(client, tree, journal, may_make=may_make)
    steps = Steps(
        client,
        tree,
        journal,
        turn,
        lambda effects: echo.tell(effects),
        catch_up=lambda: feed.catch_up(),
        attributes=attributes,
    )
    uploads = Uploads(client, tree, journal, staging, uploader, steps, cache, attributes)
    times = Timetable(switch, 0.0 if options.sync_remote else SETTLE)
    replicator = Replicator(
        tree, journal, staging, steps, uploads, switch, programs, times, together
    )
    tree.on_pending = times.changed
    tree.on_replace = times.replaced
    tree.on_change = pinner.wake
    tree.in_use = lambda ino: kernel.in_use(ino) or steps.is_committing(ino)
    feed = Feed(
        client,
        changes,
        turn,
        lambda effects: echo.tell(effects),
        partial(_connected, nursery, replicator, pinner),
        programs,
        account=database.get_meta("account") or "",
        root=options.folder,
        templates=attributes.templates,
    )
    moved = partial(_root_changed, database)
    space = SpaceWatch(client, database, moved, replicator.retry, staging.growing)
    context = Context(
        tree=tree,
        staging=staging,
        behind=WritesBehind(nursery, lambda ino: kernel.stale([Content(ino)])),
        fetcher=fetcher,
        listing=Listing(client, tree, changes, kernel.stale),
        siblings=Siblings(tree, fetcher, nursery, switch),
        kernel=kernel,
        shown=_shown(options),
        space=space.known,
        add_space=space.add,
        journal=journal,
        pins=pins,
        holdings=holdings,
        uploading=replicator.is_sending,
        programs=programs,
        opened=times.opened,
        grows_large=replicator.grows_large,
        exports=Exports(client, folders.cache),
        replaying=Replaying(),
        on_dropbox=replicator.sent if options.sync_remote else None,
    )
    echo = _echo(options, context)
    return Services(
        options=options,
        folders=folders,
        tree=tree,
        changes=changes,
        journal=journal,
        staging=staging,
        feed=feed,
        replicator=replicator,
        uploader=uploader,
        space=space,
        client=client,
        fetcher=fetcher,
        cache=cache,
        pins=pins,
        pinner=pinner,
        holdings=holdings,
        switch=switch,
        context=context,
        kernel=kernel,
        echo=echo,
        attributes=attributes,
    )


def _echo(options: MountOptions, context: Context) -> Echo:
    """What tells watchers of changes made elsewhere."""
    return Echo(
        context.kernel,
        TreeFacts(context),
        context.replaying,
        options.mountpoint,
        always=options.inotify == "always",
    )


def _shown(options: MountOptions) -> Shown:
    """How files of other people's making appear; with root mounting for all, each has an owner."""
    many = os.getuid() == 0 and "allow_other" in options.kernel
    return Shown(
        options.uid,
        options.gid,
        options.fmask,
        options.dmask,
        options.export_extension,
        many,
    )


def _connected(nursery: trio.Nursery, replicator: Replicator, pinner: Pinner) -> None:
    """Dropbox answers, and it is the right account: from now on changes may be sent."""
    pinner.hurry()
    if replicator.running:
        replicator.connected()
    else:
        nursery.start_soon(replicator.run)


def _root_changed(database: Database, namespace: str | None) -> None:
    """The next mount lists all of the new root: a cursor is good for one root only."""
    with database.transaction():
        database.set_meta("path_root", namespace)
        database.set_meta("root_changed", "1")
    log.error("the team's root folder is another one now: unmount and mount again")
