"""Other users for tests: a mount namespace in which anybody may open /dev/fuse, and their mounts.

What has to be changed on the machine for that is changed in a namespace of the test's own, which
ends with it. The fixtures are known wherever a conftest.py imports them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.embedded import Embedded
from tests.mount.mounted import Mounted, run

NOBODY = 65534

OPEN_FUSE = """
set -e
mount --make-rprivate /
mount -t tmpfs -o dev none "$1"
mknod -m 666 "$1/fuse" c 10 229
mount --bind "$1/fuse" /dev/fuse
"""
"""Lets everybody in the namespace open /dev/fuse; "$1" is an empty folder."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that an ordinary user can reach; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="dbxfs-test-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


class Namespace:
    """A mount namespace of its own: commands in it see mounts that nobody else sees."""

    def __init__(self, setup: str, *arguments: str | Path) -> None:
        """Runs the shell script `setup` in it first.

        Other tests' mounts would stay as long as it has them, too.
        """
        script = f"umount -ialt fuse.dbxfs\n{setup}\necho ready; exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("no mount namespace can be made here")

    @property
    def enter(self) -> tuple[str, ...]:
        """Goes before a command that is to run in it."""
        return ("nsenter", "-m", "-t", str(self._holder.pid))

    def run(self, *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a program in it."""
        return run(*self.enter, *command, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        """End it; what was mounted in it goes with its last process."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()


@pytest.fixture
def namespace(place: Path) -> Iterator[Namespace]:
    """Everybody in it may open /dev/fuse."""
    (place / "dev").mkdir()
    namespace = Namespace(OPEN_FUSE, place / "dev")
    yield namespace
    namespace.close()


def as_nobody(*command: str | Path) -> list[str]:
    """A command as an ordinary user."""
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return [*become, *map(str, command)]


@pytest.fixture
def users_mount(
    place: Path, namespace: Namespace, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Mounted]]:
    """Makes a mount by an ordinary user, with the given options."""
    if shutil.which("fusermount3") is None:
        pytest.skip("fuse3 is not installed")
    if run(*as_nobody(sys.executable, "-c", "import dbxfs.cli.mount")).returncode:
        pytest.skip("an ordinary user cannot read the program from here")
    home = place / "home"
    home.mkdir()
    server = Embedded(place / "account")
    server.start()
    made: list[Mounted] = []

    def make(*options: str) -> Mounted:
        mounted = Mounted(home, server, options, (*namespace.enter, *as_nobody()))
        for path in (home, mounted.path):
            os.chown(path, NOBODY, NOBODY)
        made.append(mounted)
        mounted.start()
        return mounted

    try:
        yield make
        for mounted in made:
            assert mounted.trouble() == []
    finally:
        for mounted in made:
            namespace.run("umount", "-l", mounted.path)
            if mounted.process is not None:
                mounted.process.terminate()
                mounted.process.wait(10)
                mounted.process = None
        server.stop()
