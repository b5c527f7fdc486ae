"""Where things are kept: configuration, state, cache, and who is using them.

All folders are 0700 and all files 0600: they hold tokens, file names and contents.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dbxfs.store.staged import sync_folder

from .options import MountOptions

ENDING = 20.0
"""Seconds that a daemon may take to end when its mount has gone."""
NOTICED = 4.0
"""Seconds that it may take to notice that its mount has gone."""
LOOK_AGAIN = 0.05


class InUseError(Exception):
    """Another daemon uses this state."""


class NotPrivateError(ValueError):
    """A folder that was named for our files is open to others and used for something else."""


def config_dir() -> Path:
    """Configuration and credentials."""
    return Path(platformdirs.user_config_dir("dbxfs", appauthor=False))


def state_root() -> Path:
    """The state of all accounts."""
    return Path(platformdirs.user_state_dir("dbxfs", appauthor=False))


def cache_root() -> Path:
    """The caches of all accounts."""
    return Path(platformdirs.user_cache_dir("dbxfs", appauthor=False))


def private(folder: Path) -> Path:
    """The folder, made when it is missing, and nobody else's to read.

    What is missing above it is made the same way, whatever the umask says.
    """
    if not folder.parent.exists():
        private(folder.parent)
    if not folder.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):
            # fsync(2) of what is in it promises nothing while its own name can be lost.
            sync_folder(folder.parent)
    if folder.stat().st_mode & 0o777 != 0o700:
        folder.chmod(0o700)
    return folder


def _named(folder: Path | None) -> Path | None:
    """A folder that an option names: private, but never at the cost of what is in it."""
    if folder is None:
        return None
    if folder.is_dir() and folder.stat().st_mode & 0o077 and any(folder.iterdir()):
        raise NotPrivateError(
            f"{folder} is open to others and not empty; make it private (chmod 700) if it is for "
            "dbxfs alone, or name another folder"
        )
    return private(folder)


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one mount."""

    state: Path
    cache: Path

    @classmethod
    def of(cls, options: MountOptions) -> Folders:
        """Those that the options name, or the usual ones of the account.

        Raises `NotPrivateError`, and OSError where they cannot be made.
        """
        name = "demo" if options.demo else options.account
        if options.folder:
            name += "@" + hashlib.sha256(options.folder.lower().encode()).hexdigest()[:12]
        return cls(
            state=_named(options.state_dir) or private(private(state_root()) / name),
            cache=_named(options.cache_dir) or private(private(cache_root()) / name),
        )

    @property
    def database(self) -> Path:
        """Tree, cursor and journal."""
        return self.state / "tree.db"

    @property
    def staging(self) -> Path:
        """Bytes that Dropbox does not have yet."""
        return private(self.state / "staging")

    @property
    def pinned(self) -> Path:
        """Contents that are to stay here."""
        return private(self.cache / "pinned")

    @property
    def recovered(self) -> Path:
        """Bytes that lost their place."""
        return self.state / "recovered"

    @property
    def socket(self) -> Path:
        """Where the daemon answers."""
        return self.state / "socket"

    @property
    def log(self) -> Path:
        """What the daemon has to say."""
        return self.state / "log"


@contextlib.contextmanager
def locked(state: Path, patience: float = ENDING) -> Iterator[None]:
    """Hold the state for one daemon; a crash leaves no lock behind.

    A daemon whose mount has just gone is given `patience` seconds to end: umount(8) does not wait
    for it. Raises `InUseError` with who holds it.
    """
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    began = time.monotonic()
    try:
        while not _taken(descriptor):
            # One that serves has a socket; one that ends removes it first.
            serves = (state / "socket").exists()
            if time.monotonic() - began >= (min(NOTICED, patience) if serves else patience):
                holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
                raise InUseError(
                    f"{state} is in use by another mount (process {holder}); unmount that one first"
                )
            time.sleep(LOOK_AGAIN)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---- Which daemon serves a mount point ----


def _record(mountpoint: Path) -> Path:
    name = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24]
    return state_root() / "mounts" / f"{name}.json"


@contextlib.contextmanager
def registered(mountpoint: Path, socket: Path) -> Iterator[None]:
    """While it lasts, the commands find the daemon by its mount point."""
    private(state_root() / "mounts")
    record = _record(mountpoint)
    temporary = record.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps({"mountpoint": str(mountpoint), "socket": str(socket)}))
    temporary.rename(record)
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def socket_of(mountpoint: Path) -> Path | None:
    """The socket of the daemon that serves the mount point, if one is known."""
    try:
        return Path(json.loads(_record(mountpoint).read_text())["socket"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def daemon_of(mountpoint: Path) -> int | None:
    """The process that serves the mount point, as a pidfd for the caller to close, if known."""
    socket = socket_of(mountpoint)
    if socket is None:
        return None
    try:
        return os.pidfd_open(int((socket.parent / "lock").read_text()))
    except (OSError, ValueError):
        return None


def mounts() -> list[tuple[Path, Path]]:
    """All known mounts: mount point and socket."""
    found = []
    for record in sorted((state_root() / "mounts").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            value = json.loads(record.read_text())
            found.append((Path(value["mountpoint"]), Path(value["socket"])))
    return found
