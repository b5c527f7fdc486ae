"""Two programs at work on two trees of the mount, while the daemon comes and goes.

Each does random operations (`fsstress`) in a folder of its own and checks them against a model; in
the second folder names come in any case. Between two runs the daemon is unmounted, killed or
synced, or the kernel's caches are dropped, and nothing may be different.

`DBXFS_FSSTRESS_SECONDS` is how long it goes on; `DBXFS_FSSTRESS_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted, drop_kernel_caches

SECONDS = float(os.environ.get("DBXFS_FSSTRESS_SECONDS", "40"))
SEED = int(os.environ.get("DBXFS_FSSTRESS_SEED", "0")) or random.randrange(1, 2**32)
OPERATIONS = 300
HANGS_AFTER = 90.0 + SECONDS
FOLDERS = {"exact": (), "any case": ("spellings",)}


@pytest.mark.hangs_after(HANGS_AFTER)
@pytest.mark.timeout(SECONDS + 150)
def test_every_operation_on_the_tree_ends_as_it_should_whatever_happens_between(
    mounted: Mounted,
) -> None:
    source = random.Random(SEED)
    until = time.monotonic() + SECONDS
    said: list[str] = [f"DBXFS_FSSTRESS_SEED={SEED}"]
    for name in FOLDERS:
        (mounted.path / name).mkdir()

    def on_dropbox() -> None:
        assert mounted.sync() == [], said
        assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == [], said

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
        started = [start(mounted, name, source.randrange(2**32)) for name in FOLDERS]
        for program in started:
            told, _ = program.communicate(timeout=HANGS_AFTER)
            assert program.returncode == 0, "\n".join([*said, told])
        between = source.choice(betweens)
        said.append(f"{OPERATIONS} operations, then {between.__name__}")
        between()
        runs += 1
    on_dropbox()


def start(mounted: Mounted, name: str, seed: int) -> subprocess.Popen[str]:
    """One run in one of the folders."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.mount.fsstress"),
            *(mounted.path / name, mounted.folder / f"{name}.model", str(seed), str(OPERATIONS)),
            *FOLDERS[name],
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
