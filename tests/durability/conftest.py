"""What the durability tests need: mounts as in the mount tests, and /dev/fuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.durability.ambush")

from tests.mount.conftest import (  # noqa: E402
    bench,
    make_mount,
    mounted,
    pytest_configure,
    pytest_runtest_makereport,
)

__all__ = ["bench", "make_mount", "mounted", "pytest_configure", "pytest_runtest_makereport"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs FUSE."""
    usable = os.access("/dev/fuse", os.R_OK | os.W_OK)
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.mount)
            if not usable:
                item.add_marker(pytest.mark.skip(reason="/dev/fuse cannot be opened"))
