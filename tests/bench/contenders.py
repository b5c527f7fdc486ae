"""Who is measured: our daemon, rclone with its full cache, and a bare FUSE file system.

All are children in the foreground with folders of their own, so that their CPU time and memory
are those of one process id, and all end with the bench. A fresh contender has an empty cache and
an empty database.

rclone speaks only to Dropbox's own hosts, by TLS; `private_hosts` leads it to the same server. Its
settings are the defaults apart from the cache mode, unless the user gives others. It mounts one
folder of the account, TOP: for the root it asks for "//name", which the embedded server refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.figures import BARE, OURS, RCLONE
from tests.embedded import Embedded
from tests.mount.mounted import FEED, Mounted, is_mounted, umount_command

ROOT = Path(__file__).parent.parent.parent
TOP = "/bench"
"""The folder of the account in which all works are done."""

READY_WITHIN = 30.0
END_WITHIN = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


class NotMountedError(Exception):
    """A contender did not come up; the message carries what it said."""


class Contender(Protocol):
    """A file system that shows the account's folder TOP at `path`."""

    name: str
    path: Path
    feed: frozenset[str]
    """Routes that it calls only to stay up to date, whose number depends on timing."""

    @property
    def pid(self) -> int:
        """The process that serves the mount."""

    @property
    def cache(self) -> Path:
        """Where it keeps content."""

    def start(self) -> float:
        """Mounts; the seconds until it answered. Raises NotMountedError."""

    def settle(self, within: float) -> None:
        """Returns when it knows the account's tree, if it wants to. Raises TimeoutError."""

    def has_crawled(self) -> bool:
        """Whether it knows the account's tree, as far as it ever will without being asked."""

    def unmount(self) -> None:
        """The plain way. Raises NotMountedError when it cannot be done."""

    def close(self) -> None:
        """Leaves neither a process nor a mount behind, whatever happened."""

    def said(self) -> str:
        """The end of what it logged."""


class Ours:
    """dbxfs, from this checkout."""

    name = OURS
    feed = FEED

    def __init__(self, folder: Path, server: Embedded, options: Sequence[str] = ()) -> None:
        self._mounted = Mounted(folder, server, options)
        self.path = self._mounted.path / TOP[1:]
        self.cache = self._mounted.cache

    @property
    def pid(self) -> int:
        return self._mounted.pid

    def start(self) -> float:
        began = time.monotonic()
        try:
            self._mounted.start()
        except AssertionError as error:
            raise NotMountedError(str(error)) from None
        return time.monotonic() - began

    def settle(self, within: float) -> None:
        refused = self._mounted.sync(within)
        if refused:
            raise NotMountedError(f"Dropbox refused {refused}")

    def has_crawled(self) -> bool:
        return bool(self._mounted.status()["listing"] == "complete")

    def unmount(self) -> None:
        try:
            self._mounted.unmount()
        except AssertionError as error:
            raise NotMountedError(str(error)) from None

    def close(self) -> None:
        self._mounted.close()

    def said(self) -> str:
        return " / ".join(self._mounted.log().splitlines()[-2:])


class Rclone:
    """`rclone mount --vfs-cache-mode full`, led to the embedded server by `hosts`."""

    name = RCLONE
    feed = frozenset(
        {
            "files/list_folder/longpoll",
            "files/list_folder/get_latest_cursor",
            "users/get_current_account",
            "users/get_space_usage",
        }
    )

    def __init__(
        self,
        folder: Path,
        server: Embedded,
        hosts: Mapping[str, str],
        flags: Sequence[str] = (),
    ) -> None:
        self.path = folder / "mnt"
        self.cache = folder / "cache"
        self.path.mkdir()
        self._folder = folder
        self._flags = tuple(flags)
        self._process: subprocess.Popen[bytes] | None = None
        token = {
            "access_token": server.token,
            "token_type": "bearer",
            "expiry": "2099-01-01T00:00:00Z",
        }
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RCLONE_CONFIG": str(folder / "rclone.conf"),
            "RCLONE_CONFIG_DBX_TYPE": "dropbox",
            "RCLONE_CONFIG_DBX_CLIENT_ID": server.app_key,
            "RCLONE_CONFIG_DBX_TOKEN": json.dumps(token),
            **hosts,
        }

    @property
    def pid(self) -> int:
        assert self._process is not None, "rclone is not running"
        return self._process.pid

    def start(self) -> float:
        (self._folder / "rclone.conf").touch()
        command = [
            *(
                str(find_rclone()),
                "mount",
                f"dbx:{TOP}",
                str(self.path),
                "--vfs-cache-mode",
                "full",
            ),
            *("--cache-dir", str(self.cache), *self._flags),
        ]
        began = time.monotonic()
        with (self._folder / "rclone.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, cwd=self._folder, stdout=log, stderr=log
            )
        wait_mounted(self._process, self.path, self.said)
        return time.monotonic() - began

    def settle(self, within: float) -> None:
        """It lists folders when they are asked for."""

    def has_crawled(self) -> bool:
        return True

    def unmount(self) -> None:
        assert self._process is not None
        done = subprocess.run(
            umount_command(self.path), check=False, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise NotMountedError(f"rclone cannot be unmounted: {done.stderr.strip()}")
        self._process.wait(END_WITHIN)
        self._process = None

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        detach(self.path)

    def said(self) -> str:
        return last_lines(self._folder / "rclone.log")


class Bare:
    """A folder by way of FUSE: what programs cost there when nothing else is done."""

    name = BARE
    feed: frozenset[str] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mnt"
        self.cache = folder / "behind"
        self.path.mkdir()
        self.cache.mkdir()
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> float:
        folders = (str(self.cache), str(self.path))
        command = [sys.executable, "-m", "tests.bench.passthrough", *folders]
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        wait_mounted(self._process, self.path, self.said)
        return time.monotonic() - began

    def settle(self, within: float) -> None:
        """It knows all there is."""

    def has_crawled(self) -> bool:
        return True

    def unmount(self) -> None:
        self.close()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        detach(self.path)

    def said(self) -> str:
        return last_lines(self._log)


def wait_mounted(process: subprocess.Popen[bytes], path: Path, said: Callable[[], str]) -> None:
    """Returns when something is mounted on `path`. Raises NotMountedError."""
    deadline = time.monotonic() + READY_WITHIN
    while not is_mounted(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotMountedError(f"nothing was mounted on {path}: {said()}")
        time.sleep(0.005)


def last_lines(log: Path) -> str:
    """The end of a log, in one line."""
    return " / ".join(log.read_text(errors="replace").splitlines()[-2:]) if log.exists() else ""


def find_rclone() -> Path | None:
    """rclone beside the running Python, or on the PATH."""
    places = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    found = shutil.which("rclone", path=places)
    return Path(found) if found else None


def detach(path: Path) -> None:
    """Takes away what is mounted on `path`, whoever serves it or does not any more."""
    while is_mounted(path):
        lazily = ["umount", "-l"] if os.getuid() == 0 else ["fusermount3", "-u", "-z"]
        subprocess.run([*lazily, path], check=True, timeout=10, capture_output=True)


def detach_below(folder: Path) -> None:
    """Takes away all mounts in `folder`, the innermost first."""
    with open("/proc/self/mountinfo") as mounts:
        places = [Path(line.split()[4].replace(r"\040", " ")) for line in mounts]
    for place in reversed(places):
        if place.is_relative_to(folder):
            detach(place)


# ---- What a process has used ----


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_memory(pid: int) -> int:
    """The largest resident size since the start or the last `reset_peak`: bytes.

    Raises ProcessLookupError when the process has ended.
    """
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if match is None:
        raise ProcessLookupError(pid)
    return int(match[1]) * 1024


def reset_peak(pid: int) -> None:
    """The peak is counted from here (proc_pid_clear_refs(5)), where the kernel lets us."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
