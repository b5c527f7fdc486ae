"""How long programs wait for a server that is away: an errno in the end, and never a hang.

The waits are half a minute each, so they all begin together, each on a mount of its own, and the
tests look at how they ended.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from subprocess import CompletedProcess

import pytest

from tests.embedded import Embedded
from tests.mount.mounted import FAILURE, Mounted, Watchdog, ensure_running, eventually, run, works

PATIENCE = 40.0
"""Seconds after which every program must have its answer."""

pytestmark = pytest.mark.timeout(90)


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and after how many seconds."""

    done: CompletedProcess[str]
    took: float


@dataclass(frozen=True)
class Outages:
    """Everything that waits."""

    away: Mounted
    """Mounted with its server away; `offline_read` reads from it."""
    offline_read: Future[Outcome]
    offline_listing: float
    """Seconds that it took to mount and to list everything, before any of the waits was over."""
    stalled: Mounted
    """Its server answers no download; `stalled_read` waits for one."""
    stalled_read: Future[Outcome]
    first_mounts: dict[str, Future[Outcome]]
    """In the foreground and in the background."""


def timed(*command: str, env: dict[str, str] | None = None) -> Outcome:
    """Run a program, whatever comes of it."""
    began = time.monotonic()
    done = run(*command, env=env, timeout=2 * PATIENCE)
    return Outcome(done, time.monotonic() - began)


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outages]:
    """Begins all the waits, and clears up."""
    mounts: dict[str, Mounted] = {}
    with ThreadPoolExecutor() as pool:
        try:
            for name in ("away", "stalled", "foreground", "background"):
                folder = tmp_path_factory.mktemp(name)
                server = Embedded(folder / "account")
                server.start()
                mounts[name] = Mounted(folder, server)
            for name in ("away", "stalled"):
                prepare(mounts[name])
            for name in ("away", "foreground", "background"):
                mounts[name].server.stop()
            first = {
                name: pool.submit(
                    timed,
                    *mounts[name].arguments(foreground=name == "foreground"),
                    env=mounts[name].env,
                )
                for name in ("foreground", "background")
            }
            away, stalled = mounts["away"], mounts["stalled"]
            began = time.monotonic()
            away.start()
            works("find", away.path, "-ls")
            listing = time.monotonic() - began
            stalled.server.faults([{"route": "files/download", "kind": "stall"}])
            with Watchdog(away, 2 * PATIENCE), Watchdog(stalled, 2 * PATIENCE):
                yield Outages(
                    away=away,
                    offline_read=pool.submit(timed, "cat", str(away.path / "uncached.txt")),
                    offline_listing=listing,
                    stalled=stalled,
                    stalled_read=pool.submit(timed, "cat", str(stalled.path / "uncached.txt")),
                    first_mounts=first,
                )
        finally:
            for mounted in mounts.values():
                mounted.close()
                mounted.server.stop()


def prepare(mounted: Mounted) -> None:
    """A known tree with one file in the cache and one that is not; unmounted where it is `away`."""
    mounted.server.populate("/p", folders=10, files_per_folder=20, size=100)
    mounted.server.edit([{"op": "write", "path": "/cached.txt", "text": "cached"}])
    mounted.server.edit([{"op": "write", "path": "/uncached.txt", "text": "uncached"}])
    mounted.start()
    mounted.sync()
    assert (mounted.path / "cached.txt").read_text() == "cached"
    if mounted.folder.name.startswith("away"):
        mounted.unmount()


def test_a_mount_with_its_server_away_answers_at_once(outages: Outages) -> None:
    assert outages.offline_listing < 5
    assert (outages.away.path / "cached.txt").read_text() == "cached"
    assert works("df", outages.away.path)


def test_writing_works_with_the_server_away(outages: Outages) -> None:
    root = outages.away.path
    began = time.monotonic()
    (root / "offline").mkdir()
    (root / "offline" / "note.txt").write_text("written offline")
    (root / "cached.txt").write_text("changed offline")
    (root / "p").rename(root / "offline" / "renamed")
    assert (root / "offline" / "note.txt").read_text() == "written offline"
    assert time.monotonic() - began < 5
    assert outages.away.status()["pending"] >= 3


def test_a_stalled_read_holds_up_nobody_else(outages: Outages) -> None:
    mounted = outages.stalled
    eventually(lambda: mounted.server.control("faults")[0]["fired"], 5, "the stall")
    began = time.monotonic()
    assert (mounted.path / "cached.txt").read_text() == "cached"
    assert os.stat(mounted.path / "uncached.txt").st_size == 8
    assert not outages.stalled_read.done()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("how", ["foreground", "background"])
def test_a_first_mount_with_the_server_away_fails_and_says_why(outages: Outages, how: str) -> None:
    outcome = outages.first_mounts[how].result()
    assert outcome.took < PATIENCE
    assert outcome.done.returncode == FAILURE
    assert "Dropbox" in outcome.done.stderr
    assert "Traceback" not in outcome.done.stderr


def test_a_read_with_the_server_away_ends_with_an_errno(outages: Outages) -> None:
    outcome = outages.offline_read.result()
    assert outcome.done.returncode != 0
    expected = {os.strerror(errno.EIO), os.strerror(errno.ENETUNREACH)}
    assert any(text in outcome.done.stderr for text in expected)
    assert outcome.took < PATIENCE
    assert outages.away.status()["online"] is False


def test_a_read_from_a_stalled_server_ends_with_an_errno(outages: Outages) -> None:
    outcome = outages.stalled_read.result()
    assert outcome.done.returncode != 0
    assert outcome.took < PATIENCE


def test_what_was_written_offline_arrives_when_the_server_is_back(outages: Outages) -> None:
    """The last one: it ends the outage."""
    mounted = outages.away
    mounted.remount()
    assert (mounted.path / "offline" / "note.txt").read_text() == "written offline"
    ensure_running(mounted.server)
    mounted.sync()
    assert mounted.server.content("/offline/note.txt") == b"written offline"
    assert mounted.server.content("/cached.txt") == b"changed offline"
    assert len(mounted.server.paths("/offline/renamed")) == 210
    assert (mounted.path / "uncached.txt").read_text() == "uncached"
