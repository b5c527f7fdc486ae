"""One file under random reads, writes, truncations and mappings, while the daemon comes and goes.

`fsx` does a number of operations and compares every byte; between two of its runs the daemon is
unmounted, killed or synced, or the kernel's caches are dropped, and nothing may be different.

`DBXFS_FSX_SECONDS` is how long each size of file is worked on; `DBXFS_FSX_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable

import pytest

from tests.mount.mounted import Mounted, drop_kernel_caches, eventually, run

SECONDS = float(os.environ.get("DBXFS_FSX_SECONDS", "14"))
SEED = int(os.environ.get("DBXFS_FSX_SEED", "0")) or random.randrange(1, 2**32)
OPERATIONS = 150
HANGS_AFTER = 60.0 + SECONDS


@pytest.mark.hangs_after(HANGS_AFTER)
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("largest", [30_000, 400_000, 9_000_000])
def test_every_byte_is_what_was_written_whatever_happens_between(
    mounted: Mounted, largest: int
) -> None:
    source = random.Random(SEED + largest)
    until = time.monotonic() + SECONDS
    path, expected = mounted.path / "file", mounted.folder / f"expected-{largest}"
    said: list[str] = [f"DBXFS_FSX_SEED={SEED}"]

    def on_dropbox() -> None:
        assert mounted.sync() == []
        content = expected.read_bytes()
        eventually(lambda: mounted.server.content("/file") == content, 5, "it being on Dropbox")

    def killed() -> None:
        mounted.kill()
        mounted.start()

    def nothing() -> None:
        pass

    betweens: list[Callable[[], object]] = [nothing, on_dropbox, mounted.remount, killed]
    if os.getuid() == 0:
        betweens.append(drop_kernel_caches)
    runs = 0
    while time.monotonic() < until or runs < 2:
        seed = source.randrange(2**32)
        command = (sys.executable, "-m", "tests.mount.fsx", path, expected)
        done = run(*command, str(seed), str(OPERATIONS), str(largest), timeout=HANGS_AFTER)
        assert done.returncode == 0, "\n".join([*said, done.stdout + done.stderr])
        between = source.choice(betweens)
        said.append(f"{OPERATIONS} operations, then {between.__name__}")
        between()
        runs += 1
    on_dropbox()
