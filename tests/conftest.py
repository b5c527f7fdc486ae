"""What holds for all tests: Hypothesis without deadlines, and who runs in one process.

Several run side by side (`scripts/test`). Those of a file share what is costly to start; those of
the conformance suite write down together what they provoked, and its last test reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

CONFORMANCE = "tests/conformance/"


class ByFile(LoadScopeScheduling):
    """Keeps together what belongs together."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return CONFORMANCE if path.startswith(CONFORMANCE) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """How tests are shared out to the processes."""
    return ByFile(config, log)
