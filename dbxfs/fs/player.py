"""The process that carries out operations on the mount (`replay`), as the daemon holds it.

It is started when it is needed for the first time and lives until the mount ends. It can be
stuck in the kernel for as long as some program's request in the same folder goes on: then it is
asked for nothing more until it has answered. It has no descriptor of ours but its pipes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import replay
from .replay import Message

log = logging.getLogger(__name__)

LOOK_EVERY = 0.1
"""Seconds after which whoever waits for an answer looks whether it is still wanted."""
FAILURES = 3
"""Processes that end by themselves before no further one is started."""


class Player:
    """At most one process; used by one thread, but for `end`."""

    def __init__(self, mountpoint: Path, on_pid: Callable[[int | None], None]) -> None:
        """`on_pid` is told its process id before it does anything, and None when it has ended."""
        self._mountpoint = mountpoint
        self._on_pid = on_pid
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = False
        self._failures = 0
        self._ended = False

    @property
    def usable(self) -> bool:
        """Whether it can be given something, or could be started for it."""
        if self._waiting:
            self._read(0.0)
        return not self._waiting and not self._ended and self._failures < FAILURES

    def perform(self, message: Message, device: int, patience: float) -> int | None:
        """The errno with which it ended; None: not within `patience` seconds, or never.

        `device`: of the mount, as of stat(2).
        """
        process = self._process or self._start(device)
        if process is None or process.stdin is None:
            return None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            self._lost()
            return None
        self._waiting = True
        deadline = time.monotonic() + patience
        while not self._ended:
            left = deadline - time.monotonic()
            code = self._read(min(LOOK_EVERY, max(0.0, left)))
            if code is not None or not self._waiting or left <= 0:
                return code
        return None

    def end(self) -> None:
        """Kill it, from any thread, and do not wait: it may be stuck until the mount is gone."""
        self._ended = True
        process = self._process
        if process is not None:
            process.kill()

    def reap(self) -> None:
        """The mount is gone: nothing holds it any more."""
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)

    def _start(self, device: int) -> subprocess.Popen[bytes] | None:
        program = [sys.executable, "-I", "-S", replay.__file__]
        command = [*program, str(self._mountpoint), str(device)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.warning("watchers are not told of changes made elsewhere: %s", error)
            self._failures = FAILURES
            return None
        self._on_pid(self._process.pid)
        if self._ended:
            self._process.kill()
        return self._process

    def _read(self, seconds: float) -> int | None:
        """The answer, if it comes in time."""
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        answer = os.read(descriptor, 100)
        if not answer:
            self._lost()
            return None
        self._waiting = False
        return int(answer) if answer.strip().isdigit() else errno.EIO

    def _lost(self) -> None:
        """It ended by itself."""
        process, self._process = self._process, None
        self._waiting = False
        self._failures += 1
        if process is not None and not self._ended:
            # All that it asked for is answered by then, and its id is free for others.
            status = process.wait()
            self._on_pid(None)
            log.warning("what tells watchers of changes ended with %d", status)
