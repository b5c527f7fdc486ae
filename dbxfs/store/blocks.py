"""Clean bytes: blocks of files as Dropbox has them, in a cache on disk that may be lost any time.

A block is found by the content hash of its file and its number, so a file that was renamed,
copied or restored is a hit, and a stale block cannot exist. diskcache does the eviction by size
and the bookkeeping in SQLite; what it does by default with values that are no plain bytes,
unpickling them (CVE-2025-69872), is refused here: whoever can write to the cache must not run code
in the daemon.

Everything blocks and is called from threads. A cache that does not work costs speed, never an
answer: its failures are logged, and reads are misses.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW

log = logging.getLogger(__name__)

BLOCK = 256 * 1024
"""Bytes a block: what the first read of a file costs at most."""

_FAILURES = (sqlite3.Error, OSError, diskcache.Timeout, ValueError)


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
        """A value for the database or a file."""
        if not isinstance(value, bytes):
            raise ValueError("cached values are bytes")  # noqa: TRY004
        return super().store(value, read, key)

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> object:
        """A value from the database or a file."""
        if mode not in (MODE_RAW, MODE_BINARY):
            raise ValueError("a cached value that is not bytes")
        return super().fetch(mode, filename, value, read)


class BlockCache:
    """The blocks kept on disk for one account."""

    def __init__(self, folder: Path, size_limit: int) -> None:
        """`folder` exists and is private; `size_limit`: bytes.

        What another program or version left there and cannot be opened is put aside and a new
        cache begun.
        """
        self._folder = folder
        self._size_limit = size_limit
        self._cache = self._open()

    def _open(self) -> diskcache.Cache:
        def opened() -> diskcache.Cache:
            return diskcache.Cache(
                str(self._folder / "blocks"),
                timeout=5,
                disk=PlainDisk,
                size_limit=self._size_limit,
                eviction_policy="least-recently-stored",
                statistics=0,
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

    def get(self, content: str, block: int) -> bytes | None:
        """The block, or None when it is not cached."""
        try:
            value = self._cache.get(f"{content}/{block}")
        except _FAILURES as error:
            log.warning("the block cache cannot be read: %s", error)
            return None
        return value if isinstance(value, bytes) else None

    def put(self, content: str, block: int, data: bytes) -> None:
        """Keep the block, evicting others when the limit is reached."""
        try:
            self._cache.set(f"{content}/{block}", data)
        except _FAILURES as error:
            log.warning("the block cache cannot be written: %s", error)

    def put_file(self, content: str, path: Path) -> None:
        """Keep all blocks of a file that lies at `path`, unless it would push out the rest."""
        try:
            if path.stat().st_size > self._size_limit // 2:
                return
            with path.open("rb") as file:
                for block, data in enumerate(iter(lambda: file.read(BLOCK), b"")):
                    self.put(content, block, data)
        except FileNotFoundError:
            log.debug("%s was removed meanwhile", path.name)
        except OSError as error:
            log.warning("%s cannot be kept in the cache: %s", path.name, error)

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
        try:
            for block in blocks:
                self._cache.delete(f"{content}/{block}")
        except _FAILURES as error:
            log.warning("the block cache cannot be written: %s", error)

    def close(self) -> None:
        """Give its connections back."""
        self._cache.close()
