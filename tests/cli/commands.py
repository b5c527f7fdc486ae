"""Running the installed commands as a user would, in a home of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Home:
    """A user's home, empty at first; nothing of the real one or of its environment is seen."""

    path: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.path),
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
        }

    @property
    def config(self) -> Path:
        return self.path / ".config" / "dbxfs"

    @property
    def state(self) -> Path:
        return self.path / ".local" / "state" / "dbxfs"

    def run(
        self,
        command: str,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        umask: int = -1,
    ) -> Ran:
        """Run one of the project's commands to its end. A traceback fails the test."""
        done = subprocess.run(
            [BIN / command, *arguments],
            env={**self.environment, **(env or {})},
            input=stdin,
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            umask=umask,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)
