"""Reading: one large file, random pieces, a folder of small files, several readers at once.

All contents differ: a cache that knows contents by their hash must not be served the same one
twenty times. What was read is compared with the server's hash where that is not already implied by
the work, after the clock has stopped.
"""

from __future__ import annotations

import base64
import random
import statistics
from pathlib import Path

from tests.bench.contenders import TOP
from tests.bench.figures import MIB, Bound, Work
from tests.bench.groups import Group, Sizes
from tests.bench.stage import Stage, WorkFailedError, remote_tree
from tests.embedded import HOME, Embedded

KIB = 1024
PIECE = 4 * KIB
LINK = HOME["total_mbit"] * 1e6 / 8
"""Bytes a second of the shared link."""
FULL = 0.9 * LINK
ROUND_TRIP = (HOME["round_trip_ms"] + HOME["service_ms"]) / 1000
NEEDLE = "needle-7f3a"
FIRST, SECOND = "many/folder-0000/file-00000.txt", "many/folder-0000/file-00001.txt"
"""The names that the server gives to files that it is asked to make."""
READERS = 8


def prepare_large(server: Embedded, _folder: Path, sizes: Sizes) -> None:
    """One large file."""
    server.populate(f"{TOP}/many", folders=1, files_per_folder=1, size=sizes.large)


def perform_first(stage: Stage, _sizes: Sizes) -> None:
    """The first 4 KiB."""
    stage.start()
    stage.worker()
    stage.measure(
        "first",
        lambda: {"seconds": stage.ask("start", path=stage.path / FIRST, length=PIECE)["seconds"]},
    )


def perform_sequential(stage: Stage, sizes: Sizes) -> None:
    """The whole file: from Dropbox, from the disk, from the kernel."""
    stage.start()
    stage.worker()
    file = stage.path / FIRST

    def read() -> dict[str, float]:
        done = stage.ask("read", path=file)
        if done["bytes"] != sizes.large:
            raise WorkFailedError(f"{done['bytes']} bytes came of {sizes.large}")
        return {"seconds": done["seconds"]}

    stage.measure("sequential", read, size=sizes.large)
    stage.drop_caches(file)
    stage.measure("from disk", read, size=sizes.large)
    stage.ask("read", path=file)
    stage.measure("warm", read, size=sizes.large)
    _compare(stage, file)


def _compare(stage: Stage, file: Path) -> None:
    path = f"/{file.relative_to(stage.path)}"
    _, _, wanted = remote_tree(stage.server)[path]
    if stage.ask("content_hash", path=file)["hash"] != wanted:
        raise WorkFailedError(f"what {stage.contender.name} read of {path} is not what is there")


def prepare_random(server: Embedded, _folder: Path, sizes: Sizes) -> None:
    """A file to read pieces of, and another."""
    server.populate(f"{TOP}/many", folders=1, files_per_folder=2, size=sizes.random)


def perform_random(stage: Stage, sizes: Sizes) -> None:
    """Ten pieces one by one, to see what each costs; then a hundred of the other file."""
    stage.start()
    stage.worker()
    dice = random.Random(4)

    def read(name: str) -> float:
        """A piece from anywhere; the seconds that it took."""
        offset = dice.randrange(sizes.random // PIECE) * PIECE
        done = stage.ask("pread", path=stage.path / name, offset=offset, length=PIECE)
        if done["bytes"] != PIECE:
            raise WorkFailedError(f"{done['bytes']} bytes came of {PIECE}")
        return float(done["seconds"])

    def ten() -> dict[str, float]:
        taken: list[float] = []
        most = before = 0
        for _ in range(10):
            taken.append(read(FIRST))
            now = stage.server.counters()["bytes_out"]
            most, before = max(most, now - before), now
        return {
            "seconds": sum(taken),
            "each_received": most,
            "median_seconds": statistics.median(taken),
            "each_seconds": max(taken),
        }

    stage.measure("ten", ten)
    stage.measure("hundred", lambda: {"seconds": sum(read(SECOND) for _ in range(100))})


def prepare_grep(server: Embedded, _folder: Path, sizes: Sizes) -> None:
    """Files of 8 KiB in ten folders, each with a content of its own; the needle is in one."""
    dice = random.Random(5)
    for folder in range(10):
        edits = []
        for number in range(sizes.grep // 10):
            text = dice.randbytes(3 * KIB).hex()
            text += f"\n{NEEDLE}\n" if folder == 7 and number == 3 else "\n"
            text += "\n" * (8 * KIB - len(text))
            data = base64.b64encode(text.encode()).decode()
            path = f"{TOP}/code/part-{folder}/module_{number:03d}.py"
            edits.append({"op": "write", "path": path, "base64": data})
        server.edit(edits)


def perform_grep(stage: Stage, sizes: Sizes) -> None:
    """Search them all, twice."""
    stage.start()

    def grep() -> dict[str, float]:
        done = stage.run("grep", "-r", "-l", NEEDLE, stage.path / "code")
        if len(done.output.splitlines()) != 1:
            raise WorkFailedError(f"grep found {done.output!r}")
        return {"seconds": done.seconds}

    stage.measure("grep", grep, size=sizes.grep * 8 * KIB)
    stage.measure("grep again", grep, size=sizes.grep * 8 * KIB)


def prepare_eight(server: Embedded, _folder: Path, sizes: Sizes) -> None:
    """Eight files of a middle size."""
    server.populate(f"{TOP}/many", folders=1, files_per_folder=READERS, size=sizes.middle)


def perform_eight(stage: Stage, sizes: Sizes) -> None:
    """Eight programs read them at once."""
    stage.start()
    workers = [stage.worker() for _ in range(READERS)]
    folder = stage.path / Path(FIRST).parent

    def read() -> dict[str, float]:
        for number, worker in enumerate(workers):
            worker.send("read", path=folder / f"file-{number:05d}.txt")
        done = [worker.receive(stage.deadline) for worker in workers]
        if any(one["bytes"] != sizes.middle for one in done):
            raise WorkFailedError("a file came short")
        taken = [one["seconds"] for one in done]
        return {"fairness": min(taken) / max(taken)}

    stage.measure("eight", read, size=READERS * sizes.middle)


def groups(sizes: Sizes) -> list[Group]:
    """The groups of this module."""
    large = f"{sizes.large // MIB} MiB"
    return [
        Group(
            "first",
            (
                Work(
                    "first",
                    f"first 4 KiB of a {large} file",
                    (
                        Bound("seconds", 2 * ROUND_TRIP),
                        Bound("requests", 2),
                        Bound("received", 256 * KIB),
                    ),
                ),
            ),
            prepare_large,
            perform_first,
        ),
        Group(
            "sequential",
            (
                Work("sequential", f"{large} sequential, cold", (Bound("rate", FULL, least=True),)),
                Work(
                    "from disk",
                    "again, kernel caches dropped",
                    (Bound("rate", 400e6, least=True), Bound("requests", 0)),
                ),
                Work("warm", "again, warm", (Bound("rate", 2e9, least=True),)),
            ),
            prepare_large,
            perform_sequential,
        ),
        Group(
            "random",
            (
                Work(
                    "ten",
                    f"10 random 4 KiB reads in {sizes.random // MIB} MiB, cold",
                    (
                        Bound("median_seconds", 1.2 * ROUND_TRIP),
                        Bound("requests", 12),
                        Bound("each_received", 64 * KIB),
                    ),
                ),
                Work(
                    "hundred",
                    "100 of them in another such file",
                    (Bound("seconds", 7), Bound("received", sizes.random)),
                ),
            ),
            prepare_random,
            perform_random,
        ),
        Group(
            "grep",
            (
                Work(
                    "grep",
                    f"`grep -r` over {sizes.grep} × 8 KiB in 10 folders, cold",
                    (Bound("seconds", 4),),
                ),
                Work(
                    "grep again", "`grep -r` again", (Bound("seconds", 0.5), Bound("requests", 0))
                ),
            ),
            prepare_grep,
            perform_grep,
        ),
        Group(
            "eight",
            (
                Work(
                    "eight",
                    f"{READERS} readers, {READERS} files of {sizes.middle // MIB} MiB at once",
                    (Bound("rate", FULL, least=True), Bound("fairness", 0.7, least=True)),
                ),
            ),
            prepare_eight,
            perform_eight,
        ),
    ]
