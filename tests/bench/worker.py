"""`python -m tests.bench.worker`: a program that works in a mount and times itself.

One line of JSON in, one out. The bench itself never touches a mount: what hangs there, hangs here,
and this process can be killed. It is started before the clock, so that an interpreter's start is
in no figure; the moments that it reports are of CLOCK_MONOTONIC, the same for all processes.

It reads into a buffer of its own with readinto(2)-like calls of 1 MiB: what is measured is the file
system, not the making of Python objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbxfs.core.content_hash import ContentHasher

PIECE = 1024 * 1024
POLL = 0.005
ROUND = 0.02

_open: dict[str, int] = {}


def start(path: str, length: int) -> dict[str, Any]:
    """Opens a file, reads its first bytes and closes it."""
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        data = file.read(length)
    return {"seconds": time.monotonic() - began, "bytes": len(data)}


def pread(path: str, offset: int, length: int) -> dict[str, Any]:
    """Reads a piece; the file is opened the first time and stays so."""
    began = time.monotonic()
    if path not in _open:
        _open[path] = os.open(path, os.O_RDONLY)
    data = os.pread(_open[path], length, offset)
    return {"seconds": time.monotonic() - began, "hex": data[:64].hex(), "bytes": len(data)}


def read(path: str) -> dict[str, Any]:
    """Reads a file from its beginning to its end."""
    buffer = bytearray(PIECE)
    size = 0
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            size += length
    return {"seconds": time.monotonic() - began, "bytes": size}


def content_hash(path: str) -> dict[str, Any]:
    """Dropbox's hash of a file's content."""
    hasher = ContentHasher()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(PIECE):
            hasher.update(chunk)
    return {"hash": hasher.hexdigest()}


def forget(path: str) -> dict[str, Any]:
    """Has the kernel drop its pages of a file, or of all files below a folder."""
    for file in [Path(path), *Path(path).rglob("*")]:
        if file.is_file():
            fd = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
    return {}


def save(path: str, size: int, times: int, every: float) -> dict[str, Any]:
    """Saves a document as editors do, `times` times, `every` so many seconds.

    Written beside it, synced, renamed over it. Returns the last content's hash.
    """
    data = b""
    due = began = time.monotonic()
    longest = 0.0
    for _ in range(times):
        # The pace of the person who saves is part of the work.
        time.sleep(max(0.0, due - time.monotonic()))
        due += every
        data = os.urandom(size // 2).hex().encode()
        one = time.monotonic()
        with open(f"{path}.tmp", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.tmp", path)
        longest = max(longest, time.monotonic() - one)
    hasher = ContentHasher()
    hasher.update(data)
    ended = time.monotonic()
    return {"seconds": ended - began, "longest": longest, "hash": hasher.hexdigest()}


def copy(source: str, target: str) -> dict[str, Any]:
    """Copies a file."""
    buffer = bytearray(PIECE)
    began = time.monotonic()
    with open(source, "rb", buffering=0) as read_from, open(target, "wb", buffering=0) as write_to:
        while length := read_from.readinto(buffer):
            write_to.write(memoryview(buffer)[:length])
    return {"seconds": time.monotonic() - began}


def operate(path: str, seconds: float) -> dict[str, Any]:
    """Works with small files in a folder for some time; `taken` are the seconds of each operation.

    At an even pace, as people and their programs do: not as fast as the file system can.
    """
    file, renamed, data = f"{path}/note.txt", f"{path}/note.old", os.urandom(4096)
    operations: tuple[Callable[[], object], ...] = (
        lambda: Path(file).write_bytes(data),
        lambda: os.stat(file),
        lambda: os.listdir(path),
        lambda: Path(file).read_bytes(),
        lambda: os.rename(file, renamed),
        lambda: os.unlink(renamed),
    )
    taken = []
    due = time.monotonic()
    end = due + seconds
    while due < end:
        for operation in operations:
            began = time.monotonic()
            operation()
            taken.append(time.monotonic() - began)
        due = max(due + ROUND, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    return {"taken": taken}


def see(path: str, size: int, every: float = POLL) -> dict[str, Any]:
    """Waits until a file has this size; `at` is the moment. Looks `every` so many seconds."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size == size:
                return {"at": time.monotonic()}
        time.sleep(every)


def tree(path: str, hashes: bool) -> dict[str, Any]:
    """Everything below a folder, by path: kind, size, and the content hash if asked for."""
    found: dict[str, list[Any]] = {}

    def walk(folder: str, prefix: str) -> None:
        with os.scandir(folder) as entries:
            for entry in list(entries):
                name = f"{prefix}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    found[name] = ["folder", None, None]
                    walk(entry.path, name)
                else:
                    size = entry.stat(follow_symlinks=False).st_size
                    found[name] = [
                        "file", size, content_hash(entry.path)["hash"] if hashes else None
                    ]  # fmt: skip

    walk(path, "")
    return {"tree": found}


WORKS: dict[str, Callable[..., dict[str, Any]]] = {
    work.__name__: work
    for work in (start, pread, read, content_hash, forget, save, copy, operate, see, tree)
}


def main() -> None:
    """Answers until standard input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            reply = WORKS[asked.pop("do")](**asked)
        except OSError as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
