"""How long to wait so that bytes keep to a rate. Pure: times come in as arguments.

Bytes that were let through move the moment forward from which the next may go; what was not used
is forgiven up to `BURST` seconds, so that a pause of a moment costs nothing, and an hour's silence
brings no flood. Several connections that share a `Pace` share its rate.
"""

from __future__ import annotations

import math

BURST = 0.25


class Pace:
    """A rate in bytes a second."""

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"no rate: {rate}")
        self._rate = rate
        self._next = -math.inf

    def wait(self, now: float, size: int) -> float:
        """Seconds to wait before or after `size` bytes go that are counted herewith."""
        start = max(self._next, now - BURST)
        self._next = start + size / self._rate
        return max(0.0, self._next - now)
