"""The daemon of one mount: everything is opened, run and taken down here.

One nursery holds all tasks. It starts with what needs no network (lock, database, staging) so that
a mount whose tree is known answers at once; only the very first mount of an account asks Dropbox
who that is before it says that it is ready, since an empty folder would be the wrong answer.

Shutdown is the reverse: the kernel first (nothing new comes in), then what programs wrote is
recorded, then the tasks, then the database is closed. Whatever is not on Dropbox by then stays in
the journal and goes on with the next mount.
"""

from __future__ import annotations

import logging
import signal
import sqlite3
import sys
from collections.abc import Callable

import pyfuse3
import trio

from dbxfs.api.client import open_client
from dbxfs.api.errors import DropboxError
from dbxfs.api.settings import Settings
from dbxfs.core.model import Account
from dbxfs.fs.operations import Operations
from dbxfs.store.database import Database, DatabaseNewerError
from dbxfs.store.pinned import PinningCache
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree
from dbxfs.sync.feed import WrongAccountError

from .folders import Folders, locked, registered
from .limits import set_limits
from .mountinfo import mounted_device, place
from .options import MountOptions
from .services import Services, assemble
from .serving import LAST_ANSWERS, MountError, mount, serve_kernel
from .socket import serve_commands
from .state import open_state

log = logging.getLogger(__name__)

SWITCH = 0.0005
"""Seconds after which a thread that is at work gives way to the event loop."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
UPKEEP = 2.0
REMOVALS_AT_ONCE = 2
"""Threads that the disk keeps busy; programs need the others."""
FIRST_CONTACT = 20.0
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
            tree, staging = open_state(folders, options)
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
            try:
                # What threads were still writing down when the mount ended.
                staging.record_all()
            except (sqlite3.Error, OSError) as error:
                log.error("what was written last could not be recorded: %s", error)  # noqa: TRY400
            finally:
                cache.close()
                tree.database.close()


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
    settings = await _meet_account(settings, tree.database)
    async with open_client(settings) as client, trio.open_nursery() as nursery:
        removals = trio.CapacityLimiter(REMOVALS_AT_ONCE)
        staging.in_background = lambda work: nursery.start_soon(_in_thread, work, removals)
        together = descriptors // PARTS
        services = assemble(options, folders, tree, staging, cache, client, nursery, together)
        # Before the mount: a signal that nobody waits for would leave a dead one behind.
        with trio.open_signal_receiver(*ENDING) as signals:
            mount(options, Operations(services.context))
            try:
                await _start(services, nursery)
                with registered(options.mountpoint, folders.socket):
                    await serve_kernel(options, signals, ready)
            finally:
                folders.socket.unlink(missing_ok=True)
                await _stop(services)
        nursery.cancel_scope.cancel()


async def _start(services: Services, nursery: trio.Nursery) -> None:
    options = services.options
    services.kernel.start()
    if options.inotify != "never" and "ro" not in options.kernel:
        services.echo.start(mounted_device(place(options.mountpoint)) or 0)
    nursery.start_soon(services.feed.run)
    nursery.start_soon(_keep_up, services.tree.database)
    nursery.start_soon(services.space.run)
    nursery.start_soon(trio.to_thread.run_sync, services.cache.sweep)
    nursery.start_soon(services.pinner.run)
    await nursery.start(serve_commands, services)


async def _stop(services: Services) -> None:
    """Nothing new comes in; what came in is kept."""
    services.echo.stop()
    services.kernel.stop()
    pyfuse3.close(unmount=True)
    services.echo.unmounted()
    with trio.move_on_after(LAST_ANSWERS, shield=True):
        await services.context.behind.finish()
    services.staging.record_all()
    with trio.move_on_after(LAST_ANSWERS, shield=True):
        await services.fetcher.keep()


async def _in_thread(work: Callable[[], object], limit: trio.CapacityLimiter) -> None:
    """Remove what nobody wants any more: should that fail, nothing else has to."""
    with trio.CancelScope(shield=True):
        try:
            await trio.to_thread.run_sync(work, limiter=limit)
        except OSError as error:
            log.warning("what is not wanted any more could not be removed: %s", error)


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


async def _keep_up(database: Database) -> None:
    """Keep the database's log short."""
    while True:
        await trio.sleep(UPKEEP)
        await trio.to_thread.run_sync(database.checkpoint)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
