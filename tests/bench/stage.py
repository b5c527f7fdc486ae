"""One contender at work: the clock, the counters and the limits around each piece of it.

Everything that touches the mount is another process (a program, or `worker`), with a deadline after
which it is killed. So the bench itself never hangs and can always clean up.

"Dropbox has all" is found by comparing the server's tree with what is to be there, again and again;
nothing waits for a fixed time. The pauses between the looks grow with what a look costs, so that
looking is never more than a fifth of the server's work.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.contenders import (
    TOP,
    Contender,
    NotMountedError,
    cpu_seconds,
    peak_memory,
    reset_peak,
)
from tests.bench.figures import Figure
from tests.embedded import Embedded
from tests.mount.mounted import drop_kernel_caches

ROOT = Path(__file__).parent.parent.parent
QUIET = 0.3
"""Seconds without a request that mean that a piece of work is over on the network, too."""
QUIET_WITHIN = 15.0
NO_DEADLINE = 3600.0

Tree = dict[str, tuple[str, int | None, str | None]]
"""By path: kind, size in bytes, content hash."""


class LimitReachedError(Exception):
    """It took longer than it may. `measures`: what is known all the same."""

    def __init__(self, measures: Mapping[str, float] | None = None) -> None:
        super().__init__("it took longer than it may")
        self.measures = dict(measures or {})


class WorkFailedError(Exception):
    """A program failed, or what it read is not what is there."""


class StageOverError(Exception):
    """The rest of the group cannot be measured with this contender; its figure says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """A program's run: `seconds`, and what it printed."""

    seconds: float
    output: str


class Worker:
    """A process of `tests.bench.worker`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._pending = b""

    def send(self, do: str, **arguments: object) -> None:
        """Sets it to work; `receive` waits."""
        assert self._process.stdin is not None
        line = json.dumps({"do": do, **arguments}, default=str) + "\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()

    def receive(self, deadline: float) -> dict[str, Any]:
        """The reply. Raises LimitReachedError, WorkFailedError."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise LimitReachedError
            piece = os.read(fd, 1 << 20)
            if not piece:
                raise WorkFailedError("the reading program ended")
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkFailedError(reply["error"])
        return reply

    def has_answered(self) -> bool:
        """Whether `receive` would not wait."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], 0)
        return b"\n" in self._pending or bool(readable)

    def close(self) -> None:
        """Ends it, even in the middle of a read."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()


class Stage:
    """A contender on a server.

    `source`: a local folder with what there is to copy. `limit`: seconds for one piece of work.
    `faults`: what goes wrong on the server while a clock runs. `variant` goes behind the names of
    all works.
    """

    def __init__(
        self,
        contender: Contender,
        server: Embedded,
        source: Path,
        limit: float,
        report: Callable[[Figure], None],
        faults: Sequence[Mapping[str, Any]] = (),
        variant: str = "",
    ) -> None:
        self.contender = contender
        self.server = server
        self.source = source
        self.limit = limit
        self.deadline = time.monotonic() + NO_DEADLINE
        self._report = report
        self._faults = faults
        self._variant = variant
        self._workers: list[Worker] = []

    @property
    def path(self) -> Path:
        """Where the account's folder TOP is shown."""
        return self.contender.path

    # ---- The contender ----

    def start(self, *, settled: bool = True) -> float:
        """Mounts; with `settled` returns when it knows the tree. The seconds of mounting."""
        took = self.contender.start()
        if settled:
            self.settle()
        return took

    def settle(self) -> None:
        """Returns when it has nothing left to do. Raises TimeoutError, NotMountedError."""
        left = self.deadline - time.monotonic()
        self.contender.settle(max(1.0, min(self.limit, left)))
        self.quiet()

    def close(self) -> None:
        """Ends the programs, then the contender."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        self.contender.close()

    def drop_caches(self, *paths: Path) -> None:
        """Has the kernel forget what it keeps: as root everything, else pages of `paths`."""
        if os.getuid() == 0:
            drop_kernel_caches()
            return
        for path in (*paths, self.contender.cache):
            self.ask("forget", path=path)

    # ---- Programs ----

    def run(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Runs a program that must succeed. Raises LimitReachedError, WorkFailedError."""
        return run_program(self.deadline, *command, cwd=cwd, env=env)

    def worker(self) -> Worker:
        """One more worker; ends with the stage."""
        worker = Worker()
        self._workers.append(worker)
        worker.send("forget", path=os.devnull)
        worker.receive(time.monotonic() + NO_DEADLINE)
        return worker

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Has the stage's first worker do something and waits for it."""
        worker = self._workers[0] if self._workers else self.worker()
        worker.send(do, **arguments)
        return worker.receive(self.deadline)

    # ---- Measuring ----

    def measure(
        self,
        work: str,
        do: Callable[[], dict[str, float] | None],
        *,
        arrives: Callable[[], bool] | None = None,
        size: int = 0,
        ignoring: tuple[str, ...] = (),
    ) -> Figure:
        """Does a piece of work and reports its figure.

        `do` returns further measures, or `seconds` that it took itself. `arrives` says whether
        Dropbox has all. `size`: bytes, for the rate and the CPU time per MB. With `ignoring`,
        requests to routes that begin so are not counted, and what they belong to is not waited for.
        Raises StageOverError when the limit is reached or it fails.
        """
        measures: dict[str, float] = {}
        with self._limited(work, measures):
            self._work(measures, do, arrives, size, ignoring)
        figure = Figure(self._name(work), self.contender.name, measures, self._routes())
        self._report(figure)
        return figure

    def beforehand(self, work: str, do: Callable[[], object], *, settled: bool = False) -> None:
        """Does what `work` needs to be done before; with `settled` until Dropbox has it.

        Raises StageOverError as `measure` does.
        """
        with self._limited(work, {}):
            do()
            if settled:
                self.settle()

    @contextlib.contextmanager
    def _limited(self, work: str, measures: dict[str, float]) -> Iterator[None]:
        self.deadline = time.monotonic() + self.limit
        try:
            yield
        except (LimitReachedError, TimeoutError) as error:
            if isinstance(error, LimitReachedError):
                measures |= error.measures
            figure = Figure(
                self._name(work), self.contender.name, measures, self._routes(), over=self.limit
            )
            self._report(figure)
            raise StageOverError from None
        except (WorkFailedError, NotMountedError) as error:
            failed = self.why(error)
            self._report(Figure(self._name(work), self.contender.name, failed=failed))
            raise StageOverError from None
        finally:
            self.deadline = time.monotonic() + NO_DEADLINE
            self.server.faults()

    def _name(self, work: str) -> str:
        return f"{work} {self._variant}" if self._variant else work

    def why(self, error: Exception) -> str:
        """What went wrong, with the end of the contender's log."""
        return f"{str(error) or type(error).__name__} [{self.contender.said()}]"

    def _work(
        self,
        measures: dict[str, float],
        do: Callable[[], dict[str, float] | None],
        arrives: Callable[[], bool] | None,
        size: int,
        ignoring: tuple[str, ...],
    ) -> None:
        pid = self.contender.pid
        reset_peak(pid)
        self.server.faults(self._faults)
        self.server.reset_counters()
        cpu = cpu_seconds(pid)
        try:
            began = time.monotonic()
            found = do() or {}
            ended = time.monotonic()
            measures |= {"seconds": ended - began} | found
            if arrives is not None:
                self.until(arrives)
                arrived = time.monotonic()
                measures |= {"arrived": arrived - began, "lag": arrived - ended}
            if not ignoring:
                # What is sent a while after the program's end belongs to it.
                self.settle()
        finally:
            # Of what was given up, too; of a contender that has ended nothing is known.
            with contextlib.suppress(OSError):
                measures |= {"cpu": cpu_seconds(pid) - cpu, "peak": peak_memory(pid)}
            measures |= self._traffic(ignoring)
        if size:
            measures["rate"] = size / measures.get("arrived", measures["seconds"])
            measures["cpu_per_mb"] = measures["cpu"] / (size / 1e6)

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` is true. Raises LimitReachedError."""
        while True:
            began = time.monotonic()
            if condition():
                return
            took = time.monotonic() - began
            self.check_deadline()
            time.sleep(max(0.01, 4 * took))

    def check_deadline(self) -> None:
        """Raises LimitReachedError when the time for this piece of work is over."""
        if time.monotonic() > self.deadline:
            raise LimitReachedError

    def quiet(self) -> None:
        """Returns when nothing but the feed has gone over the network for a moment."""
        last, since = self._moved(), time.monotonic()
        deadline = since + QUIET_WITHIN
        while time.monotonic() < min(since + QUIET, deadline):
            time.sleep(0.05)
            now = self._moved()
            if now != last:
                last, since = now, time.monotonic()

    def _moved(self) -> tuple[int, int]:
        counters = self.server.counters()
        others = (
            count
            for route, count in counters["requests"].items()
            if route not in self.contender.feed
        )
        # A page of changes is some kilobytes; what is downloaded or sent is more.
        return sum(others), (counters["bytes_in"] + counters["bytes_out"]) // 65536

    def _routes(self) -> dict[str, int]:
        requests: dict[str, int] = self.server.counters()["requests"]
        return requests

    def _traffic(self, ignoring: tuple[str, ...]) -> dict[str, float]:
        counters = self.server.counters()
        feed = requests = 0
        for route, count in counters["requests"].items():
            if route in self.contender.feed:
                feed += count
            elif not route.startswith(ignoring):
                requests += count
        return {
            "requests": requests,
            "feed": feed,
            "sent": counters["bytes_in"],
            "received": counters["bytes_out"],
        }


def run_program(
    deadline: float,
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Runs a program that must succeed. Raises LimitReachedError, WorkFailedError."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            status = process.wait(max(0.0, deadline - began))
        except subprocess.TimeoutExpired:
            raise LimitReachedError from None
        finally:
            took = time.monotonic() - began
            if process.poll() is None:
                process.kill()
                process.wait()
        if status:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()[-500:]
            raise WorkFailedError(f"{command[0]} ended with {status}: {said}")
        output.seek(0)
        return Done(took, output.read().decode(errors="replace"))


def remote_tree(server: Embedded) -> Tree:
    """What the server holds below TOP, by path from there."""
    return {
        entry["path"].removeprefix(TOP): (entry["kind"], entry["size"], entry["content_hash"])
        for entry in server.tree(TOP)
    }
