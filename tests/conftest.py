"""What holds for all tests: Hypothesis without deadlines, and who runs in one process.

Several run side by side (`scripts/test`). Those of a file share what is costly to start; those of
the conformance suite write down together what they provoked, and its last test reads it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

CONFORMANCE = Path(__file__).parent / "conformance"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Names the group of each test, before it is asked for."""
    for item in items:
        together = CONFORMANCE if CONFORMANCE in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(str(together)))
