"""What requests do when the disk, or a transaction that they are part of, fails."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from typing import Any, cast

import pyfuse3
import pytest
import trio
import trio.testing

from dbxfs.fs.behind import WritesBehind
from dbxfs.fs.errors import errno_of
from dbxfs.fs.folders import FolderHandlers
from dbxfs.store.staged import StagedFile
from tests.fs.test_reading import handlers_of, mount
from tests.store.mount import Mount

__all__ = ["mount"]


def full(*_: Any) -> None:
    raise sqlite3.OperationalError("database or disk is full")


async def test_forgetting_never_fails(
    mount: Mount, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyfuse3 ends the mount for it."""
    inos = [mount.write(f"/{name}", b"text") for name in "ab"]
    context = handlers_of(mount, nursery).context
    folders = FolderHandlers()
    folders.context = context
    for ino in inos:
        context.kernel.looked_up(ino)
    with monkeypatch.context() as patch:
        patch.setattr(mount.tree, "drop_unused", full)
        await folders.forget([(pyfuse3.InodeT(ino), 1) for ino in inos])
    assert not any(context.kernel.in_use(ino) for ino in inos)


def test_a_row_that_cannot_be_decoded_is_an_errno() -> None:
    with pytest.raises(sqlite3.OperationalError) as found:
        sqlite3.connect(":memory:").execute("SELECT CAST(x'ff' AS TEXT)").fetchone()
    assert errno_of(found.value) == errno.EIO


async def test_regression_what_a_rolled_back_page_has_recorded_is_recorded_at_the_close(
    mount: Mount, nursery: trio.Nursery
) -> None:
    ino = mount.write("/f", b"old")
    handlers = handlers_of(mount, nursery)
    handlers.context.kernel.looked_up(ino)
    handle = handlers._open(mount.tree.get(ino), os.O_WRONLY, changed=False).fh
    await handlers.write(handle, 0, b"written, and closed")
    await handlers.context.behind.wait(mount.staging.peek(ino))
    with pytest.raises(sqlite3.OperationalError), mount.database.transaction():
        full(mount.staging.write_down(ino))
    await handlers.flush(handle)
    await handlers.release(handle)
    mount.settle()
    assert mount.dropbox.tree() == {"/f": b"written, and closed"}


async def test_regression_who_only_reads_is_not_told_what_another_could_not_write(
    mount: Mount, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount.dropbox.write("/f", b"old")
    mount.follow()
    ino = mount.ino("/f")
    handlers = handlers_of(mount, nursery)
    handlers.context.behind = WritesBehind(nursery, lambda ino: None)
    handlers.context.kernel.looked_up(ino)
    reader = handlers._open(mount.tree.get(ino), os.O_RDONLY, changed=False).fh
    writer = handlers._open(mount.tree.get(ino), os.O_WRONLY, changed=False).fh

    def fail(*_: Any) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        await handlers.write(writer, 0, b"lost")
        await handlers.flush(reader)
        for request in (handlers.fsync(reader, datasync=False), handlers.flush(writer)):
            with pytest.raises(pyfuse3.FUSEError) as told:
                await request
            assert told.value.errno == errno.EDQUOT
        await handlers.fsync(writer, datasync=False)
    for handle in (reader, writer):
        await handlers.release(handle)
    assert mount.journal.count() == 0


async def test_regression_what_is_appended_while_another_empties_the_file_begins_it(
    mount: Mount, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    ino = mount.write("/log", b"old lines " * 10)
    handlers = handlers_of(mount, nursery)
    handlers.context.kernel.looked_up(ino)
    logger = handlers._open(mount.tree.get(ino), os.O_WRONLY | os.O_APPEND, changed=False).fh
    goes = threading.Event()
    truncate = StagedFile.truncate

    def truncate_late(staged: StagedFile, size: int, now: int) -> None:
        goes.wait(10)
        truncate(staged, size, now)

    monkeypatch.setattr(StagedFile, "truncate", truncate_late)
    opened: list[pyfuse3.FileHandleT] = []

    async def empty() -> None:
        info = await handlers.open(ino, os.O_WRONLY | os.O_TRUNC, cast(Any, None))
        opened.append(info.fh)

    async with trio.open_nursery() as both:
        both.start_soon(empty)
        await trio.testing.wait_all_tasks_blocked()
        both.start_soon(handlers.write, logger, 100, b"a new line")
        await trio.testing.wait_all_tasks_blocked()
        goes.set()
    for handle in (logger, *opened):
        await handlers.flush(handle)
        await handlers.release(handle)
    mount.settle()
    assert mount.dropbox.tree() == {"/log": b"a new line"}


async def test_regression_a_release_that_cannot_record_gives_its_handle_back(
    mount: Mount, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    ino = mount.write("/f", b"old")
    handlers = handlers_of(mount, nursery)
    handlers.context.kernel.looked_up(ino)
    handle = handlers._open(mount.tree.get(ino), os.O_WRONLY, changed=False).fh
    await handlers.write(handle, 0, b"new")
    with monkeypatch.context() as patch:
        patch.setattr(mount.staging, "record", full)
        with pytest.raises(pyfuse3.FUSEError):
            await handlers.release(handle)
    assert not handlers.context.kernel.is_open(ino)
    mount.staging.write_down(ino)


async def test_regression_a_write_for_which_there_is_no_room_hides_nothing_from_elsewhere(
    mount: Mount, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount.dropbox.write("/f", b"old")
    mount.follow()
    ino = mount.ino("/f")
    handlers = handlers_of(mount, nursery)
    handlers.context.kernel.looked_up(ino)
    handle = handlers._open(mount.tree.get(ino), os.O_WRONLY, changed=False).fh

    def no_room(size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(mount.staging, "check_room", no_room)
        with pytest.raises(pyfuse3.FUSEError):
            await handlers.write(handle, 0, b"new")
    assert mount.staging.peek(ino) is None
    await handlers.flush(handle)
    await handlers.release(handle)
