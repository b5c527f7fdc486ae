"""What to fetch before it is asked for: decided from the offsets that one reader has asked for.

The first read of a file brings little: most programs look at the beginning and leave. While reads
go on one after the other, what is kept ahead of the reader grows fourfold each time that he comes
near its end, up to a limit; that the link is full then is a matter of the limit. A reader that goes
backward gets the same in his direction, one that jumps by equal steps the next places. Any other
reader gets what he asks for and nothing more.

A reader that jumps about for long is better served with the whole file. When that pays is the old
question whether to buy or to go on renting: once he has waited a good part of the time that the
whole would take, it is fetched behind him (`fill_pays`). It never costs more than the file.

The kernel asks ahead on its own and a little out of order, so what is "next" has some slack.
Pure; all numbers are bytes, ranges are half open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST = 128 * 1024
"""What the first read of a file's beginning brings, at the least."""
SLACK = 256 * 1024
GROWTH = 4
PLACES = 16
"""Steps that are fetched ahead of a reader with a stride, at the most."""
SMALLEST_PIECE = 1024 * 1024
"""What a request ahead brings, at the least: its connection idles for a round trip before, and it
costs processor time of its own."""
LARGEST_PIECE = 4 * 1024 * 1024
RENT = 5
"""A file is filled when this many times what was waited for is what filling takes."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pattern:
    """How one reader has gone about so far."""

    start: int
    end: int
    """The last read."""
    step: int = 0
    """From the start of the read before to that of the last."""
    alike: int = 0
    """How many steps of that length there were in a row."""
    window: int = 0
    """Bytes that are kept ahead; 0: he does not read in order."""
    ahead: int = 0
    """Where what was fetched ahead ends, in his direction."""
    jumps: int = 0
    """Reads since the last one in order."""


def advance(
    pattern: Pattern | None, start: int, end: int, size: int, limit: int
) -> tuple[Pattern, list[Range]]:
    """A reader asks for [start, end) of a file of `size`; gives what to fetch besides.

    `limit`: how much may be kept ahead of him.
    """
    if pattern is None and start == 0:
        ahead = max(end, min(FIRST, size))
        return Pattern(start, end, window=FIRST, ahead=ahead), _clip(end, ahead, size)
    if pattern is None:
        return Pattern(start, end, ahead=end), []
    seen = replace(pattern, start=start, end=end, step=start - pattern.start)
    if pattern.start <= start <= pattern.end + SLACK and end > pattern.end:
        return _forward(pattern, seen, size, limit)
    if start < pattern.start <= end + SLACK and pattern.step <= 0:
        return _backward(pattern, seen, limit)
    if start >= pattern.start - SLACK and end <= pattern.end + SLACK and pattern.window:
        # The kernel's own reading ahead, out of order, or the same once more.
        return replace(pattern, step=0), []
    return _jump(pattern, seen, size)


def _forward(pattern: Pattern, seen: Pattern, size: int, limit: int) -> tuple[Pattern, list[Range]]:
    window = pattern.window or FIRST
    ahead = max(pattern.ahead, seen.end) if pattern.window else seen.end
    seen = replace(seen, alike=0, jumps=0)
    if ahead >= size or ahead - seen.end > window // 2:
        return replace(seen, window=window, ahead=ahead), []
    window = min(limit, window * GROWTH)
    target = min(size, seen.end + window)
    return replace(seen, window=window, ahead=max(ahead, target)), _clip(ahead, target, size)


def _backward(pattern: Pattern, seen: Pattern, limit: int) -> tuple[Pattern, list[Range]]:
    going = pattern.step < 0 and pattern.window > 0
    window = pattern.window if going else FIRST
    ahead = min(pattern.ahead, seen.start) if going else seen.start
    seen = replace(seen, alike=0, jumps=0)
    if ahead == 0 or seen.start - ahead > window // 2:
        return replace(seen, window=window, ahead=ahead), []
    window = min(limit, window * GROWTH)
    target = max(0, seen.start - window)
    return replace(seen, window=window, ahead=target), _clip(target, ahead, ahead)


def _jump(pattern: Pattern, seen: Pattern, size: int) -> tuple[Pattern, list[Range]]:
    alike = pattern.alike + 1 if seen.step == pattern.step else 0
    seen = replace(seen, alike=alike, window=0, ahead=seen.end, jumps=pattern.jumps + 1)
    if alike < 2:
        return seen, []
    places = range(1, 1 + min(PLACES, 2**alike))
    ranges = [_clip(seen.start + n * seen.step, seen.end + n * seen.step, size) for n in places]
    return seen, [piece for found in ranges for piece in found]


def pieces(start: int, end: int, at_once: int = 8) -> list[Range]:
    """A range as the requests that fetch it side by side, the first ones first."""
    size = min(LARGEST_PIECE, max(SMALLEST_PIECE, (end - start) // at_once))
    size -= size % SMALLEST_PIECE
    return [(at, min(at + size, end)) for at in range(start, end, size)]


def fill_pays(waited: float, size: int, rate: float) -> bool:
    """Whether a reader that jumps about is to get the whole file.

    `waited`: seconds that he has waited for single reads; `rate`: bytes a second that the link
    has brought lately.
    """
    return waited * RENT >= size / rate


def _clip(start: int, end: int, size: int) -> list[Range]:
    start, end = max(0, start), min(end, size)
    return [(start, end)] if start < end else []
