"""Works that are done in another process: by another user, in a mount that only he can look into.

    python -m tests.programs.errand FOLDER SPARE NAME=MODULE:WORK…

makes the folder NAME in both and does the function WORK of the module at a desk there, one after
the other, and prints the outcomes by name as JSON, for `read`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tests.programs.outcome import Desk, Outcome


def command(works: Mapping[str, Callable[[Desk], None]], folder: Path, spare: Path) -> list[str]:
    """What to run. Both folders must be there."""
    named = [f"{name}={work.__module__}:{work.__name__}" for name, work in works.items()]
    return [sys.executable, "-m", __name__, str(folder), str(spare), *named]


def read(said: str) -> dict[str, Outcome]:
    """The outcomes that an errand printed."""
    return msgspec.json.decode(said, type=dict[str, Outcome])


def main() -> None:
    """Do the works."""
    folder, spare, *named = sys.argv[1:]
    outcomes = {}
    for item in named:
        name, _, place = item.partition("=")
        module, _, work = place.partition(":")
        desk = Desk(Path(folder, name), Path(spare, name), os.environ)
        desk.folder.mkdir()
        desk.spare.mkdir()
        getattr(importlib.import_module(module), work)(desk)
        outcomes[name] = desk.outcome()
    sys.stdout.buffer.write(msgspec.json.encode(outcomes))


if __name__ == "__main__":
    main()
