"""How long to wait before the next attempt.

Exponential growth with full jitter: a random part of a ceiling that doubles with every attempt.
Everything that failed together must not come back together, and spreading over the whole span
down to nothing finishes soonest for all (AWS Architecture Blog, "Exponential Backoff And
Jitter"). A fixed part ("equal jitter") was rejected: it delays the single client, which is the
usual case here, and spreads the many less.

Pure: randomness comes in as an argument, so that a test can say what it is.
"""

from __future__ import annotations

_MAX_DOUBLINGS = 64
"""Beyond any cap; keeps the power of two within a float."""


def delay(attempt: int, *, base: float, cap: float, random: float) -> float:
    """Seconds to wait after failure number `attempt`, counted from 0.

    `base` is the ceiling of the first wait and `cap` that of all, both in seconds; `random` is in
    [0, 1). The result is in [0, cap].
    """
    doublings = min(max(attempt, 0), _MAX_DOUBLINGS)
    return float(min(cap, base * 2.0**doublings) * random)
