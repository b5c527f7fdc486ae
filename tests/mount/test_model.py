"""A real mount in the hands of a state machine: whatever happens, nothing accepted is lost.

Programs, somebody elsewhere, the network, the daemon's end by SIGKILL and its restarts take turns
over names so few that they collide. Whenever both sides have been brought together:

* what was accepted exists, and nothing exists that nobody wrote (`model.Ledger`);
* the mount and Dropbox hold the same tree, nothing is pending or staged, the log has no trouble
  that was not provoked; where nobody edited elsewhere it is the tree that the operations make of
  the one before (`model.Reference`), each thing once;
* a conflicted copy has a name that both sides have touched.

`DBXFS_MODEL` examples of `DBXFS_STEPS` steps are run, but none begins after `DBXFS_MODEL_SECONDS`.
`DBXFS_MODEL_SEED` repeats the choices of a run; the daemon's timing is its own, so a failure tells
its history besides. What was found is pinned in `test_regressions`.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    run_state_machine_as_test,
)

from dbxfs.core.names import fold
from tests.embedded import Embedded
from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.machine import NAMES, PICK, Machine, step
from tests.mount.model import Reference
from tests.mount.mounted import Watchdog, ensure_running, eventually

EXAMPLES = int(os.environ.get("DBXFS_MODEL", "60"))
STEPS = int(os.environ.get("DBXFS_STEPS", "25"))
SECONDS = float(os.environ.get("DBXFS_MODEL_SECONDS", "90"))
SEED = int(os.environ.get("DBXFS_MODEL_SEED", "0")) or random.randrange(1, 2**32)
SHRINK_SECONDS = 400
HANGS_AFTER = 100.0

COPY = " (conflicted copy"


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=[p for p in Phase if p is not Phase.shrink or "DBXFS_MODEL_NO_SHRINK" not in os.environ],
    suppress_health_check=list(HealthCheck),
)


class Model(Machine):
    """One mount from its first start to its last sync."""

    @initialize(count=st.integers(0, 4), pick=PICK, names=st.lists(NAMES, min_size=4, max_size=4))
    def begin(self, count: int, pick: int, names: list[str]) -> None:
        if self.over:
            return
        for at in range(count):
            folder = f"/{names[at - 1]}/" if pick >> at & 1 and at else "/"
            content = self.ledger.fresh(at)
            with self.told(f"at first {folder}{names[at]} has {content!r}"), self.edit() as there:
                there.write(f"{folder}{names[at]}", content, self.ledger)
        with self.told("mount"):
            self.watchdog = Watchdog(self.mounted, HANGS_AFTER)
            self.watchdog.__enter__()
            self.mounted.start()
            self.agree()

    # ---- Both sides come together ----

    @step()
    def both_sides_come_together(self) -> None:
        with self.told("agree"):
            self.agree()

    def agree(self) -> None:
        """Bring both sides together and look at everything."""
        mounted = self.mounted
        ensure_running(self.server)
        self.server.faults()
        self.server.network()
        errors = mounted.sync(60)
        assert errors == [], f"Dropbox refused: {errors}"
        assert mounted.status()["pending"] == 0
        remote = remote_tree(self.server)
        with contextlib.suppress(AssertionError):
            # The kernel is told by a thread of its own.
            eventually(lambda: not difference(local_tree(mounted.path), remote), 1)
        assert difference(local_tree(mounted.path), remote) == []
        eventually(lambda: not self.staged_for_nobody(), 1, "staging being empty")
        assert mounted.trouble() == []
        contents = {
            path: None if kind == "folder" else self.ledger.known(str(content_hash))
            for path, (kind, _, content_hash) in remote.items()
        }
        self.each_thing_is_there_once(contents)
        lost = self.ledger.settle(content for content in contents.values() if content is not None)
        assert lost == [], f"lost: {lost}"
        self.programs.reference = Reference(contents)
        self.programs.touched, self.elsewhere.touched = set(), set()
        self.programs.renamed = set()
        self.ledger.written = {}

    def staged_for_nobody(self) -> list[Path]:
        """Staging files but those of what is kept open: it may be unlinked."""
        kept = {str(held.ino) for held in self.programs.held}
        files = (self.mounted.state / "staging").iterdir()
        return [file for file in files if file.name.split("-")[0] not in kept]

    def each_thing_is_there_once(self, contents: dict[str, bytes | None]) -> None:
        """No copies but where both sides have touched a name; otherwise the tree as expected."""
        assert not [path for path in contents if "(being renamed" in path]
        names = {fold(path.rpartition("/")[2]) for path in contents}
        copies = {name for name in names if COPY in name}
        for name in copies - self.copies - self.programs.touched:
            # What met two of them, by its name and by its content, bears the mark twice.
            originals = {name[: mark.start()] for mark in re.finditer(re.escape(COPY), name)}
            here = stems(self.programs.touched)
            there = stems(self.programs.under_other_names(self.elsewhere.touched))
            assert originals & here & there, f"{name}: here {here}, elsewhere {there}"
        self.copies = copies
        if self.programs.reference is not None:
            expected = self.programs.reference.shape()
            assert contents.keys() == expected.keys(), (sorted(contents), sorted(expected))
            for path, allowed in expected.items():
                content = contents[path]
                assert allowed is None or content in allowed, f"{path}: {content!r}"
            everything = [c for c in contents.values() if c not in {None, *self.ledger.ambiguous}]
            assert len(everything) == len(set(everything)), f"twice: {contents}"

    def teardown(self) -> None:
        try:
            if not self.failed and self.mounted.process is not None:
                while self.programs.held:
                    self.close(self.programs.held[0])
                with self.told("the end"):
                    self.agree()
                    self.mounted.unmount()
        finally:
            self.clear_away()

    def clear_away(self) -> None:
        """Neither mount nor process is left, and the server is as new."""
        self.elsewhere.let_go()
        self.mounted.close()
        self.programs.close_all()
        if hasattr(self, "watchdog"):
            self.watchdog.__exit__()
        ensure_running(self.server)
        self.server.faults()
        self.server.network()
        tops = [path for path in self.server.paths() if path.count("/") == 1]
        self.server.edit([{"op": "delete", "path": path} for path in tops])
        shutil.rmtree(self.folder)


def stems(names: set[str]) -> set[str]:
    """What names can begin with, once they are marked as conflicted copies."""
    return names | {name.rpartition(".")[0] or name for name in names}


@pytest.mark.timeout(SECONDS + SHRINK_SECONDS)
def test_nothing_accepted_is_lost_whatever_happens(tmp_path: Path) -> None:
    print(f"DBXFS_MODEL_SEED={SEED}")
    until = time.monotonic() + SECONDS
    server = Embedded(tmp_path / "account")

    class Bound(Model):
        """The model with this test's server and time."""

        examples = 0
        found = False

        def __init__(self) -> None:
            super().__init__()
            self.over = time.monotonic() > until and not Bound.found
            Bound.examples += not self.over

        def teardown(self) -> None:
            Bound.found = Bound.found or self.failed
            try:
                super().teardown()
            finally:
                Bound.found = Bound.found or self.failed

    Bound.server = server
    server.start()
    try:
        run_state_machine_as_test(seed(SEED)(Bound), settings=SETTINGS)
    finally:
        server.close()
        print(f"{Bound.examples} examples")
