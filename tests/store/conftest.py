"""A mount over a Dropbox in memory; after each test its store must be consistent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import FakeDropbox

from .mount import Mount


@pytest.fixture
def dropbox() -> FakeDropbox:
    """An empty account."""
    return FakeDropbox()


@pytest.fixture
def mount(tmp_path: Path, dropbox: FakeDropbox) -> Iterator[Mount]:
    """Its mount, before the first crawl."""
    mount = Mount(tmp_path, dropbox)
    yield mount
    mount.check()
    mount.close()
