"""Waiting for the asynchronous jobs of the batch routes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

DEADLINE = 30.0
"""Seconds that a batch may take."""


def finished(launch: Any, check: Callable[[str], Any]) -> Any:
    """The result of a launched batch, which may have come at once or is asked for.

    `check` is the route that tells a job's state. Raises AssertionError when the job fails or is
    not done within the deadline.
    """
    if launch.is_complete():
        return launch.get_complete()
    job = launch.get_async_job_id()
    deadline = time.monotonic() + DEADLINE
    state = check(job)
    while state.is_in_progress():
        assert time.monotonic() < deadline, f"the job did not end within {DEADLINE:g} seconds"
        time.sleep(0.02)  # there is nothing to wait on but asking again
        state = check(job)
    assert state.is_complete(), f"the job failed: {state!r}"
    return state.get_complete()
