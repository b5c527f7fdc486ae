"""Reading what is staged, while it changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dbxfs.core.model import Rev
from dbxfs.fs.files import FileHandlers
from dbxfs.store.staged import StagedFile

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
