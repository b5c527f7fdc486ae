"""What a power cut leaves of the daemon's files, computed from a record of its system calls.

strace(1) writes down every call that changes a file, with the bytes, and every sync. From that
follows what a disk is obliged to have at any moment: the bytes that were written before the last
sync of their file, and the names that were made or removed before the last sync of their folder.
A real disk may have more. So a cut is given a `Luck` that says of what: everything written to the
database, to the staged files, all names. Between these extremes lies what disks do.

Rejected: dm-flakey and dm-log-writes (kernels of test machines rarely have them, and loop devices
need more rights than ptrace), and LD_PRELOAD (another record of the same, with a compiler).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    *("openat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate"),
    *("copy_file_range", "fsync", "fdatasync", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "mkdir", "mkdirat"),
)
"""Everything that the daemon could change a file by; what is not understood is an error."""

WRITES = ("pwrite64", "write")
SYNCS = ("fsync", "fdatasync")

_LINE = re.compile(rb"(?P<pid>\d+) +(?P<time>\d+\.\d+) (?P<text>.*)")
_CALL = re.compile(rb"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>.*)")
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>(.*)")
_UNFINISHED = b" <unfinished ...>"
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def tracing(record: Path) -> tuple[str, ...]:
    """What goes before a command whose calls are to be recorded; its process id stays its own."""
    return (
        *("strace", "-D", "-f", "-qq", "-y", "-xx", "-ttt", "-s", str(64 * 1024 * 1024)),
        *("-e", "signal=none", "-e", f"trace={','.join(CALLS)}", "-o", str(record)),
    )


@dataclass(frozen=True)
class Call:
    """One system call that succeeded. `begun`, `ended`: seconds since the epoch."""

    name: str
    begun: float
    ended: float
    paths: tuple[Path, ...]
    data: bytes = b""
    offset: int = 0
    """Of a write; the new size for ftruncate."""
    creates: bool = False


def calls(record: Path, below: Path) -> list[Call]:
    """The recorded calls that touch something below a folder, in the order of their ends."""
    found = []
    open_calls: dict[bytes, tuple[float, bytes]] = {}
    needle = "".join(f"\\x{byte:02x}" for byte in bytes(below)).encode()
    with record.open("rb") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            pid, time, text = match["pid"], float(match["time"]), match["text"]
            begun = time
            if text.endswith(_UNFINISHED):
                open_calls[pid] = (time, text.removesuffix(_UNFINISHED))
                continue
            if (resumed := _RESUMED.match(text)) is not None:
                begun, before = open_calls.pop(pid)
                text = before + resumed[1]
            if needle in text and (call := _parse(begun, time, text)) is not None:
                found.append(call)
    return found


def _parse(begun: float, ended: float, text: bytes) -> Call | None:
    match = _CALL.match(text)
    assert match is not None, text[:200]
    if int(match["result"]) < 0:
        return None
    name, arguments = match["name"].decode(), match["arguments"]
    quoted = [_plain(part) for part in re.findall(rb'"([^"]*)"', arguments)]
    descriptor = re.match(rb"\w+<([^>]*)>", arguments)
    at = Path(_plain(descriptor[1]).decode()) if descriptor else Path()
    if name == "pwritev2":
        _, offset, _ = arguments.rsplit(b", ", 2)
        assert len(b"".join(quoted)) == int(match["result"]), "a write that was not recorded whole"
        return Call("pwrite64", begun, ended, (at,), b"".join(quoted), int(offset))
    if name in WRITES:
        assert len(quoted[0]) == int(match["result"]), "a write that was not recorded whole"
        offset = int(arguments.rpartition(b", ")[2]) if name == "pwrite64" else -1
        return Call(name, begun, ended, (at,), quoted[0], offset)
    if name in SYNCS:
        return Call(name, begun, ended, (at,))
    if name == "ftruncate":
        return Call(name, begun, ended, (at,), offset=int(arguments.rpartition(b", ")[2]))
    if name == "openat":
        return Call(name, begun, ended, (_joined(at, quoted[0]),), creates=b"O_CREAT" in arguments)
    if name in ("unlink", "unlinkat", "mkdir", "mkdirat"):
        return Call(name.removesuffix("at"), begun, ended, (_joined(at, quoted[0]),))
    if name in ("rename", "renameat", "renameat2"):
        return Call("rename", begun, ended, tuple(_joined(at, path) for path in quoted))
    raise AssertionError(f"{name} is not understood here")


def _plain(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text)


def _joined(folder: Path, path: bytes) -> Path:
    return folder / path.decode()


@dataclass(frozen=True)
class Luck:
    """What reaches the disk though nobody synced it."""

    database: bool = False
    staged: bool = False
    names: bool = False

    def saves(self, path: Path) -> bool:
        """Whether all that was written to this file arrives."""
        return self.staged if path.parent.name == "staging" else self.database


@dataclass
class _File:
    """A file's bytes as programs see them, and as the disk must have them."""

    seen: bytearray = field(default_factory=bytearray)
    kept: bytes = b""


@dataclass(frozen=True)
class _Sync:
    """What a sync that has begun will have brought to the disk."""

    data: bytes | None
    file: _File | None
    names: dict[Path, _File]
    folders: set[Path]


class Disk:
    """The files below a folder, followed through a record."""

    def __init__(self, top: Path) -> None:
        """`top` is empty and durable when the record begins."""
        self._top = top
        self._seen: dict[Path, _File] = {}
        self._kept: dict[Path, _File] = {}
        self._folders_seen: set[Path] = set()
        self._folders_kept: set[Path] = {top}
        self._under_way: dict[int, _Sync] = {}

    def follow(self, done: list[Call], until: float) -> None:
        """Take in all calls that ended before a moment.

        What a sync brings to the disk is what was there when it began.
        """
        moments = [(call.ended, call, False) for call in done]
        moments += [(call.begun, call, True) for call in done if call.name in SYNCS]
        for moment, call, begins in sorted(moments, key=lambda moment: (moment[0], not moment[2])):
            if moment > until:
                break
            if begins:
                self._look(call)
            else:
                self._take(call)

    def _take(self, call: Call) -> None:
        path = call.paths[0]
        match call.name:
            case "openat" if call.creates:
                self._seen.setdefault(path, _File())
            case "write" | "pwrite64":
                file = self._file(path)
                offset = call.offset if call.offset >= 0 else len(file.seen)
                file.seen.extend(bytes(max(0, offset - len(file.seen))))
                file.seen[offset : offset + len(call.data)] = call.data
            case "ftruncate":
                seen = self._file(path).seen
                seen.extend(bytes(max(0, call.offset - len(seen))))
                del seen[call.offset :]
            case "mkdir":
                self._folders_seen.add(path)
            case "unlink":
                self._seen.pop(path, None)
            case "rename":
                self._seen[call.paths[1]] = self._seen.pop(path)
            case "fsync" | "fdatasync":
                self._keep(call)

    def _file(self, path: Path) -> _File:
        return self._seen.setdefault(path, _File())

    def _look(self, call: Call) -> None:
        """A sync begins."""
        path = call.paths[0]
        names = {name: file for name, file in self._seen.items() if name.parent == path}
        folders = {folder for folder in self._folders_seen if folder.parent == path}
        file = self._seen.get(path)
        self._under_way[id(call)] = _Sync(file and bytes(file.seen), file, names, folders)

    def _keep(self, call: Call) -> None:
        """A sync has ended."""
        path, sync = call.paths[0], self._under_way.pop(id(call))
        if sync.file is not None and sync.data is not None:
            sync.file.kept = sync.data
            return
        self._kept = {name: file for name, file in self._kept.items() if name.parent != path}
        self._kept |= sync.names
        self._folders_kept |= sync.folders

    def after_cut(self, luck: Luck) -> Iterator[tuple[Path, bytes]]:
        """The files that are there when the power is back, with their bytes."""
        names = self._seen if luck.names else self._kept
        folders = self._folders_seen | self._folders_kept if luck.names else self._folders_kept
        for path, file in names.items():
            if path.parent in folders:
                yield path, bytes(file.seen) if luck.saves(path) else file.kept

    def restore(self, luck: Luck, target: Path) -> None:
        """Put into a new folder what a cut leaves; rows that others could read are not kept."""
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(mode=0o700)
        (target / "staging").mkdir(mode=0o700)
        for path, data in self.after_cut(luck):
            if not path.name.endswith("-shm"):
                (target / path.relative_to(self._top)).write_bytes(data)
