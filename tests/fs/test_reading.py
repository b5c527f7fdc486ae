"""Reading and writing what is staged, while it is filled in or sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio

from dbxfs.core.model import Rev
from dbxfs.fs.behind import WritesBehind
from dbxfs.fs.files import FileHandlers, OpenFile
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


async def test_regression_content_that_is_sent_while_a_write_waits_to_hear_whether_it_fits(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """The bytes went to where nobody looked any more, and write(2) said that all was well."""
    mount = Mount(tmp_path, FakeDropbox())
    mount.follow()
    ino = mount.write("/f", b"sent meanwhile")

    async def add_space(size: int) -> bool:
        mount.settle()
        assert mount.staging.get(ino) is None
        return True

    lost: list[int] = []
    handlers = FileHandlers()
    context: Any = SimpleNamespace(
        programs=Programs(),
        tree=mount.tree,
        staging=mount.staging,
        add_space=add_space,
        behind=WritesBehind(nursery, lost.append),
    )
    handlers.context = context
    handle = pyfuse3.FileHandleT(1)
    handlers._files[handle] = OpenFile(ino, None, changed=False, append=False)
    assert await handlers.write(handle, 14, b", and more") == 10
    await handlers._finish(ino)
    mount.settle()
    assert mount.dropbox.tree() == mount.paths() == {"/f": b"sent meanwhile, and more"}
    assert lost == []
    mount.check()
    mount.close()
