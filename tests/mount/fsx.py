"""Random operations on one file, each checked byte by byte against a buffer, in the spirit of fsx.

A program of its own: `python -m tests.mount.fsx FILE EXPECTED SEED OPERATIONS SIZE`. It works on
FILE through several handles at once (ordinary, appending, direct, mapped) and keeps in EXPECTED
what must be in it; the next run begins by comparing the two. So whatever is done between two runs
to the mount, nothing of the content may change. At the first difference it says which byte, and
what was done before, and exits with 1.

A program, since a mapping whose daemon hangs cannot be interrupted by another thread of its own.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = mmap.PAGESIZE
LARGEST_PIECE = 70_000
TOLD = 40
"""The last operations that a failure tells."""


class DifferentError(Exception):
    """A byte, or a size, is not what it must be."""


class Exerciser:
    """One file, its handles, and what must be in it."""

    def __init__(self, path: Path, content: bytearray, source: random.Random, largest: int) -> None:
        self.path = path
        self.content = content
        self.history: list[str] = []
        self._source = source
        self._largest = largest
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self._other = os.open(path, os.O_RDWR)

    def run(self, operations: int) -> None:
        """Raises DifferentError."""
        self.compare()
        kinds = self._kinds()
        for _ in range(operations):
            kind = self._source.choice(kinds)
            kind()
            self._check_size()
        self.compare()

    def _kinds(self) -> list[Callable[[], None]]:
        often = [self.read, self.write, self.mapped_read, self.mapped_write, self.reopen]
        seldom = [
            *(self.truncate, self.truncate_by_path, self.append, self.direct_read),
            *(self.direct_write, self.vectors, self.sync, self.rename, self.copy_within),
            *(self.close_all_and_open, self.truncate_at_open, self.holes, self.compare),
        ]
        return often * 4 + seldom

    # ---- Choices ----

    def _range(self, end: int) -> tuple[int, int]:
        """Offset and length; often at the edges of pages, and of the file."""
        edges = [0, end, end // PAGE * PAGE, self._source.randrange(end + 1) // PAGE * PAGE]
        offset = self._source.choice([*edges, self._source.randrange(end + 1)])
        offset = min(max(0, offset + self._source.choice((0, 0, -1, 1))), self._largest - 1)
        longest = min(LARGEST_PIECE, self._largest - offset)
        length = self._source.choice([1, PAGE, self._source.randrange(1, LARGEST_PIECE)])
        return offset, max(1, min(length, longest))

    def _within(self) -> tuple[int, int] | None:
        """A range of what is there; None where that is nothing."""
        if not self.content:
            return None
        offset, length = self._range(len(self.content) - 1)
        offset = min(offset, len(self.content) - 1)
        return offset, min(length, len(self.content) - offset)

    def _bytes(self, length: int) -> bytes:
        return self._source.randbytes(length)

    def _either(self) -> int:
        return self._source.choice((self._descriptor, self._other))

    # ---- Operations ----

    def read(self) -> None:
        offset, length = self._range(len(self.content))
        self._say(f"read {offset} {length}")
        self._equal(offset, length, os.pread(self._either(), length, offset))

    def direct_read(self) -> None:
        offset, length = self._range(len(self.content))
        offset, length = offset // PAGE * PAGE, -(-length // PAGE) * PAGE
        self._say(f"read direct {offset} {length}")
        with self._opened(os.O_RDONLY | os.O_DIRECT) as descriptor, mmap.mmap(-1, length) as room:
            count = os.preadv(descriptor, [room], offset)
            self._equal(offset, length, room[:count])

    def mapped_read(self) -> None:
        if (chosen := self._within()) is None:
            return
        offset, length = chosen
        self._say(f"read mapped {offset} {length}")
        with mmap.mmap(self._either(), len(self.content), prot=mmap.PROT_READ) as mapped:
            self._equal(offset, length, mapped[offset : offset + length])

    def write(self) -> None:
        offset, length = self._range(len(self.content))
        self._say(f"write {offset} {length}")
        self._write(self._either(), offset, self._bytes(length))

    def vectors(self) -> None:
        offset, length = self._range(len(self.content))
        pieces = [self._bytes(min(length, 3000)) for _ in range(3)]
        self._say(f"write vectors {offset} 3x{len(pieces[0])}")
        assert os.pwritev(self._either(), pieces, offset) == 3 * len(pieces[0])
        self._put(offset, b"".join(pieces))

    def append(self) -> None:
        data = self._bytes(self._source.choice((1, 100, PAGE)))
        self._say(f"append {len(data)}")
        with self._opened(os.O_WRONLY | os.O_APPEND) as descriptor:
            assert os.write(descriptor, data) == len(data)
        self._put(len(self.content), data)

    def direct_write(self) -> None:
        offset, length = self._range(len(self.content))
        offset, length = offset // PAGE * PAGE, -(-length // PAGE) * PAGE
        self._say(f"write direct {offset} {length}")
        with self._opened(os.O_RDWR | os.O_DIRECT) as descriptor, mmap.mmap(-1, length) as room:
            room[:] = data = self._bytes(length)
            assert os.pwritev(descriptor, [room], offset) == length
        self._put(offset, data)

    def mapped_write(self) -> None:
        if (chosen := self._within()) is None:
            return
        offset, length = chosen
        flush = self._source.random() < 0.5
        self._say(f"write mapped {offset} {length}{' msync' if flush else ''}")
        data = self._bytes(length)
        with mmap.mmap(self._either(), len(self.content)) as mapped:
            mapped[offset : offset + length] = data
            if flush:
                mapped.flush()
        self._put(offset, data)

    def truncate(self) -> None:
        size = self._source.choice(
            [0, len(self.content) // PAGE * PAGE, sum(self._range(len(self.content)))]
        )
        self._say(f"truncate {size}")
        os.ftruncate(self._either(), size)
        self._resize(size)

    def truncate_by_path(self) -> None:
        size, _ = self._range(len(self.content) + 1000)
        self._say(f"truncate by path {size}")
        os.truncate(self.path, size)
        self._resize(size)

    def truncate_at_open(self) -> None:
        if self._source.random() < 0.7:
            return
        self._say("open with O_TRUNC")
        with self._opened(os.O_WRONLY | os.O_TRUNC):
            pass
        self._resize(0)

    def holes(self) -> None:
        """What is told of holes must be one."""
        if not self.content:
            return
        start = self._source.randrange(len(self.content))
        self._say(f"seek hole {start}")
        hole = os.lseek(self._descriptor, start, os.SEEK_HOLE)
        if not start <= hole <= len(self.content):
            raise DifferentError(f"a hole at {hole} in {len(self.content)} bytes")
        if hole < len(self.content) and self.content[hole]:
            raise DifferentError(f"the hole at {hole} is none")

    def copy_within(self) -> None:
        """copy_file_range(2) from one place to another that does not touch it."""
        if (chosen := self._within()) is None:
            return
        offset, length = chosen
        target = offset + length + self._source.randrange(PAGE)
        length = min(length, max(1, self._largest - target))
        self._say(f"copy {offset} {length} to {target}")
        done = os.copy_file_range(self._descriptor, self._other, length, offset, target)
        self._put(target, bytes(self.content[offset : offset + done]))

    def sync(self) -> None:
        self._say("fsync")
        os.fsync(self._either())

    def rename(self) -> None:
        """Away and back, or over a file that is there."""
        self._say("rename")
        beside = self.path.with_name(f"{self.path.name}.beside")
        os.rename(self.path, beside)
        if self._source.random() < 0.5:
            self.path.write_bytes(b"to be replaced")
        os.rename(beside, self.path)

    def reopen(self) -> None:
        """One of the two handles closes and opens."""
        self._say("close and open one")
        os.close(self._other)
        self._other = os.open(self.path, os.O_RDWR)

    def close_all_and_open(self) -> None:
        self._say("close and open all")
        self.close()
        self._descriptor, self._other = (os.open(self.path, os.O_RDWR) for _ in range(2))

    def compare(self) -> None:
        """All of it."""
        self._say("compare")
        with self.path.open("rb") as file:
            self._equal(0, len(self.content), file.read())

    def close(self) -> None:
        """No handle is left."""
        os.close(self._descriptor)
        os.close(self._other)

    # ---- Inside ----

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        descriptor = os.open(self.path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, offset: int, data: bytes) -> None:
        assert os.pwrite(descriptor, data, offset) == len(data)
        self._put(offset, data)

    def _put(self, offset: int, data: bytes) -> None:
        if offset > len(self.content):
            self._resize(offset)
        self.content[offset : offset + len(data)] = data

    def _resize(self, size: int) -> None:
        if size <= len(self.content):
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))

    def _check_size(self) -> None:
        sizes = {os.fstat(self._descriptor).st_size, os.stat(self.path).st_size}
        if sizes != {len(self.content)}:
            raise DifferentError(f"the size is {sizes}, not {len(self.content)}")

    def _equal(self, offset: int, length: int, found: bytes) -> None:
        expected = self.content[offset : offset + length]
        if found == expected:
            return
        if len(found) != len(expected):
            raise DifferentError(f"{len(found)} bytes at {offset}, not {len(expected)}")
        wrong = [at for at in range(len(found)) if found[at] != expected[at]]
        raise DifferentError(
            f"{len(wrong)} bytes differ, the first at {offset + wrong[0]}: "
            f"{found[wrong[0]]:#x}, not {expected[wrong[0]]:#x}; the last at {offset + wrong[-1]}"
        )

    def _say(self, operation: str) -> None:
        self.history.append(operation)


def main(path: str, expected: str, seed: str, operations: str, largest: str) -> int:
    """One run; the exit status."""
    store = Path(expected)
    content = bytearray(store.read_bytes() if store.exists() else b"")
    exerciser = Exerciser(Path(path), content, random.Random(int(seed)), int(largest))
    try:
        exerciser.run(int(operations))
    except (DifferentError, OSError) as error:
        print(f"{type(error).__name__}: {error}, after", *exerciser.history[-TOLD:], sep="\n  ")
        return 1
    exerciser.close()
    store.write_bytes(exerciser.content)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
