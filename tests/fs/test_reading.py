"""Reading and writing what is staged, while it is filled in or sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyfuse3
import pytest
import trio

from dbxfs.core.model import Rev
from dbxfs.fs.behind import WritesBehind
from dbxfs.fs.files import FileHandlers
from dbxfs.fs.kernel import Kernel
from dbxfs.store.inode import Attributes, Content
from dbxfs.store.staged import StagedFile
from dbxfs.sync.programs import Programs
from tests.fakes import FakeDropbox
from tests.store.mount import Mount

BASE = bytes(range(1, 201))


class Fetcher:
    """Has the version that the staged file was made from."""

    async def read(self, version: object, offset: int, length: int) -> bytes:
        return BASE[offset : offset + length]


async def test_regression_a_range_that_an_upload_fills_in_meanwhile_is_not_read_as_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was missing when the bytes were read, and no longer when the answer was put together."""
    staged = StagedFile(
        2, tmp_path / "staged", size=200, mtime_ns=0, from_rev=Rev("1"), base_limit=200
    )
    staged.write(0, b"written", 1)
    handlers = FileHandlers()
    context: Any = SimpleNamespace(fetcher=Fetcher())
    handlers.context = context
    read = staged.read

    def read_and_then_fill(offset: int, length: int) -> bytes:
        data = read(offset, length)
        staged.fill(0, BASE)
        return data

    monkeypatch.setattr(staged, "read", read_and_then_fill)
    found = await handlers._read_staged(staged, 0, 200)
    staged.retire()
    assert found == b"written" + BASE[7:]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    mount = Mount(tmp_path, FakeDropbox())
    mount.follow()
    yield mount
    mount.check()
    mount.close()


def handlers_of(mount: Mount, nursery: trio.Nursery, add_space: Any = None) -> FileHandlers:
    """The handlers of a mount without a kernel."""

    async def there_is_room(size: int) -> bool:
        return True

    kernel = Kernel()
    context: Any = SimpleNamespace(
        programs=Programs(),
        opened=lambda: None,
        tree=mount.tree,
        staging=mount.staging,
        add_space=add_space or there_is_room,
        behind=WritesBehind(nursery, lambda ino: pytest.fail(f"inode {ino} lost bytes")),
        kernel=kernel,
        fetcher=SimpleNamespace(forget=lambda handle: None),
        on_dropbox=None,
    )
    handlers = FileHandlers()
    handlers.context = context
    return handlers


@pytest.mark.parametrize("attempt", range(6))
async def test_regression_emptied_while_its_last_page_is_written(
    mount: Mount, nursery: trio.Nursery, attempt: int
) -> None:
    """What was emptied was no longer what is staged: old bytes came up in the hole.

    Which of the two tasks goes on first is left to chance.
    """
    ino = mount.write("/f", b"secret" * 100)
    handlers = handlers_of(mount, nursery)
    handlers.context.kernel.looked_up(ino)
    mapped = handlers._open(mount.tree.get(ino), os.O_RDWR, changed=False).fh
    await handlers.write(mapped, 0, b"a page of a mapping")
    opened: list[pyfuse3.FileHandleT] = []

    async def empty() -> None:
        info = await handlers.open(ino, os.O_WRONLY | os.O_TRUNC, cast(Any, None))
        opened.append(info.fh)

    async with trio.open_nursery() as both:
        both.start_soon(handlers.release, mapped)
        both.start_soon(empty)
    await handlers.write(opened[0], 300, b"end")
    await handlers.flush(opened[0])
    await handlers.release(opened[0])
    mount.settle()
    assert mount.dropbox.tree() == {"/f": bytes(300) + b"end"}


async def test_regression_content_that_is_sent_while_a_write_waits_to_hear_whether_it_fits(
    mount: Mount, nursery: trio.Nursery
) -> None:
    """The bytes went to where nobody looked any more, and write(2) said that all was well."""
    ino = mount.write("/f", b"sent meanwhile")

    async def add_space(size: int) -> bool:
        mount.settle()
        assert mount.staging.get(ino) is None
        return True

    handlers = handlers_of(mount, nursery, add_space)
    handle = handlers._open(mount.tree.get(ino), os.O_WRONLY, changed=False).fh
    assert await handlers.write(handle, 14, b", and more") == 10
    await handlers.flush(handle)
    mount.settle()
    assert mount.dropbox.tree() == mount.paths() == {"/f": b"sent meanwhile, and more"}


def test_pages_that_became_stale_go_when_the_reads_that_were_under_way_have_ended() -> None:
    kernel = Kernel()
    kernel.looked_up(7)
    with kernel.reading(7):
        with kernel.reading(7):
            kernel.stale([Content(7)])
            with kernel.reading(7):
                assert told(kernel) == [Attributes(7)]
        assert told(kernel) == []
    assert told(kernel) == [Content(7)]
    with kernel.reading(7):
        pass
    assert told(kernel) == []
    kernel.stale([Content(7)])
    assert told(kernel) == [Content(7)]


def told(kernel: Kernel) -> list[object]:
    """What the thread would be given to do."""
    found = []
    while not kernel._queue.empty():
        found.append(kernel._queue.get())
    return found
