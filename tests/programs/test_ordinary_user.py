"""The same by an ordinary user in a mount of his own: that is how people mount.

Nobody but he can look into it, root neither; so the work and the look at what it left are an errand
that he does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.mount.mounted import Mounted, needs
from tests.mount.users import NOBODY, Namespace, as_nobody
from tests.programs import errand
from tests.programs.conftest import LENGTHY, SETTINGS
from tests.programs.outcome import Desk, Outcome, differences, without
from tests.programs.test_building import ENVIRONMENT_UNLIKE, build, make_environment
from tests.programs.test_databases import ROWS_UNLIKE, write_with_a_log
from tests.programs.test_editing import VIM_UNLIKE, edit_with_vim
from tests.programs.test_git import UNLIKE, objects_copied, work_with_git

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root"),
    pytest.mark.timeout(240),
]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """A work, and what is never the same twice."""

    program: str
    work: Callable[[Desk], None]
    unlike: Mapping[str, str] = field(default_factory=dict)
    lengthy: bool = False
    allowed: Callable[[Outcome], Outcome] = without


JOBS = (
    Job("vim", edit_with_vim, VIM_UNLIKE),
    Job("sqlite3", write_with_a_log, ROWS_UNLIKE),
    Job("make", build),
    Job("git", work_with_git, UNLIKE, lengthy=True, allowed=objects_copied),
    Job("python3", make_environment, ENVIRONMENT_UNLIKE, lengthy=True),
)


def usable_python(namespace: Namespace) -> str:
    """A Python that programs of the ordinary user can run; ours may lie where only root looks."""
    for python in (sys.executable, "/usr/bin/python3"):
        tried = as_nobody("sh", "-c", '"$0" -c "import sqlite3, venv, pip"', python)
        if namespace.run(*tried).returncode == 0:
            return python
    pytest.skip("no Python with pip is there for an ordinary user")


@needs("vim")
@needs("sqlite3")
@needs("gcc")
@needs("make")
def test_programs_of_an_ordinary_user_do_in_his_mount_what_they_do_on_the_disk(
    users_mount: Callable[..., Mounted], namespace: Namespace, place: Path
) -> None:
    mounted = users_mount()
    disk, spare = place / "disk", place / "spare"
    env = {
        **mounted.env,
        **SETTINGS,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DBXFS_PROGRAMS_PYTHON": usable_python(namespace),
    }
    jobs = {job.program: job for job in JOBS if LENGTHY or not job.lengthy}

    def outcomes(root: Path, beside: Path) -> dict[str, Outcome]:
        for folder in (disk, beside):
            if not folder.exists():
                folder.mkdir(parents=True)
                os.chown(folder, NOBODY, NOBODY)
        works = {name: job.work for name, job in jobs.items()}
        command = as_nobody(*errand.command(works, root, beside))
        done = namespace.run(*command, env=env, timeout=100 * len(works))
        assert done.returncode == 0, done.stderr
        return errand.read(done.stdout)

    there, here = outcomes(disk, spare / "disk"), outcomes(mounted.path, spare / "mount")
    assert mounted.sync() == []
    for name, job in jobs.items():
        expected = job.allowed(without(there[name], job.unlike))
        found = "\n".join(differences(expected, without(here[name], job.unlike)))
        assert not found, f"{name}:\n{found}"
        sent = mounted.server.paths(f"/{name}")
        assert sent == sorted(f"/{name}/{path}" for path in here[name].left)
    assert mounted.check()["findings"] == []
