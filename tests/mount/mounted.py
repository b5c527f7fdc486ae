"""One mounted Dropbox for a test: the embedded server, the daemon as a child, and its mount point.

The daemon is a process like a user's: its own folders, its own log, killed and started again at
will. What it mounts can hang, and a thread that hangs in a system call cannot be interrupted from
Python. So each test runs under a `Watchdog` that aborts the daemon when the time is over: the
kernel then fails every call that waits for it, and a hang becomes an error of that one test, with
the daemon's stacks in its log.

Rejected: every access by way of a child process. It is right for programs, mappings and whatever
else holds the interpreter while it waits, and five times as slow for the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dbxfs.cli.socket import ask
from tests.embedded import Embedded

T = TypeVar("T")

READY_WITHIN = 20.0
END_WITHIN = 15.0
FAILURE = 32
"""The exit status of a mount that was not made (mount(8))."""
SYNC_WITHIN = 30.0
FRESH_WITHIN = 1.5
"""Seconds in which an edit made elsewhere must be seen in the mount."""

FEED = frozenset(
    {
        "files/list_folder/continue",
        "files/list_folder/longpoll",
        "users/get_current_account",
        "users/get_space_usage",
    }
)
"""What is asked only to stay up to date, without waiting for it: its number depends on timing."""

UMOUNT = (sys.executable, "-c", "from dbxfs.cli.umount import main; main()")
"""umount.dbxfs, in the Python that runs the tests."""

_TROUBLE = re.compile(r"(\S+ \S+ )?(WARNING|ERROR|CRITICAL)\b|Traceback|Fatal Python|\s+raise ")


def eventually(
    condition: Callable[[], T], within: float = FRESH_WITHIN, what: str = "the condition"
) -> T:
    """The first truthy value of `condition`; AssertionError when there is none in time (seconds).

    An OSError counts as not yet: a name may just be on its way.
    """
    deadline = time.monotonic() + within
    while True:
        value: Any
        try:
            value = condition()
        except OSError as error:
            value, last = None, repr(error)
        else:
            last = repr(value)
        if value:
            return value  # type: ignore[no-any-return]
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within:g} s; last: {last}")
        time.sleep(0.005)


@contextlib.contextmanager
def refused(*errnos: int) -> Iterator[None]:
    """What is done within must fail with one of these errnos."""
    try:
        yield
    except OSError as error:
        if error.errno in errnos:
            return
        raise AssertionError(f"it was refused with {error!r}") from error
    names = " or ".join(errno.errorcode[code] for code in errnos)
    raise AssertionError(f"it was not refused with {names}")


class DaemonFailedError(AssertionError):
    """The mount was not made; carries the exit status and what the daemon said."""

    def __init__(self, status: int | None, said: str) -> None:
        super().__init__(f"the daemon ended with {status}: {said}")
        self.status = status
        self.said = said


class Mounted:
    """A server and a mount of it; `path` is the mount point, `server` its control interface."""

    def __init__(
        self,
        folder: Path,
        server: Embedded,
        options: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> None:
        """Nothing is mounted yet.

        `folder` is the test's own and gets everything. `options`: further mount options.
        `command` goes before the interpreter (to run it as another user).
        """
        self.folder = folder
        self.server = server
        self.path = folder / "mnt"
        self.state = folder / "state"
        self.cache = folder / "cache"
        self.options = list(options)
        self.command = tuple(command)
        self.process: subprocess.Popen[bytes] | None = None
        self.announced: list[re.Pattern[str]] = []
        self.hung = False
        self._log = folder / "daemon.log"
        self._log_start = 0
        self.path.mkdir(exist_ok=True)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the daemon and of the commands: its own home, the account's token."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DBXFS_", "XDG_", "GIT_"))
        }
        folders = {
            f"XDG_{kind.upper()}_HOME": str(self.folder / "xdg" / kind)
            for kind in ("config", "state", "cache", "data", "runtime")
        }
        return {
            **kept,
            **folders,
            "HOME": str(self.folder),
            "DBXFS_ACCESS_TOKEN": self.server.token,
            "PYTHONFAULTHANDLER": "1",
        }

    # ---- The daemon ----

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None, "no daemon is running"
        return self.process.pid

    def arguments(self, *more: str, foreground: bool = True) -> list[str]:
        """The command that mounts it."""
        options = [
            f"api_url={self.server.url}",
            f"state_dir={self.state}",
            f"cache_dir={self.cache}",
            *self.options,
        ]
        return [
            *self.command,
            sys.executable,
            "-m",
            "dbxfs.cli.mount",
            *(["-f"] if foreground else []),
            "none",
            str(self.path),
            "-o",
            ",".join(options),
            *more,
        ]

    def start(self, *more: str) -> None:
        """Mount in the foreground and wait until it answers. Raises DaemonFailedError."""
        self.launch(*more)
        self.wait_ready()

    def launch(self, *more: str) -> None:
        """Start the daemon and do not wait."""
        assert self.process is None, "the daemon is running already"
        self._ready_at = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments(*more), env=self.env, cwd=self.folder, stdout=log, stderr=log
            )

    def wait_ready(self, within: float = READY_WITHIN) -> None:
        """Return when the mount answers. Raises DaemonFailedError."""
        deadline = time.monotonic() + within
        while " answers\n" not in (said := self._said_since(self._ready_at)):
            assert self.process is not None
            status = self.process.poll()
            if status is not None:
                self.process = None
                raise DaemonFailedError(status, said)
            if time.monotonic() > deadline:
                self.kill()
                raise DaemonFailedError(None, f"no answer within {within:g} s\n{said}")
            time.sleep(0.005)

    def kill(self) -> None:
        """Kill the daemon without warning and take its dead mount away."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(END_WITHIN)
            self.process = None
        self.detach()

    def abort(self) -> None:
        """End a daemon that hangs; it writes its stacks into the log."""
        self.hung = True
        if self.process is not None:
            self.process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
            self.process.kill()

    def terminate(self) -> int:
        """SIGTERM; returns the daemon's exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.wait_end()

    def wait_end(self, within: float = END_WITHIN) -> int:
        """The exit status of the daemon, which must end in time."""
        assert self.process is not None
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.abort()
            raise AssertionError(f"the daemon did not end\n{self.log()}") from None
        self.process = None
        return status

    def unmount(self) -> None:
        """Plain umount(8); the daemon must end well, at once."""
        done = run(*umount_command(self.path))
        assert done.returncode == 0, done.stderr
        status = self.wait_end()
        assert status == 0, f"the daemon ended with {status}\n{self.log()}"

    def remount(self, *more: str) -> None:
        """Unmount, if it is mounted, and mount again with the same state."""
        if self.process is not None:
            self.unmount()
        self.start(*more)

    def detach(self) -> None:
        """Take away what is left of the mount, whoever holds it."""
        while is_mounted(self.path):
            lazily = ["umount", "-l"] if os.getuid() == 0 else ["fusermount3", "-u", "-z"]
            subprocess.run([*lazily, self.path], check=True, timeout=10, capture_output=True)

    def close(self) -> None:
        """Leave nothing behind: neither process nor mount."""
        self.kill()

    # ---- Questions to the daemon ----

    def ask(self, command: str, within: float, **options: object) -> dict[str, Any]:
        """The last reply to a command on the daemon's socket."""
        deadline = time.monotonic() + within
        reply: dict[str, Any] = {}
        for reply in ask(self.state / "socket", command, within, **options):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{command!r} takes longer than {within:g} s: {reply}")
        return reply

    def sync(self, within: float = SYNC_WITHIN) -> list[dict[str, str]]:
        """Wait until both sides agree; returns what Dropbox refused."""
        errors: list[dict[str, str]] = self.ask("sync", within)["errors"]
        return errors

    def status(self) -> dict[str, Any]:
        """What `dbxfs status --json` tells."""
        return self.ask("status", 10)

    def check(self, **options: bool) -> dict[str, Any]:
        """What `dbxfs check --json` tells; `repair`, `full`."""
        return self.ask("check", 60, **options)

    def dbxfs(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """One of the `dbxfs` commands, as a process of its own."""
        return run(
            sys.executable, "-m", "dbxfs.cli.main", *arguments, env=self.env, timeout=timeout
        )

    def peak_memory(self) -> int:
        """The largest resident size that the daemon ever had: bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert match is not None
        return int(match[1]) * 1024

    def processor_seconds(self) -> float:
        """How long the daemon has been at work, which does not tell how busy the machine is."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def requests(self, *, ignoring: frozenset[str] = FEED) -> Iterator[dict[str, int]]:
        """Fills the dict that it gives with the requests made within, less the feed's."""
        self.server.reset_counters()
        made: dict[str, int] = {}
        yield made
        for route, count in self.server.counters()["requests"].items():
            if route not in ignoring:
                made[route] = count

    # ---- The log ----

    def log(self) -> str:
        """What the daemon wrote since the test began."""
        return self._said_since(self._log_start)

    def log_mark(self) -> None:
        """The test begins here."""
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self.announced = []

    def announce(self, *patterns: str) -> None:
        """Log lines of trouble that this test provokes: regular expressions, searched for."""
        self.announced += [re.compile(pattern) for pattern in patterns]

    def trouble(self) -> list[str]:
        """Lines of trouble that nobody announced."""
        return [
            line
            for line in self.log().splitlines()
            if _TROUBLE.match(line) and not any(known.search(line) for known in self.announced)
        ]

    def _said_since(self, start: int) -> str:
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")


class Watchdog:
    """Aborts the daemon of a test that takes too long."""

    def __init__(self, mounted: Mounted, seconds: float) -> None:
        self._timer = threading.Timer(seconds, mounted.abort)
        self._timer.daemon = True

    def __enter__(self) -> Watchdog:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def is_mounted(path: Path) -> bool:
    """Whether something is mounted on `path`, without touching it."""
    wanted = str(path).replace(" ", r"\040")
    with open("/proc/self/mountinfo") as mounts:
        return any(line.split()[4] == wanted for line in mounts)


def umount_command(path: Path) -> list[str]:
    """The plain way to unmount for whoever runs the tests."""
    return ["umount", str(path)] if os.getuid() == 0 else ["fusermount3", "-u", str(path)]


def needs(program: str) -> pytest.MarkDecorator:
    """Skips a test where the program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30,
    input: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, at most `timeout` seconds."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        timeout=timeout,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        check=False,
    )


def works(
    *command: str | Path,
    cwd: Path | None = None,
    timeout: float = 30,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program that must succeed; returns what it printed."""
    done = run(*command, cwd=cwd, timeout=timeout, input=input, env=env)
    assert done.returncode == 0, f"{command} gave {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def python(source: str, *arguments: str | Path, timeout: float = 30) -> str:
    """Run a Python program that must succeed; returns what it printed."""
    return works(sys.executable, "-c", source, *arguments, timeout=timeout)


def drop_kernel_caches() -> None:
    """Make the kernel forget dentries, inodes and pages that nobody uses. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def ensure_running(server: Embedded) -> None:
    """Start the server, if it was stopped."""
    try:
        _ = server.pid
    except RuntimeError:
        server.start()


def run_in_background(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start it in a thread; the function returned waits for its result, None if it failed."""
    result: list[Any] = []

    def guarded() -> None:
        try:
            result.append(work())
        except Exception:  # noqa: BLE001
            result.append(None)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(60)
        assert result, "it never ended"
        return result[0]

    return wait
