"""git: what it stores must be the same objects, and whole; also after it has packed them.

Dates and names are fixed, so that every object has the same name on the disk and in the mount.
`DBXFS_PROGRAMS_SECONDS` above a minute makes the repository 25 times as large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.mount.mounted import needs, works
from tests.programs.conftest import LENGTHY, Both
from tests.programs.outcome import Desk, Outcome, in_order, nothing

FILES = 1000 if LENGTHY else 40

ENV = {
    **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_DATE": "2001-02-03T04:05:06Z" for who in ("AUTHOR", "COMMITTER")},
}

UNLIKE = {
    "*index": "notes inode numbers and times of change",
    "*.git": "of a worktree: names the place of the repository",
    "*/worktrees/*/gitdir": "names the place of the worktree",
    "*FETCH_HEAD": "names the place of the repository",
    "*logs/*": "names the place that was cloned from",
    "*/config": "says core.ignorecase in the mount, and from where it was cloned",
    "*packed-refs": "of a clone",
    "*/objects/info/commit-graphs/*": "named by what is in it",
}

pytestmark = [needs("git"), pytest.mark.timeout(150)]
"""The time that git needs is that of some thousand small files."""


def gits(desk: Desk) -> Callable[..., str]:
    """`git` at a desk, without processes that go on in the background."""
    settings = ("-c", "gc.autoDetach=false", "-c", "pack.threads=1", "-c", "maintenance.auto=false")

    def git(*arguments: str, **options: object) -> str:
        return desk.run("git", *settings, *arguments, env=ENV, **options)  # type: ignore[arg-type]

    return git


def fill(desk: Desk, repository: str) -> None:
    """A project with folders, programs and a link."""
    top = desk.folder / repository
    for number in range(FILES):
        path = top / f"d{number % 7}" / f"e{number % 3}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line} of {number}\n" for line in range(number % 40 + 1)))
    (top / "run").write_text("#!/bin/sh\necho run\n")
    (top / "run").chmod(0o755)
    (top / "link").symlink_to("d0/e0")


def objects_copied(disk: Outcome) -> Outcome:
    """A clone on one disk has hard links to the objects; where there are none, git copies them.

    It gives the copies other modes than the originals.
    """
    left = {
        path: replace(entry, mode="-rw-r--r--")
        if entry.kind == "file" and path.startswith("two/.git/objects/")
        else entry
        for path, entry in disk.left.items()
    }
    return Outcome(disk.said, left)


def work_with_git(desk: Desk) -> None:
    """Commits, a merge, a stash, a worktree, packing and clones."""
    git = gits(desk)
    git("init", "-q", "-b", "main", "one")
    fill(desk, "one")
    git("-C", "one", "add", ".")
    git("-C", "one", "commit", "-q", "-m", "first")
    assert git("-C", "one", "status", "--porcelain") == ""
    (desk.folder / "one" / "run").chmod(0o644)
    (desk.folder / "one" / "d1" / "e1" / "file1.txt").write_text("changed\n")
    git("-C", "one", "status", "--porcelain")
    git("-C", "one", "commit", "-q", "-a", "-m", "second")
    git("-C", "one", "checkout", "-q", "-b", "side", "HEAD~1")
    (desk.folder / "one" / "added.txt").write_text("added\n")
    git("-C", "one", "mv", "d2", "moved")
    git("-C", "one", "add", ".")
    git("-C", "one", "commit", "-q", "-m", "third")
    git("-C", "one", "merge", "-q", "-m", "merged", "main")
    (desk.folder / "one" / "added.txt").write_text("put aside\n")
    git("-C", "one", "stash", said=nothing)
    git("-C", "one", "stash", "pop", "-q")
    git("-C", "one", "reset", "-q", "--hard")
    git("-C", "one", "fsck", "--strict", said=nothing)
    git("-C", "one", "worktree", "add", "-q", "../tree", "main")
    git("-C", "tree", "status", "--porcelain")
    (desk.folder / "tree" / "new").write_text("new\n")
    git("-C", "tree", "add", "new")
    git("-C", "tree", "commit", "-q", "-m", "in the worktree")
    git("-C", "one", "gc", "-q", "--prune=now")
    git("clone", "-q", "one", "two")
    git("clone", "-q", "--no-local", "--bare", "one", "three.git")
    git("-C", "two", "checkout", "-q", "main")
    git("-C", "two", "rev-parse", "HEAD")
    git("-C", "two", "config", "core.filemode")
    git("-C", "two", "config", "--default", "true", "--get", "core.symlinks")
    for name in ("one", "two", "three.git"):
        git("-C", name, "fsck", "--strict", "--full", said=nothing)
        git("-C", name, "rev-list", "--objects", "--all", said=in_order)
    git("-C", "one", "worktree", "remove", "../tree")


@pytest.mark.hangs_after(90.0)
def test_git_stores_the_same_objects_and_all_are_whole(both: Both) -> None:
    both(work_with_git, unlike=UNLIKE, allowed=objects_copied)
    mounted = both.mounted
    works("git", "fsck", "--strict", cwd=mounted.path / both.name / "two", env=mounted.env)


def test_another_machine_sees_the_repositories(both: Both) -> None:
    both.seen_from_another_machine()
