"""Programs as people use them, and what comes of it on Dropbox: editors, cp, mv, rm.

Whether they do in the mount what they do on a disk is asked in tests/programs.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from tests.mount.mounted import Mounted, needs, python, works


def revisions(mounted: Mounted, path: str) -> int:
    """How many revisions the server has of the file that is now at `path`."""
    reply = httpx.post(
        f"{mounted.server.url}/2/files/list_revisions",
        json={"path": identity(mounted, path), "mode": "id"},
        headers={"Authorization": f"Bearer {mounted.server.token}"},
        trust_env=False,
    )
    return len(reply.raise_for_status().json()["entries"])


@pytest.fixture
def note(mounted: Mounted) -> Path:
    """A file that was made elsewhere, with a history of one revision."""
    mounted.server.edit([{"op": "write", "path": "/note.txt", "text": "one\ntwo\nthree\n"}])
    mounted.sync()
    return mounted.path / "note.txt"


def identity(mounted: Mounted, path: str) -> str:
    """The server's id of a file."""
    (entry,) = (entry for entry in mounted.server.tree() if entry["path"] == path)
    return str(entry["id"])


def check_saved(mounted: Mounted, before: str, text: str) -> None:
    """The save was one more revision of the same file, and left nothing beside it."""
    assert (mounted.path / "note.txt").read_text() == text
    mounted.sync()
    assert mounted.server.content("/note.txt").decode() == text
    assert mounted.server.paths() == ["/note.txt"]
    assert identity(mounted, "/note.txt") == before
    assert revisions(mounted, "/note.txt") == 2


@needs("vim")
def test_saving_in_vim_is_one_more_revision_of_the_file(mounted: Mounted, note: Path) -> None:
    before = identity(mounted, "/note.txt")
    works("vim", "-N", "-u", "NONE", "-es", "-c", "%s/two/2/", "-c", "wq", note, env=mounted.env)
    check_saved(mounted, before, "one\n2\nthree\n")


@needs("vim")
@pytest.mark.parametrize("how", ["no", "yes"])
def test_saving_in_vim_with_a_backup_is_one_more_revision(
    mounted: Mounted, note: Path, how: str
) -> None:
    """By renaming the old file, and by copying it."""
    before = identity(mounted, "/note.txt")
    works(
        *("vim", "-N", "-u", "NONE", "-es", "-c", f"set backupcopy={how} writebackup"),
        *("-c", "%s/two/2/", "-c", "wq", note),
        env=mounted.env,
    )
    check_saved(mounted, before, "one\n2\nthree\n")


@needs("ed")
def test_saving_in_ed_is_one_more_revision(mounted: Mounted, note: Path) -> None:
    before = identity(mounted, "/note.txt")
    works("ed", "-s", note, input="2s/two/2/\nw\nq\n")
    check_saved(mounted, before, "one\n2\nthree\n")


def test_sed_in_place_is_one_more_revision(mounted: Mounted, note: Path) -> None:
    before = identity(mounted, "/note.txt")
    works("sed", "-i", "s/two/2/", note)
    check_saved(mounted, before, "one\n2\nthree\n")


def test_saving_by_a_temporary_file_is_one_more_revision(mounted: Mounted, note: Path) -> None:
    before = identity(mounted, "/note.txt")
    python(
        """
import os, sys, tempfile
path = sys.argv[1]
descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
with os.fdopen(descriptor, "w") as file:
    file.write("one\\n2\\nthree\\n")
    file.flush()
    os.fsync(descriptor)
os.rename(temporary, path)
""",
        note,
    )
    check_saved(mounted, before, "one\n2\nthree\n")


def test_saving_with_a_backup_beside_it_keeps_the_history(mounted: Mounted, note: Path) -> None:
    """The old file becomes the backup, and the new one has its name."""
    python(
        """
import os, sys
path = sys.argv[1]
os.rename(path, path + "~")
with open(path, "w") as file:
    file.write("new\\n")
os.unlink(path + "~")
""",
        note,
    )
    assert note.read_text() == "new\n"
    mounted.sync()
    assert mounted.server.paths() == ["/note.txt"]
    assert mounted.server.content("/note.txt") == b"new\n"
    assert revisions(mounted, "/note.txt") == 2


def test_saving_twice_within_a_moment_is_one_revision(mounted: Mounted, note: Path) -> None:
    for text in ("a\n", "b\n", "c\n"):
        note.write_text(text)
    mounted.sync()
    assert revisions(mounted, "/note.txt") == 2
    assert mounted.server.content("/note.txt") == b"c\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small tree on the local disk."""
    folder = tmp_path / "source"
    for number in range(60):
        path = folder / f"d{number % 4}" / f"e{number % 3}" / f"file {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * number)
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    (folder / "empty folder").mkdir()
    (folder / "d0" / "run").write_text("#!/bin/sh\n")
    (folder / "d0" / "run").chmod(0o755)
    return folder


def test_a_tree_copied_moved_and_removed_is_so_on_the_server(
    mounted: Mounted, source: Path
) -> None:
    works("cp", "-r", source, mounted.path / "tree")
    assert works("diff", "-r", source, mounted.path / "tree") == ""
    mounted.sync()
    assert len(mounted.server.tree()) == len(list(source.rglob("*"))) + 1
    works("mv", mounted.path / "tree", mounted.path / "moved")
    works("cp", "-r", mounted.path / "moved", mounted.path / "copy")
    works("rm", "-r", mounted.path / "moved" / "d1")
    mounted.sync()
    assert works("diff", "-r", source, mounted.path / "copy") == ""
    works("rm", "-r", mounted.path / "moved")
    assert os.listdir(mounted.path) == ["copy"]
    mounted.sync()
    assert len(mounted.server.tree()) == len(list(source.rglob("*"))) + 1


def test_mv_into_and_out_of_the_mount_moves_the_bytes(mounted: Mounted, source: Path) -> None:
    works("mv", source / "d0", mounted.path / "d0")
    assert not (source / "d0").exists()
    mounted.sync()
    works("mv", mounted.path / "d0", source / "back")
    assert (source / "back" / "run").read_text() == "#!/bin/sh\n"
    mounted.sync()
    assert mounted.server.tree() == []


def test_df_and_find_and_du_work(mounted: Mounted, source: Path) -> None:
    works("cp", "-r", source, mounted.path / "tree")
    assert "dbxfs" in works("df", mounted.path)
    assert len(works("find", mounted.path / "tree").splitlines()) == 1 + len(
        list(source.rglob("*"))
    )
    assert int(works("du", "-s", mounted.path).split()[0]) > 0
