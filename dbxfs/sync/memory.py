"""Blocks in memory: what has come of each, what is on its way, and who waits for it.

A block's bytes are put in as they arrive; which of its units (`store.blocks.UNIT`) are complete is
a bit mask, so several flights can fill one block, and one unit can come twice without harm. Who
waits for a unit is woken whenever a block has changed, and looks again.

Blocks that are being filled stay; of the others the least used go when there are too many bytes.
All of it belongs to the event loop; threads are given bytes and blocks.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from dbxfs.store.blocks import BLOCK, UNIT

_NOTHING = bytearray()


class Block:
    """One block of a content."""

    def __init__(self, start: int, length: int) -> None:
        """`start`: where in the file it begins; `length`: bytes."""
        self.start = start
        self.end = start + length
        self.data: bytearray | memoryview = _NOTHING
        self.full = (1 << -(-length // UNIT)) - 1
        self.arrived = 0
        """Units whose bytes are all here."""
        self.have = 0
        """Those that may be given out."""
        self.coming = 0
        self.saved = 0
        """Those that the disk cache has."""
        self.flights = 0
        self.error: Exception | None = None
        """Why units that were coming did not come."""
        self.changed = trio.Event()

    def __len__(self) -> int:
        return self.end - self.start

    def mask(self, start: int, end: int) -> int:
        """The units that the file's range [start, end) touches, within this block."""
        first = (max(start, self.start) - self.start) // UNIT
        last = (min(end, self.end) - self.start - 1) // UNIT
        return ((1 << (last + 1)) - 1) & ~((1 << first) - 1) if last >= first else 0

    def whole(self, start: int, end: int) -> int:
        """The units that lie wholly in the file's range [start, end)."""
        first = -(-(max(start, self.start) - self.start) // UNIT)
        stop = min(end, self.end) - self.start
        last = -(-stop // UNIT) if stop == len(self) else stop // UNIT
        return ((1 << last) - 1) & ~((1 << first) - 1) if last > first else 0

    def put(self, at: int, data: memoryview) -> int:
        """Put in bytes that belong at `at` of the file; gives how many of them are this block's."""
        offset = at - self.start
        length = min(len(data), len(self) - offset)
        if self.data is _NOTHING:
            self.data = bytearray(len(self))
        if isinstance(self.data, bytearray):
            self.data[offset : offset + length] = data[:length]
        return length

    def fill(self, data: memoryview) -> None:
        """All of it is here, from the disk."""
        self.data = data
        self.arrived = self.have = self.saved = self.full
        self.coming = 0
        self.notify()

    def take(self, start: int, end: int) -> bytes:
        """The bytes of the file's range [start, end) that are in this block."""
        view = memoryview(self.data)
        return bytes(view[max(start, self.start) - self.start : min(end, self.end) - self.start])

    def notify(self) -> None:
        """Wake who waits."""
        self.changed.set()
        self.changed = trio.Event()

    def units(self, mask: int) -> list[tuple[int, int, int]]:
        """The units of a mask: their number, start and end in the file."""
        first = self.start // UNIT
        numbers = [first + bit for bit in range(mask.bit_length()) if mask >> bit & 1]
        return [(unit, unit * UNIT, min((unit + 1) * UNIT, self.end)) for unit in numbers]


class Memory:
    """Blocks of all contents, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: OrderedDict[tuple[str, int], Block] = OrderedDict()
        self._bytes = 0

    def whole(self, content: str, number: int) -> bytearray | memoryview | None:
        """The block's bytes, if all of them are here."""
        block = self._blocks.get((content, number))
        return block.data if block is not None and block.have == block.full else None

    def block(self, content: str, number: int, size: int) -> Block:
        """The block, made empty where there is none. `size`: the content's, bytes."""
        block = self._blocks.get((content, number))
        if block is not None:
            self._blocks.move_to_end((content, number))
        else:
            start = number * BLOCK
            block = Block(start, min(BLOCK, size - start))
            self._blocks[content, number] = block
            self._bytes += len(block)
        return block

    def trim(self) -> list[tuple[str, Block]]:
        """Let go what is too much; gives those that have something that the disk cache has not."""
        going: list[tuple[str, int]] = []
        left = self._bytes
        for place, block in self._blocks.items():
            if left <= self._limit:
                break
            if not block.flights and not block.coming:
                going.append(place)
                left -= len(block)
        self._bytes = left
        gone = [(place[0], self._blocks.pop(place)) for place in going]
        return [(content, block) for content, block in gone if block.have & ~block.saved]

    def unsaved(self) -> list[tuple[str, Block]]:
        """Those that have something that the disk cache has not."""
        return [
            (content, block)
            for (content, _), block in self._blocks.items()
            if block.have & ~block.saved
        ]

    def forget(self, content: str) -> None:
        """Let go what is here of a content. A block that somebody waits for stays, to be filled."""
        for place, block in [each for each in self._blocks.items() if each[0][0] == content]:
            if block.flights or block.coming:
                if not isinstance(block.data, bytearray):
                    block.data = bytearray(block.data)
                block.arrived &= ~block.have
                block.have = block.saved = 0
            else:
                self._bytes -= len(self._blocks.pop(place))
