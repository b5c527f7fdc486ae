"""The mount itself: made, answered for, and given up at a signal or when it is unmounted."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pyfuse3
import trio

from dbxfs.fs.operations import Operations
from dbxfs.fs.requests import take_at_once
from dbxfs.store.blocks import BLOCK

from .options import MountOptions

log = logging.getLogger(__name__)

FUSE_TASKS = 2000
"""Requests in flight at most; each that waits for the network holds one."""
LAST_ANSWERS = 1.0
"""Seconds for requests under way to be answered when the mount ends."""


class MountError(Exception):
    """The mount cannot be made; `str()` says why and what to do."""


def mount(options: MountOptions, operations: Operations) -> None:
    """Have the kernel ask us about all below the mount point; `MountError` when it will not."""
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


async def serve_kernel(
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
