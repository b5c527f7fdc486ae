"""What holds for all tests: Hypothesis without deadlines, who needs FUSE, who runs in one process.

Several run side by side (`scripts/test`). Those of a file share what is costly to start; those of
the conformance suite write down together what they provoked, and its last test reads it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

CONFORMANCE = "tests/conformance/"
ON_A_MOUNT = ("tests/mount/", "tests/durability/", "tests/programs/")


# A shell has what it starts in the background ignore Ctrl-C, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class ByFile(LoadScopeScheduling):
    """Keeps together what belongs together."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return CONFORMANCE if path.startswith(CONFORMANCE) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """How tests are shared out to the processes."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What works on a mount needs FUSE. Files that may take long go first, or all wait for them."""
    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0.0), _patience(item))
    items.sort(key=lambda item: -longest[item.path])
    usable = os.access("/dev/fuse", os.R_OK | os.W_OK)
    for item in items:
        if item.nodeid.startswith(ON_A_MOUNT):
            item.add_marker(pytest.mark.mount)
            if not usable:
                item.add_marker(pytest.mark.skip(reason="/dev/fuse cannot be opened"))


def _patience(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0.0
