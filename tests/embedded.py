"""The embedded Dropbox as its own process, for tests and benches.

    with embedded_dropbox(tmp_path / "account") as server:
        server.edit([{"op": "write", "path": "/a.txt", "text": "hello"}])

A process of its own, not a task of the test: the client under test must not share an event loop, a
clock or a memory measurement with the other end, and must be able to lose it (`stop`, `start`).
The process ends with the test: it holds the reading end of a pipe whose writing end is ours, so
even a killed test run leaves none behind.

Every call here goes to the control routes ("edits made elsewhere", faults, network profile,
counters), which the server never counts, delays or faults. The calls block; they are meant for
test code, where a round trip to the loopback is short.

Rejected: the application under `httpx.ASGITransport` (no real connections to reset or to pace;
right for unit tests of the API layer, which do not need this module), and a fixed port (two test
runs on one machine).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

READY_WITHIN = 20.0
"""Seconds that the server has to print its address."""

END_WITHIN = 10.0
"""Seconds that the server has to end once its lifeline is closed."""

HOME = {
    "round_trip_ms": 60,
    "service_ms": 40,
    "commit_ms": 60,
    "connection_mbit": 200,
    "total_mbit": 500,
}
"""The network profile "home", in which the peers were measured: `server.network(**HOME)`."""


class NotReadyError(Exception):
    """The embedded server did not come up; the message carries what it wrote to stderr."""


class Embedded:
    """One embedded Dropbox: where it is, who may come in, and its control routes.

    `url` is http://127.0.0.1:PORT, the same after `restart`. `token` is an access token of the
    demo account, `refresh_token` and `app_key` get a new one from /oauth2/token.
    """

    url: str
    token: str
    refresh_token: str
    app_key: str

    def __init__(self, data: Path, args: Sequence[str] = (), command: Sequence[str] = ()) -> None:
        """Nothing is started yet. `command` goes before the interpreter (a namespace wrapper)."""
        self.data = data
        self._args = tuple(args)
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # A connection for each call: one that was idle may be closed just when it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(timeout=60, trust_env=False, limits=limits)
        self._port = 0

    # the process

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError when it is not running."""
        if self._process is None:
            raise RuntimeError("the embedded server is not running")
        return self._process.pid

    def start(self) -> None:
        """Starts the server and waits until it listens. Raises NotReadyError."""
        if self._process is not None:
            raise RuntimeError("the embedded server is already running")
        port = ("--port", str(self._port)) if self._port else ()
        self._process = subprocess.Popen(
            [
                *self._command,
                sys.executable,
                "-m",
                "dbxfs.demo",
                "--data",
                str(self.data),
                "--lifeline",
                *port,
                *self._args,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            greeting = json.loads(first_line(self._process))
        except (ValueError, EOFError, TimeoutError) as error:
            self.stop()
            raise NotReadyError(
                f"the embedded Dropbox did not start: {error}\n{self.log()}"
            ) from None
        self.url = greeting["url"]
        self.token = greeting["token"]
        self.refresh_token = greeting["refresh_token"]
        self.app_key = greeting["app_key"]
        self._port = urlsplit(self.url).port or 0

    def stop(self) -> None:
        """Closes the lifeline and waits for the end; kills what does not end. May be repeated."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            process.stdout.close()

    def close(self) -> None:
        """Stops the server for good."""
        self.stop()
        self._http.close()
        self._log.close()

    def kill(self) -> None:
        """Ends the server at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def restart(self) -> None:
        """Stops and starts the server on the same data and the same port."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What the server has written to stderr so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    # the control routes

    def control(self, path: str, body: Any = None) -> Any:
        """Calls the control route `path` ("network"): GET without a body, POST with one.

        Returns the decoded JSON, None for an empty reply. Raises AssertionError with the server's
        own words when it refuses.
        """
        reply = self._call(path, body)
        return reply.json() if reply.content else None

    def edit(self, ops: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Makes edits as another client of the account would; returns the resulting metadata."""
        result: list[dict[str, Any]] = self.control("edit", list(ops))
        return result

    def tree(self, path: str = "") -> list[dict[str, Any]]:
        """Everything below `path`, sorted by display path, as the account holds it."""
        result: list[dict[str, Any]] = self._call("tree", params={"path": path}).json()
        return result

    def paths(self, path: str = "") -> list[str]:
        """The display paths of everything below `path`, sorted."""
        return [entry["path"] for entry in self.tree(path)]

    def content(self, path: str) -> bytes:
        """The bytes of the file at `path`, as the account holds them."""
        return self._call("content", params={"path": path}).content

    def counters(self) -> dict[str, Any]:
        """Requests by route, their total, and body bytes in and out since the last reset."""
        result: dict[str, Any] = self.control("counters")
        return result

    def reset_counters(self) -> None:
        """Sets all counters to nought."""
        self.control("counters/reset", {})

    def faults(self, faults: Sequence[Mapping[str, Any]] = ()) -> None:
        """Replaces all faults; called without any, the server behaves again."""
        self.control("faults", list(faults))

    def network(self, **profile: float) -> None:
        """Sets the network profile; keys left out mean no delay and no limit."""
        self.control("network", profile)

    def populate(self, path: str, folders: int, files_per_folder: int, size: int = 1024) -> None:
        """Makes `folders` × `files_per_folder` files of `size` bytes below `path`."""
        self.control(
            "populate",
            {
                "path": path,
                "folders": folders,
                "files_per_folder": files_per_folder,
                "size": size,
            },
        )

    def _call(
        self, path: str, body: Any = None, params: Mapping[str, str] | None = None
    ) -> httpx.Response:
        method = "GET" if body is None else "POST"
        reply = self._http.request(method, f"{self.url}/control/{path}", json=body, params=params)
        assert reply.is_success, f"control/{path}: {reply.status_code} {reply.text}"
        return reply


@contextlib.contextmanager
def embedded_dropbox(data: Path, *args: str, command: Sequence[str] = ()) -> Iterator[Embedded]:
    """A running embedded Dropbox that keeps its account under `data`.

    `args` are further arguments of `python -m dbxfs.demo` ("--populate"). Raises NotReadyError.
    """
    server = Embedded(data, args, command)
    server.start()
    try:
        yield server
    finally:
        server.close()


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    """The first line that a process just started prints. Raises EOFError, TimeoutError."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    deadline = time.monotonic() + READY_WITHIN
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError(f"no address within {READY_WITHIN:g} seconds")
        chunk = os.read(fd, 4096)
        if not chunk:
            raise EOFError(f"it ended with status {process.wait(END_WITHIN)}")
        line += chunk
    return line
