"""`scripts/demo`: it shows a Dropbox, and leaves nothing behind however it ends.

It installs into the checkout that it lies in, so it is tested only where that has been done (by
scripts/test), and never changes an environment that somebody else made.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Home

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "demo"

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        not (ROOT / ".venv" / "installed").exists(), reason="scripts/test has not been run here"
    ),
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here"
    ),
]


class Demo:
    """The script, running."""

    def __init__(self, home: Home, *arguments: str, umask: int = -1) -> None:
        self.process = subprocess.Popen(
            # As from a terminal, also where the tests were started by nohup.
            ["env", "--default-signal=HUP,INT", SCRIPT, *arguments],
            env=home.environment,
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=umask,
            start_new_session=True,
        )
        self.said = ""

    def until_shown(self) -> None:
        """Read until it says how to end it."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if line.strip().startswith("/") and "/umount.dbxfs " in line:
                return
        raise AssertionError(f"it ended: {self.said}")

    def end(self) -> int:
        """Read the rest; gives the exit status."""
        self.said += self.process.communicate(timeout=60)[0]
        return self.process.returncode


@pytest.fixture
def demos(home: Home) -> Iterator[list[Demo]]:
    """What a test starts; ended for it when it fails."""
    started: list[Demo] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGTERM)
            demo.process.communicate(timeout=60)


def mounts_below(folder: Path) -> list[str]:
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in table if f" {folder}" in line.replace("\\040", " ")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_shows_the_tree_and_a_signal_ends_it_cleanly(
    home: Home, demos: list[Demo], number: signal.Signals
) -> None:
    demo = Demo(home)
    demos.append(demo)
    demo.until_shown()
    assert "README.md" in demo.said
    assert (home.path / "Dropbox-demo" / "README.md").is_file()
    os.killpg(demo.process.pid, number)  # as a terminal does: to all in the foreground
    assert demo.end() == 0
    assert mounts_below(home.path) == []
    assert not (home.path / "Dropbox-demo").exists()


def test_unmounting_elsewhere_ends_it(home: Home, demos: list[Demo]) -> None:
    (home.path / "mine").mkdir()
    demo = Demo(home, "mine")
    demos.append(demo)
    demo.until_shown()
    assert home.run("umount.dbxfs", "mine").code == 0
    assert demo.end() == 0
    assert (home.path / "mine").is_dir(), "it was there before, so it stays"


@pytest.mark.parametrize("umask", [0, 0o777])
def test_odd_paths_and_umasks_work(home: Home, demos: list[Demo], umask: int) -> None:
    demo = Demo(home, "it's a $HOME \\ mount/", umask=umask)
    demos.append(demo)
    demo.until_shown()
    assert (home.path / "it's a $HOME \\ mount" / "notes").is_dir()
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0
    assert not (home.path / "it's a $HOME \\ mount").exists()


def test_what_it_mounted_goes_even_when_it_is_in_use(home: Home, demos: list[Demo]) -> None:
    demo = Demo(home)
    demos.append(demo)
    demo.until_shown()
    with (home.path / "Dropbox-demo" / "README.md").open() as file:
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == 0
        assert mounts_below(home.path) == []
        assert file.read(), "whoever uses it goes on"
    assert "in use" in demo.said


def test_a_folder_with_something_in_it_is_refused(home: Home, demos: list[Demo]) -> None:
    (home.path / "full").mkdir()
    (home.path / "full" / "mine").touch()
    demo = Demo(home, "full")
    demos.append(demo)
    assert demo.end() == 1
    assert "full is not empty" in demo.said
    assert (home.path / "full" / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["file"], "file is not a folder"),
        (["no/such/parent"], "no/such/parent"),
        (["--bogus"], "--bogus"),
        (["one", "two"], "one argument"),
        (["/proc"], "something is mounted on /proc"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_made(
    home: Home, demos: list[Demo], arguments: list[str], named: str
) -> None:
    (home.path / "file").touch()
    demo = Demo(home, *arguments)
    demos.append(demo)
    assert demo.end() == 1
    assert named in demo.said
    assert [path.name for path in home.path.iterdir()] == ["file"]


def test_another_mount_is_not_disturbed(home: Home, demos: list[Demo]) -> None:
    demos.append(first := Demo(home, "first"))
    first.until_shown()
    demos.append(second := Demo(home, "second"))
    assert second.end() != 0
    assert "in use by another mount" in second.said
    assert not (home.path / "second").exists()
    assert (home.path / "first" / "README.md").is_file()
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 0
