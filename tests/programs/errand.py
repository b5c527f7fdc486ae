"""A work that is done in another process: by another user, in a mount that only he can look into.

    python -m tests.programs.errand MODULE WORK FOLDER SPARE

does the function WORK of a module at a desk and prints the outcome as JSON, for `read`.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import msgspec

from tests.programs.outcome import Desk, Outcome


def command(work: object, folder: Path, spare: Path) -> list[str]:
    """What to run; both folders must be there."""
    module, name = work.__module__, work.__name__  # type: ignore[attr-defined]
    return [sys.executable, "-m", __name__, module, name, str(folder), str(spare)]


def read(said: str) -> Outcome:
    """The outcome that an errand printed."""
    return msgspec.json.decode(said, type=Outcome)


def main() -> None:
    """Do the work."""
    module, name, folder, spare = sys.argv[1:]
    desk = Desk(Path(folder), Path(spare), os.environ)
    getattr(importlib.import_module(module), name)(desk)
    sys.stdout.buffer.write(msgspec.json.encode(desk.outcome()))


if __name__ == "__main__":
    main()
