"""Clean bytes: blocks of files as Dropbox has them, in a cache on disk that may be lost any time.

A block is found by the content hash of its file and its number, so a file that was renamed,
copied or restored is a hit, and a stale block cannot exist. Where only a little of a block was
fetched, as by a program that reads here and there, its *units* are kept one by one.

diskcache does the bookkeeping in SQLite and the removal; what it does by default with values that
are no plain bytes, unpickling them (CVE-2025-69872), is refused here: whoever can write to the
cache must not run code in the daemon. Two things are done differently from its own ways:

* Which blocks were used lately is remembered here and written down now and then, many in one
  transaction. diskcache's own policy writes to the database at each read.
* Each value carries a checksum. A block that the disk has changed is a miss.

Everything blocks and is called from threads. A cache that does not work costs speed, never an
answer: its failures are logged, and reads are misses.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import EVICTION_POLICY, MODE_BINARY, MODE_RAW

log = logging.getLogger(__name__)

BLOCK = 1024 * 1024
"""Bytes a block."""
UNIT = 64 * 1024
"""Bytes that are fetched and kept at the least; a block is a whole number of them."""

MARGIN = 8 * 1024 * 1024
"""Bytes below its limit at which the cache begins to evict: its own log is not counted."""
EVICTED_AT_ONCE = 4
"""Entries that go when one comes; smaller ones than that are dealt with in larger numbers."""
USED_AT_ONCE = 256
"""Blocks that are used before that is written down."""

CACHED_PAGES = 256
"""Pages of 4 KiB that each thread keeps of the database; beyond that the kernel has them for all.
diskcache's own 8192, and 64 MiB that are mapped, count once for each of some twenty threads."""

_FAILURES = (sqlite3.Error, OSError, diskcache.Timeout, ValueError)
_CHECKSUM = struct.Struct("<I")

POLICY = "least-recently-used-in-batches"
EVICTION_POLICY[POLICY] = {**EVICTION_POLICY["least-recently-used"], "get": None}


class PlainDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text, values are bytes; nothing is ever pickled or unpickled."""

    def put(self, key: object) -> tuple[object, bool]:
        """A key for the database."""
        if not isinstance(key, str):
            raise ValueError("cache keys are text")  # noqa: TRY004
        return super().put(key)  # type: ignore[no-any-return]

    def get(self, key: object, raw: bool) -> object:
        """A key from the database."""
        if not raw:
            raise ValueError("a pickled key in the cache")
        return super().get(key, raw)

    def store(self, value: object, read: bool, key: object = None) -> Any:
        """A value for the database, or a file beside it where it is large.

        Not diskcache's own way, which writes bytes to a file line by line.
        """
        if not isinstance(value, bytes):
            raise ValueError("cached values are bytes")  # noqa: TRY004
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, value
        name, path = self.filename(key, value)
        for attempts in range(EVICTED_AT_ONCE, -1, -1):
            # A folder goes with the last file in it, maybe in this moment.
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            try:
                with open(path, "xb") as file:
                    file.write(value)
                break
            except FileNotFoundError:
                if not attempts:
                    raise
        return len(value), MODE_BINARY, name, None

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> object:
        """A value from the database or a file."""
        if mode not in (MODE_RAW, MODE_BINARY):
            raise ValueError("a cached value that is not bytes")
        return super().fetch(mode, filename, value, read)


class BlockCache:
    """The blocks kept on disk for one account."""

    def __init__(self, folder: Path, size_limit: int) -> None:
        """`folder` exists and is private; `size_limit`: bytes, never exceeded.

        What another program or version left there and cannot be opened is put aside and a new
        cache begun.
        """
        self._folder = folder
        self._limit = max(1, size_limit - MARGIN)
        self.damaged = 0
        """Values that the disk was seen to have changed."""
        self._arriving: dict[str, Path] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self._cache = self._open()

    def _open(self) -> diskcache.Cache:
        def opened() -> diskcache.Cache:
            return diskcache.Cache(
                str(self._folder / "blocks"),
                timeout=5,
                disk=PlainDisk,
                size_limit=self._limit,
                eviction_policy=POLICY,
                cull_limit=EVICTED_AT_ONCE,
                statistics=0,
                tag_index=1,
                sqlite_cache_size=CACHED_PAGES,
                sqlite_mmap_size=0,
            )

        try:
            return opened()
        except _FAILURES as error:
            log.warning("the block cache cannot be opened (%s); a new one is begun", error)
            aside = self._folder / "blocks.broken"
            if aside.exists():
                shutil.rmtree(aside)
            (self._folder / "blocks").rename(aside)
            return opened()

    # ---- Blocks and units ----

    def get(self, content: str, block: int) -> memoryview | None:
        """The block, or None when it is not here as a whole."""
        data = self._get(f"{content}/{block}")
        return self._get_arriving(content, block) if data is None else data

    def get_unit(self, content: str, unit: int) -> memoryview | None:
        """The unit (counted from the file's beginning) if it was kept alone, or None."""
        return self._get(f"{content}/u{unit}")

    def put(self, content: str, block: int, data: bytes | bytearray | memoryview) -> bool:
        """Keep the block, evicting others when the limit is reached; whether it is here now."""
        return self._put(content, f"{content}/{block}", data)

    def put_unit(self, content: str, unit: int, data: bytes | bytearray | memoryview) -> None:
        """Keep a unit alone."""
        self._put(content, f"{content}/u{unit}", data)

    def _get(self, key: str) -> memoryview | None:
        try:
            value = self._cache.get(key)
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)
            return None
        if not isinstance(value, bytes):
            return None
        view = memoryview(value)
        data, checksum = view[: -_CHECKSUM.size], bytes(view[-_CHECKSUM.size :])
        if len(value) < _CHECKSUM.size or _CHECKSUM.pack(zlib.crc32(data)) != checksum:
            log.warning("the disk has changed a cached block; it is fetched again")
            self.damaged += 1
            self._delete([key])
            return None
        self._note_use(key)
        return data

    def _put(self, content: str, key: str, data: bytes | bytearray | memoryview) -> bool:
        try:
            self._cache.set(key, b"".join((data, _CHECKSUM.pack(zlib.crc32(data)))), tag=content)
            if self._cache.volume() > self._limit + MARGIN // 2:
                self._write_down_uses()
                self._cache.cull()
        except _FAILURES as error:
            log.warning("the block cache cannot be written: %s", error)
            return False
        return True

    def _note_use(self, key: str) -> None:
        with self._lock:
            self._used.add(key)
            enough = len(self._used) >= USED_AT_ONCE
        if enough:
            self._write_down_uses()

    def _write_down_uses(self) -> None:
        with self._lock:
            used, self._used = self._used, set()
        now = time.time()
        try:
            with self._cache.transact():
                for key in used:
                    self._cache._sql(
                        "UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1", (now, key)
                    )
        except _FAILURES as error:
            log.debug("what was used lately cannot be written down: %s", error)

    # ---- Whole contents ----

    def arrives(self, content: str, path: Path) -> None:
        """All of a content lies at `path` and is soon put here; until `arrived`, it is read there.

        Many files are committed at once, and large ones take their time: who reads one of them
        before its turn, or pins it, would else fetch what has just been sent.
        """
        self._arriving[content] = path

    def arrived(self, content: str) -> None:
        """The file that was announced is no more to be read."""
        self._arriving.pop(content, None)

    def _get_arriving(self, content: str, block: int) -> memoryview | None:
        path = self._arriving.get(content)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                file.seek(block * BLOCK)
                return memoryview(file.read(BLOCK))
        except OSError as error:
            log.debug("%s is not here any more: %s", path.name, error)
            return None

    def put_file(self, content: str, path: Path, *, pinned: bool = False) -> None:
        """Keep all blocks of a file that lies at `path`, unless it would push out the rest.

        `pinned`: it is to stay; here that makes no difference (see `store.pinned`).
        """
        try:
            if path.stat().st_size > self._limit // 2:
                return
            with path.open("rb") as file:
                for block, data in enumerate(iter(lambda: file.read(BLOCK), b"")):
                    self.put(content, block, data)
        except FileNotFoundError:
            log.debug("%s was removed meanwhile", path.name)
        except OSError as error:
            log.warning("%s cannot be kept in the cache: %s", path.name, error)

    def cached(self, content: str, size: int) -> int:
        """How many bytes of a content of `size` bytes are here."""
        return covered(self._names(content), size)

    def _names(self, content: str) -> set[str]:
        """What is here of a content: numbers of blocks, and of units with a "u" before them."""
        try:
            keys = self._cache._sql("SELECT key FROM Cache WHERE tag = ?", (content,)).fetchall()
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)
            return set()
        return {key.rpartition("/")[2] for (key,) in keys}

    def has(self, content: str, block: int) -> bool:
        """Whether the block is here as a whole; its bytes are not looked at."""
        try:
            return f"{content}/{block}" in self._cache
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)
            return False

    def counts(self) -> dict[str, int]:
        """Of each content, how many blocks and units are here."""
        try:
            rows = self._cache._sql("SELECT tag, count(*) FROM Cache GROUP BY tag")
            return {tag: count for tag, count in rows if isinstance(tag, str)}
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)
            return {}

    def forget(self, content: str) -> None:
        """Drop all that is here of a content."""
        try:
            self._cache.evict(content)
        except _FAILURES as error:
            log.warning("the block cache cannot be written: %s", error)

    def contents(self) -> Iterator[tuple[str, list[int]]]:
        """Each content of which there are blocks, and the numbers of those, in any order."""
        try:
            keys = (key.rpartition("/") for key in self._cache.iterkeys())
            named = ((content, block) for content, _, block in keys if block.isdecimal())
            for content, group in itertools.groupby(named, key=lambda pair: pair[0]):
                yield content, [int(block) for _, block in group]
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)

    def volume(self) -> int:
        """The bytes that it takes on the disk, about; 0 when that cannot be told."""
        try:
            return int(self._cache.volume())
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)
            return 0

    def drop(self, content: str, blocks: Iterable[int]) -> None:
        """Forget blocks of a content."""
        self._delete(f"{content}/{block}" for block in blocks)

    def _delete(self, keys: Iterable[str]) -> None:
        try:
            for key in keys:
                self._cache.delete(key)
        except _FAILURES as error:
            log.warning("the block cache cannot be written: %s", error)

    # ---- The frame ----

    def sweep(self) -> None:
        """Remove files that no row names: what a daemon that was killed was just writing."""
        folder = self._folder / "blocks"
        try:
            begun = time.time()
            named = {
                name
                for (name,) in self._cache._sql(
                    "SELECT filename FROM Cache WHERE filename IS NOT NULL"
                )
            }
            for path in folder.glob("*/*/*.val"):
                old = path.stat().st_mtime < begun - 1
                if old and str(path.relative_to(folder)) not in named:
                    path.unlink(missing_ok=True)
        except _FAILURES as error:
            log.debug("the block cache cannot be swept: %s", error)

    def close(self) -> None:
        """Give its connections back."""
        self._write_down_uses()
        self._cache.close()


def covered(names: Iterable[str], size: int) -> int:
    """How many bytes of a content of `size` bytes the named blocks and units ("u") cover."""
    named = set(names)
    blocks = {int(name) for name in named if name.isdecimal()}
    units = {int(name[1:]) for name in named if name[:1] == "u"}
    alone = {unit for unit in units if unit * UNIT // BLOCK not in blocks}
    return sum(max(0, min(BLOCK, size - block * BLOCK)) for block in blocks) + sum(
        max(0, min(UNIT, size - unit * UNIT)) for unit in alone
    )
