"""Sets of byte positions, kept as sorted, disjoint, half-open ranges.

Used for what a staging file holds and for what of a file is cached. Values are immutable, so that
one can be handed to a task, kept in a transaction or compared without copying.

The bounds lie in one flat tuple, start, end, start, end…, strictly rising because touching ranges
are merged. A position's place in it by bisection then says everything by its parity: at an odd
index one is inside a range, at an even one in a gap. Each operation is two bisections and one
splice. A sequential writer has one range and so pays a constant; n scattered ranges cost one copy
of the tuple, which is a memory move. A balanced tree was rejected: it wins only beyond some
hundred thousand ranges.

In the database a set is its gaps and lengths in turn, as variable-length integers (7 bits a byte,
low part first): two to ten bytes for a usual file.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """An immutable set of byte positions. Build from pairs: `Ranges([(0, 10), (20, 30)])`.

    Pairs may come in any order, overlap, or be empty. ValueError for a negative start.
    """

    __slots__ = ("_bounds",)

    _bounds: tuple[int, ...]

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        grown = _EMPTY
        for start, end in pairs:
            grown = _added(grown, start, end)
        self._bounds = grown

    def add(self, start: int, end: int) -> Ranges:
        """With [start, end) in it. ValueError for a negative start."""
        bounds = self._bounds
        grown = _added(bounds, start, end)
        return self if grown is bounds else _wrap(grown)

    def remove(self, start: int, end: int) -> Ranges:
        """Without [start, end)."""
        bounds = self._bounds
        if end <= start or not bounds:
            return self
        i = bisect_left(bounds, start)
        j = bisect_right(bounds, end)
        kept_left = (start,) if i % 2 else ()
        kept_right = (end,) if j % 2 else ()
        shrunk = bounds[:i] + kept_left + kept_right + bounds[j:]
        return self if shrunk == bounds else _wrap(shrunk)

    def clip(self, size: int) -> Ranges:
        """Only what lies before `size`, as after a truncation."""
        return self.remove(max(size, 0), max(self.end, size, 0))

    def union(self, other: Ranges) -> Ranges:
        """Everything that is in either."""
        small, large = sorted((self, other), key=len)
        grown = large._bounds
        for start, end in small:
            grown = _added(grown, start, end)
        return _wrap(grown)

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are not in the set, in order."""
        return self._cut(start, end, inside=False)

    def present(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are in the set, in order."""
        return self._cut(start, end, inside=True)

    def covers(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is in the set; true for an empty range."""
        if end <= start:
            return True
        i = bisect_right(self._bounds, start)
        return i % 2 == 1 and end <= self._bounds[i]

    @property
    def total(self) -> int:
        """How many bytes are in the set."""
        return sum(self._bounds[1::2]) - sum(self._bounds[::2])

    @property
    def end(self) -> int:
        """One past the last byte; 0 for the empty set."""
        return self._bounds[-1] if self._bounds else 0

    def to_bytes(self) -> bytes:
        """The form for the database; b"" for the empty set."""
        out = bytearray()
        previous = 0
        for bound in self._bounds:
            rest = bound - previous
            previous = bound
            while rest > 0x7F:
                out.append(rest & 0x7F | 0x80)
                rest >>= 7
            out.append(rest)
        return bytes(out)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Ranges:
        """Undo `to_bytes`. ValueError for bytes that it cannot have made."""
        bounds: list[int] = []
        position = value = shift = 0
        for byte in raw:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte & 0x80:
                continue
            if (value == 0 and bounds) or (byte == 0 and shift > 7):
                raise ValueError("not a set of ranges: bounds that do not rise")
            position += value
            bounds.append(position)
            value = shift = 0
        if shift or len(bounds) % 2:
            raise ValueError("not a set of ranges: cut short")
        return _wrap(tuple(bounds))

    def _cut(self, start: int, end: int, *, inside: bool) -> list[tuple[int, int]]:
        if end <= start:
            return []
        bounds = self._bounds
        first = bisect_right(bounds, start)
        last = bisect_left(bounds, end)
        edges = (start, *bounds[first:last], end)
        skip = 0 if (first % 2 == 1) is inside else 1
        return [(edges[k], edges[k + 1]) for k in range(skip, len(edges) - 1, 2)]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges as (start, end), in order, none of them touching another."""
        return zip(self._bounds[::2], self._bounds[1::2], strict=True)

    def __len__(self) -> int:
        """How many ranges there are; see `total` for bytes."""
        return len(self._bounds) // 2

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and bisect_right(self._bounds, position) % 2 == 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._bounds == other._bounds

    def __hash__(self) -> int:
        return hash(self._bounds)

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"


_EMPTY: tuple[int, ...] = ()


def _wrap(bounds: tuple[int, ...]) -> Ranges:
    made = Ranges.__new__(Ranges)
    made._bounds = bounds
    return made


def _added(bounds: tuple[int, ...], start: int, end: int) -> tuple[int, ...]:
    """The bounds with [start, end) in them; the same object where nothing changes."""
    if start < 0:
        raise ValueError(f"a range cannot start at {start}")
    if end <= start:
        return bounds
    i = bisect_left(bounds, start)
    j = bisect_right(bounds, end)
    if i == j and i % 2:
        return bounds
    opened = () if i % 2 else (start,)
    closed = () if j % 2 else (end,)
    return bounds[:i] + opened + closed + bounds[j:]
