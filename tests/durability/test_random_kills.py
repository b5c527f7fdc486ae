"""SIGKILL of the daemon at random requests of random work, many times: nothing lost, nothing twice.

The work is that of the differential test, over very few names, so that the same files and folders
are written, replaced, renamed and removed again and again. It goes on while a request is held, so
that what is under way is changed before the kill, and what the request did is a surprise for the
daemon that comes back.

DBXFS_KILLS says how many kills, DBXFS_SEED where the seeds begin. A failed run prints its seed and
all that was done in it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.durability.ambush import KILLS, MIB, MOMENTS, WRITES, Operation, Twins, hold, wait_held
from tests.mount.mounted import Mounted
from tests.mount.test_random import Chooser

SEED = int(os.environ.get("DBXFS_SEED", "0"))
A_RUN = 12
"""Kills of one run, which begins with nothing."""

pytestmark = [pytest.mark.timeout(150), pytest.mark.hangs_after(120)]


def random_work(source: random.Random, chooser: Chooser) -> tuple[str, Operation]:
    """One operation, now and then one that needs an upload session."""
    if source.random() < 0.06:
        path, data = chooser.path(), source.randbytes(5 * MIB)
        return f"write {path}, large", lambda root: (root / path).write_bytes(data)
    return chooser.operation()


@pytest.mark.parametrize("seed", range(SEED, SEED + -(-KILLS // A_RUN)))
def test_random_kills_of_random_work_lose_nothing_and_do_nothing_twice(
    mounted: Mounted, tmp_path: Path, seed: int
) -> None:
    twins, source = Twins(mounted, tmp_path), random.Random(seed)
    chooser = Chooser(source)

    def work(most: int) -> None:
        for _ in range(source.randint(1, most)):
            said, operation = random_work(source, chooser)
            print(said)
            twins.do(operation)

    for _ in range(A_RUN):
        moment = source.choice(("at once", *MOMENTS))
        if moment != "at once":
            hold(mounted, moment, WRITES, source.choices(range(4), k=len(WRITES)))
        work(8)
        if moment != "at once":
            route = wait_held(mounted, hurry=True)
            print(f"--- held {moment} {route}")
            if source.random() < 0.5:
                work(3)
        print("--- kill")
        twins.kill_and_start()
        twins.check_local()
        if source.random() < 0.4:
            print("--- sync")
            twins.settle()
    twins.settle()
