"""`dbxfs pause` and `resume`: what waits, what does not, and what survives a remount."""

from __future__ import annotations

from pathlib import Path

import pytest

from .mounted import Mounted, eventually


@pytest.fixture
def paused(mounted: Mounted) -> Mounted:
    mounted.server.edit([{"op": "write", "path": "/there", "text": "there"}])
    mounted.sync()
    assert mounted.dbxfs("pause", str(mounted.path)).returncode == 0
    return mounted


def test_nothing_is_sent_until_resumed_also_after_a_remount(paused: Mounted) -> None:
    paused.server.reset_counters()
    (paused.path / "new").write_text("new")
    (paused.path / "there").rename(paused.path / "moved")
    assert paused.status()["paused"] is True
    done = paused.dbxfs("sync", str(paused.path))
    assert done.returncode == 1
    assert "paused" in done.stderr
    paused.remount()
    assert paused.status()["paused"] is True
    assert "paused" in paused.dbxfs("status", str(paused.path)).stdout
    assert paused.server.paths() == ["/there"]
    assert paused.dbxfs("resume", str(paused.path)).returncode == 0
    eventually(lambda: paused.server.paths() == ["/moved", "/new"], 15, "what had waited")
    assert paused.server.content("/new") == b"new"


def test_changes_made_elsewhere_and_reads_go_on(paused: Mounted) -> None:
    paused.server.edit([{"op": "write", "path": "/elsewhere", "text": "fresh"}])
    eventually(lambda: Path(paused.path / "elsewhere").exists(), 15, "the new file")
    assert (paused.path / "elsewhere").read_text() == "fresh"
    assert (paused.path / "there").read_text() == "there"
    assert paused.dbxfs("resume", str(paused.path)).returncode == 0
