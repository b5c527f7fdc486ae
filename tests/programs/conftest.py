"""One mount for the programs of a module, a plain folder beside it, and what must come of both.

Each test has a folder of its own and leaves it, so that the last test of a module can look at all
of them from another machine: a second mount of the account that has nothing but what is on Dropbox.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.programs.outcome")

from tests.mount.agreement import difference, local_tree, remote_tree  # noqa: E402
from tests.mount.conftest import (  # noqa: E402
    Bench,
    _failed,
    bench,
    pytest_configure,
    pytest_runtest_makereport,
    watched,
)
from tests.mount.mounted import Mounted  # noqa: E402
from tests.mount.users import namespace, place, users_mount  # noqa: E402
from tests.programs.outcome import (  # noqa: E402
    NONE,
    NOW,
    Desk,
    Left,
    Outcome,
    differences,
    tree,
    unequal,
    without,
)

__all__ = [
    "bench",
    "namespace",
    "place",
    "pytest_configure",
    "pytest_runtest_makereport",
    "users_mount",
]

Work = Callable[[Desk], None]

SECONDS = float(os.environ.get("DBXFS_PROGRAMS_SECONDS", "2"))
"""How long the programs work that can do so for any time."""

LENGTHY = SECONDS > 60
"""Whether there is time for all."""

SETTINGS = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lengthy variant takes its time."""
    here = Path(__file__).parent
    for item in items:
        if LENGTHY and here in item.path.parents:
            item.add_marker(pytest.mark.hangs_after(1200.0), append=False)
            item.add_marker(pytest.mark.timeout(1500), append=False)


@dataclass
class Both:
    """The two places. Calling it does a work in each, and both must come out the same."""

    mounted: Mounted
    name: str = ""
    names: set[str] = field(default_factory=set)
    """The folders of all tests so far, for who looks from another machine."""

    def desk(self, where: str, root: Path) -> Desk:
        """A desk in a folder of the test's own; `where` names the spare one."""
        desk = Desk(
            root / self.name,
            self.mounted.folder / f"spare-{where}" / self.name,
            {**self.mounted.env, **SETTINGS},
        )
        desk.folder.mkdir(parents=True)
        desk.spare.mkdir(parents=True)
        return desk

    def __call__(
        self,
        work: Work,
        *,
        unlike: Mapping[str, str] = NONE,
        ignored: Mapping[str, str] = NONE,
        allowed: Callable[[Outcome], Outcome] = lambda outcome: outcome,
    ) -> Outcome:
        """Do the work on the disk and in the mount; the contents must have reached Dropbox.

        `unlike`, `ignored`: see `outcome.without`. `allowed` turns what the disk gives into what is
        expected of the mount. Returns the outcome in the mount.
        """
        outcomes = []
        for where, root in (("disk", self.mounted.folder / "plain"), ("mount", self.mounted.path)):
            desk = self.desk(where, root)
            work(desk)
            outcomes.append(without(desk.outcome(), unlike, ignored))
        disk, mount = outcomes
        found = "\n".join(differences(allowed(disk), mount))
        assert not found, found
        self.arrived()
        self.names.add(self.name)
        return mount

    def arrived(self) -> None:
        """Both sides agree, and nothing has gone wrong."""
        mounted = self.mounted
        assert mounted.sync() == []
        assert difference(local_tree(mounted.path), remote_tree(mounted.server)) == []
        assert mounted.trouble() == []

    def seen_from_another_machine(self) -> None:
        """A mount without a past shows all that the tests have left, attributes included.

        But not the times of folders: they are not sent for their own sake (docs/semantics.md).
        """
        here = self.mounted
        assert here.check()["findings"] == []
        folder = here.folder / "another"
        folder.mkdir()
        another = Mounted(folder, here.server)
        another.start()
        try:
            another.sync()
            for name in sorted(self.names):
                mine, theirs = (untimed(tree(m.path / name)) for m in (here, another))
                found = "\n".join(unequal(mine, theirs))
                assert not found, f"in {name}:\n{found}"
            assert another.trouble() == []
            another.unmount()
        finally:
            another.close()


def untimed(entries: dict[str, Left]) -> dict[str, Left]:
    """The same without the times of folders."""
    return {
        path: replace(entry, time=NOW) if entry.kind == "folder" else entry
        for path, entry in entries.items()
    }


@pytest.fixture(scope="module")
def places(bench: Bench) -> set[str]:
    """The folders that the tests of the module have left."""
    return set()


@pytest.fixture
def both(bench: Bench, places: set[str], request: pytest.FixtureRequest) -> Iterator[Both]:
    """A folder of the test's own on the disk and in the mount."""
    mounted = bench.get()
    mounted.log_mark()
    good = False
    try:
        with watched(mounted, request):
            name = re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))
            yield Both(mounted, name[:60], places)
            good = not request.node.stash.get(_failed, False)
    finally:
        if not good:
            print(f"--- the daemon's log\n{mounted.log()[-20000:]}")
            print(f"--- the server's log\n{mounted.server.log()[-5000:]}")
            bench.discard()
            places.clear()
