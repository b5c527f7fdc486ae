"""The mount that tests use, and the check that each of them ends with.

Server and daemon are shared by the tests of a module: what a test leaves is compared, cleared away
and the clearing compared too, so sharing costs no independence. After a failed test both are made
anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.embedded import Embedded
from tests.mount.agreement import difference, local_tree, remote_tree
from tests.mount.mounted import Mounted, Watchdog, ensure_running, eventually
from tests.mount.users import namespace, place, users_mount

__all__ = ["namespace", "place", "users_mount"]

HANGS_AFTER = 40.0
"""Seconds after which a test's daemon is aborted; `hangs_after` sets another time."""

_failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Registers this suite's own marker."""
    config.addinivalue_line("markers", "hangs_after(seconds): when the daemon is to be aborted")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remembers for the fixtures whether the test itself failed."""
    report = yield
    if call.when == "call":
        item.stash[_failed] = report.failed  # type: ignore[attr-defined]
    return report


class Bench:
    """The server and mount that a module's tests share; made when asked for."""

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder
        self._mounted: Mounted | None = None

    def get(self) -> Mounted:
        """The mount, answering and empty."""
        if self._mounted is None:
            folder = self._new_folder()
            server = Embedded(folder / "account")
            server.start()
            self._mounted = Mounted(folder, server)
            self._mounted.start()
            self._mounted.sync()
        return self._mounted

    def discard(self) -> None:
        """Nothing of it is to be trusted any more."""
        mounted, self._mounted = self._mounted, None
        if mounted is not None:
            try:
                mounted.close()
            finally:
                mounted.server.stop()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """What the module's tests share."""
    bench = Bench(lambda: tmp_path_factory.mktemp("bench"))
    try:
        yield bench
    finally:
        bench.discard()


@pytest.fixture
def mounted(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    """A mounted, empty Dropbox; both sides must agree when the test is over."""
    mounted = bench.get()
    mounted.log_mark()
    good = False
    try:
        with watched(mounted, request):
            yield mounted
            if not request.node.stash.get(_failed, False):
                finish(mounted)
                good = True
    finally:
        if not good:
            print(f"--- the daemon's log\n{mounted.log()[-20000:]}")
            print(f"--- the server's log\n{mounted.server.log()[-5000:]}")
            bench.discard()


@pytest.fixture
def make_mount(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Mounted]]:
    """Makes mounts of the test's own: `make_mount(options=…, command=…, server=…, start=True)`.

    The server is fresh unless one is given. Nothing is compared; call `finish` where it should be.
    """
    with contextlib.ExitStack() as stack:

        def make(
            options: Sequence[str] = (),
            command: Sequence[str] = (),
            server: Embedded | None = None,
            start: bool = True,
        ) -> Mounted:
            folder = tmp_path / f"m{len(made)}"
            folder.mkdir()
            if server is None:
                server = Embedded(folder / "account")
                stack.callback(server.stop)
                server.start()
            mounted = Mounted(folder, server, options, command)
            stack.callback(mounted.close)
            stack.enter_context(watched(mounted, request))
            made.append(mounted)
            if start:
                mounted.start()
            return mounted

        made: list[Mounted] = []
        yield make
        if request.node.stash.get(_failed, False):
            for mounted in made:
                print(f"--- the daemon's log\n{mounted.log()[-20000:]}")


@contextlib.contextmanager
def watched(mounted: Mounted, request: pytest.FixtureRequest) -> Iterator[None]:
    """No hang outlasts this."""
    marker = request.node.get_closest_marker("hangs_after")
    with Watchdog(mounted, marker.args[0] if marker else HANGS_AFTER):
        yield
    if mounted.hung:
        pytest.fail("the mount hung; the daemon's stacks are in its log")


def finish(mounted: Mounted) -> None:
    """Compare both sides, clear everything away from elsewhere, and compare again."""
    server = mounted.server
    ensure_running(server)
    server.faults()
    server.network()
    if mounted.process is None:
        mounted.start()
    errors = mounted.sync()
    assert errors == [], f"Dropbox refused: {errors}"
    assert difference(local_tree(mounted.path), remote_tree(server)) == []
    assert mounted.status()["pending"] == 0
    assert mounted.check()["findings"] == []
    assert list((mounted.state / "staging").iterdir()) == [], "staging files are left"
    assert mounted.trouble() == []
    tops = [entry["path"] for entry in server.tree() if entry["path"].count("/") == 1]
    server.edit([{"op": "delete", "path": path} for path in tops])
    server.control("quota", {"allocated": 2 * 1024**4})
    assert mounted.sync() == []
    eventually(lambda: not os.listdir(mounted.path), 2, "the folder being empty again")
    for kept_aside in mounted.state.glob("recovered/*"):
        kept_aside.unlink()
