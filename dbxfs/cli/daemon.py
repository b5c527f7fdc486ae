"""The daemon of one mount: everything is built, wired, run and taken down here.

One nursery holds all tasks. It starts with what needs no network (lock, database, staging) so that
a mount whose tree is known answers at once; only the very first mount of an account asks Dropbox
who that is before it says that it is ready, since an empty folder would be the wrong answer.

Shutdown is the reverse: the kernel first (nothing new comes in), then what programs wrote is
recorded, then the tasks, then the database is closed. Whatever is not on Dropbox by then stays in
the journal and goes on with the next mount.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyfuse3
import trio

from dbxfs.api.client import Client, open_client
from dbxfs.api.errors import DropboxError
from dbxfs.api.settings import Settings
from dbxfs.core.model import Account
from dbxfs.fs.behind import WritesBehind
from dbxfs.fs.context import Context, Shown
from dbxfs.fs.echo import Echo
from dbxfs.fs.facts import TreeFacts
from dbxfs.fs.kernel import Kernel
from dbxfs.fs.operations import Operations
from dbxfs.fs.replaying import Replaying
from dbxfs.fs.requests import take_at_once
from dbxfs.store.blocks import BLOCK
from dbxfs.store.database import Database, DatabaseDamagedError, DatabaseNewerError, is_damage
from dbxfs.store.inode import Content, Effect
from dbxfs.store.journal import Journal
from dbxfs.store.pinned import PinningCache
from dbxfs.store.pins import Pins
from dbxfs.store.recovery import mend_staging, rescue
from dbxfs.store.remote import RemoteChanges
from dbxfs.store.sessions import Sessions
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree
from dbxfs.sync.attributes import AttributeKeeper
from dbxfs.sync.exports import Exports
from dbxfs.sync.feed import Feed, Listing, WrongAccountError
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

from .folders import Folders, locked, registered
from .limits import set_limits
from .mountinfo import mounted_device, place
from .options import MountOptions
from .socket import serve_commands

log = logging.getLogger(__name__)

SWITCH = 0.0005
"""Seconds after which a thread that is at work gives way to the event loop."""
FUSE_TASKS = 2000
"""Requests in flight at most; each that waits for the network holds one."""

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
UPKEEP = 2.0
REMOVALS_AT_ONCE = 2
"""Threads that the disk keeps busy; programs need the others."""
FIRST_CONTACT = 20.0
LAST_ANSWERS = 1.0
"""Seconds for requests under way to be answered when the mount ends."""


class MountError(Exception):
    """The mount cannot be made; `str()` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a running daemon consists of, for commands and handlers."""

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
    stale: Callable[[list[Effect]], None]
    attributes: AttributeKeeper


PARTS = 5
"""A batch may hold this part of the descriptors: two are on their way at once."""


def run(options: MountOptions, settings: Settings, ready: Callable[[], None]) -> None:
    """Mount, serve until unmounted, clean up. `ready` is called when the mount answers.

    Raises `MountError`, or `InUseError` when another daemon has the state.
    """
    descriptors = set_limits()
    sys.setswitchinterval(SWITCH)
    folders = Folders.of(options)
    with locked(folders.state):
        try:
            tree, staging = _open(folders, options)
        except DatabaseNewerError as error:
            raise MountError(str(error)) from None
        except sqlite3.OperationalError as error:
            raise MountError(f"{folders.database} cannot be opened: {error}") from None
        cache = PinningCache(folders.cache, options.cache_size, folders.pinned)
        try:
            trio.run(_serve, options, settings, folders, tree, staging, cache, descriptors, ready)
        except* (MountError, DropboxError, WrongAccountError) as group:
            raise MountError(str(_first(group))) from None
        finally:
            cache.close()
            tree.database.close()


def _open(folders: Folders, options: MountOptions) -> tuple[Tree, Staging]:
    """The mount's tree and staging, tidied up; damage that shows only then is treated alike."""
    try:
        return _tidied(open_database(folders), folders, options)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return _tidied(_rebuilt(folders, error), folders, options)


def _tidied(database: Database, folders: Folders, options: MountOptions) -> tuple[Tree, Staging]:
    try:
        tree = Tree(database, time.time_ns, options.folder)
        staging = Staging(tree, folders.staging)
        _tidy(tree, staging, folders)
    except BaseException:
        database.close()
        raise
    return tree, staging


def open_database(folders: Folders) -> Database:
    """The mount's database; a damaged one is set aside, and what Dropbox lacks is saved from it."""
    try:
        return Database(folders.database)
    except DatabaseDamagedError as error:
        return _rebuilt(folders, error)


def _rebuilt(folders: Folders, error: Exception) -> Database:
    aside = folders.database.with_name(f"tree.damaged-{time.time_ns()}")
    log.error("the database is damaged (%s); it is kept as %s and rebuilt", error, aside)
    for suffix in ("", "-wal", "-shm"):
        file = folders.database.with_name(folders.database.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    database = Database(folders.database)
    try:
        saved = rescue(aside, database)
        log.warning(
            "%d changes and the content of %d files were saved from it", saved.changes, saved.files
        )
    except (sqlite3.DatabaseError, UnicodeDecodeError) as failure:
        log.error("no changes could be saved from it: %s", failure)  # noqa: TRY400
    return database


def _tidy(tree: Tree, staging: Staging, folders: Folders) -> None:
    """What a daemon that died has left behind: nobody holds anything open now."""
    for path in staging.recover_strays(folders.recovered):
        log.warning("bytes without a place in the tree are kept in %s", path)
    for loss in mend_staging(tree, staging, folders.staging, folders.recovered):
        log.error("after a crash: %s", loss)
    for ino in tree.unused():
        tree.drop_unused(ino)


async def _serve(
    options: MountOptions,
    settings: Settings,
    folders: Folders,
    tree: Tree,
    staging: Staging,
    cache: PinningCache,
    descriptors: int,
    ready: Callable[[], None],
) -> None:
    database = tree.database
    settings = await _meet_account(settings, database)
    async with open_client(settings) as client, trio.open_nursery() as nursery:
        kernel = Kernel()
        removals = trio.CapacityLimiter(REMOVALS_AT_ONCE)
        staging.in_background = lambda work: nursery.start_soon(_in_thread, work, removals)
        changes = RemoteChanges(tree)
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
        together = descriptors // PARTS
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
        services = Services(
            options,
            folders,
            tree,
            changes,
            journal,
            staging,
            feed,
            replicator,
            uploader,
            space,
            client,
            fetcher,
            cache,
            pins,
            pinner,
            holdings,
            switch,
            context,
            kernel.stale,
            attributes,
        )
        # Before the mount: a signal that nobody waits for would leave a dead one behind.
        with trio.open_signal_receiver(*ENDING) as signals:
            _mount(options, Operations(context))
            try:
                kernel.start()
                if options.inotify != "never" and "ro" not in options.kernel:
                    echo.start(mounted_device(place(options.mountpoint)) or 0)
                nursery.start_soon(feed.run)
                nursery.start_soon(_keep_up, database)
                nursery.start_soon(space.run)
                nursery.start_soon(trio.to_thread.run_sync, cache.sweep)
                nursery.start_soon(pinner.run)
                await nursery.start(serve_commands, services)
                with registered(options.mountpoint, folders.socket):
                    await _serve_kernel(options, signals, ready)
            finally:
                folders.socket.unlink(missing_ok=True)
                echo.stop()
                kernel.stop()
                pyfuse3.close(unmount=True)
                echo.unmounted()
                with trio.move_on_after(LAST_ANSWERS, shield=True):
                    await context.behind.finish()
                staging.record_all()
                with trio.move_on_after(LAST_ANSWERS, shield=True):
                    await fetcher.keep()
        nursery.cancel_scope.cancel()


async def _in_thread(work: Callable[[], object], limit: trio.CapacityLimiter) -> None:
    """Remove what nobody wants any more: should that fail, nothing else has to."""
    with trio.CancelScope(shield=True):
        try:
            await trio.to_thread.run_sync(work, limiter=limit)
        except OSError as error:
            log.warning("what is not wanted any more could not be removed: %s", error)


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
        replicator.hurry()
    else:
        nursery.start_soon(replicator.run)


async def _serve_kernel(
    options: MountOptions, signals: AsyncIterator[int], ready: Callable[[], None]
) -> None:
    """Answer the kernel until the file system is unmounted or a signal asks to stop."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, signals, nursery.cancel_scope)
        nursery.start_soon(_stop_without_kernel, nursery.cancel_scope)
        nursery.start_soon(_say_when_ready, options, ready)
        take_at_once()
        await pyfuse3.main(max_tasks=FUSE_TASKS)
        nursery.cancel_scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], serving: trio.CancelScope) -> None:
    async for number in signals:
        log.info("%s: unmounting", signal.Signals(number).name)
        pyfuse3.terminate()
        serving.deadline = trio.current_time() + LAST_ANSWERS


async def _stop_without_kernel(serving: trio.CancelScope) -> None:
    """Once the connection is gone, no request needs its answer; some wait for the network."""
    await trio.to_thread.run_sync(_wait_for_disconnection, abandon_on_cancel=True)
    serving.deadline = trio.current_time() + LAST_ANSWERS


def _wait_for_disconnection() -> None:
    """Return when the kernel has closed its side. Blocks. Asks for no event, so that none counts
    but the error that poll(2) always reports."""
    poll = select.poll()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/fuse":
                poll.register(int(descriptor), 0)
    poll.poll()


async def _say_when_ready(options: MountOptions, ready: Callable[[], None]) -> None:
    """Ask the mount itself, from outside the loop, as a program would."""
    await trio.to_thread.run_sync(os.statvfs, options.mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(_ask_in_large_pieces, options.mountpoint, abandon_on_cancel=True)
    ready()


def _ask_in_large_pieces(mountpoint: Path) -> None:
    """Have the kernel read ahead a block at a time, which costs a quarter of the requests. Blocks.

    Only root may; for others it stays as it is (128 KiB).
    """
    device = os.stat(mountpoint).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    with contextlib.suppress(OSError):
        setting.write_text(str(BLOCK // 1024))


def _mount(options: MountOptions, operations: Operations) -> None:
    source = "demo" if options.demo else f"{options.account}{options.folder}"
    flags = {f"fsname=dbxfs:{source}", "subtype=dbxfs", "default_permissions", *options.kernel}
    # libfuse takes neither for granted: what is left out it forbids by itself.
    flags |= {name for name in ("suid", "dev") if f"no{name}" not in options.kernel}
    try:
        pyfuse3.init(operations, str(options.mountpoint), flags)
    except RuntimeError as error:
        raise MountError(
            f"{options.mountpoint} cannot be mounted on ({error}); is fuse3 installed, and is "
            "the folder yours?"
        ) from None


async def _meet_account(settings: Settings, database: Database) -> Settings:
    """See to it that the state belongs to the account, and that "/" is its whole Dropbox.

    Only the first mount waits for Dropbox; later ones know.
    """
    known = database.get_meta("account")
    if known is None:
        async with open_client(settings) as client:
            with trio.move_on_after(FIRST_CONTACT) as waiting:
                account = await client.account()
            if waiting.cancelled_caught:
                raise MountError("Dropbox does not answer, and the first mount needs it")
            _remember(account, database)
    return settings.with_path_root(database.get_meta("path_root"))


def _remember(account: Account, database: Database) -> None:
    with database.transaction():
        database.set_meta("account", account.account_id)
        shared_root = account.root_namespace != account.home_namespace
        database.set_meta("path_root", account.root_namespace if shared_root else None)


# ---- What is done now and then ----


async def _keep_up(database: Database) -> None:
    """Keep the database's log short."""
    while True:
        await trio.sleep(UPKEEP)
        await trio.to_thread.run_sync(database.checkpoint)


def _root_changed(database: Database, namespace: str | None) -> None:
    database.set_meta("path_root", namespace)
    log.error("the team's root folder is another one now: unmount and mount again")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
