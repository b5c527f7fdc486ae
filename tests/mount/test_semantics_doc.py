"""docs/semantics.md does not lie: its examples are run as they stand.

Each `console` block is one shell session in an empty folder of a mount: a line that begins with
"$ " is run, what follows is what it must say, errors included.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mount.mounted import Mounted, run

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
PROGRAMS = ("git", "flock", "od", "dd", "sqlite3")
MARK = "--- said by the command above ---"


@dataclass(frozen=True)
class Session:
    """One block: the commands, and what each must say."""

    line: int
    commands: list[str]
    expected: list[str]


def sessions() -> list[Session]:
    """All blocks of the page."""
    text = PAGE.read_text()
    found = []
    for block in re.finditer(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        steps = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
        pairs = [step.partition("\n") for step in steps]
        line = text.count("\n", 0, block.start()) + 1
        found.append(Session(line, [pair[0] for pair in pairs], [pair[2] for pair in pairs]))
    return found


@pytest.mark.parametrize("session", sessions(), ids=lambda session: f"line-{session.line}")
def test_every_example_says_what_the_page_says(mounted: Mounted, session: Session) -> None:
    if missing := [name for name in PROGRAMS if any(name in c for c in session.commands)]:
        missing = [name for name in missing if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    folder = mounted.path / "example"
    folder.mkdir()
    script = "".join(f"{command}\necho '{MARK}'\n" for command in session.commands)
    env = {**mounted.env, "LC_ALL": "C.UTF-8"}
    shell = ("bash", "--norc", "-c", f"exec 2>&1\n{script}")
    done = run(*shell, cwd=folder, env=env)
    said = done.stdout.split(f"{MARK}\n")[:-1]
    assert list(zip(session.commands, said, strict=True)) == list(
        zip(session.commands, session.expected, strict=True)
    )
    shutil.rmtree(folder)


def test_the_page_has_examples_for_what_holds_and_for_what_differs() -> None:
    text = PAGE.read_text()
    holds, differs = text.split("## What differs")
    assert holds.count("```console") >= 6
    assert differs.count("```console") >= 1
    assert os.path.getsize(PAGE) < 9500, "one page"
