"""Names that differ in case or composition only: one file, found by all of them.

The kernel tells them apart, Dropbox does not; what one of them does must be seen by the others.
"""

from __future__ import annotations

import errno
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.folders import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.mount.mounted import Mounted, eventually, python, refused, run, works

NFC, NFD = "Grün.txt", unicodedata.normalize("NFD", "Grün.txt")


def write(path: str, text: str) -> dict[str, Any]:
    """An edit that writes."""
    return {"op": "write", "path": path, "text": text}


def gone(path: Path) -> bool:
    """Whether nothing is found there."""
    return not os.path.lexists(path)


# ---- One file ----


def test_every_spelling_is_the_same_file(mounted: Mounted) -> None:
    path = mounted.path / "Name.txt"
    path.write_text("one")
    for spelling in ("name.txt", "NAME.TXT", "nAmE.tXt"):
        other = mounted.path / spelling
        assert os.path.samefile(path, other)
        assert run("test", path, "-ef", other).returncode == 0
        with other.open("a") as file:
            file.write("+")
    assert path.read_text() == "one+++"
    assert os.listdir(mounted.path) == ["Name.txt"]


@pytest.mark.parametrize(("stored", "other"), [(NFC, NFD), (NFD, NFC)])
def test_composed_and_decomposed_accents_are_the_same_name(
    mounted: Mounted, stored: str, other: str
) -> None:
    (mounted.path / stored).write_text("g")
    assert (mounted.path / other).read_text() == "g"
    assert os.listdir(mounted.path) == [stored]
    with pytest.raises(FileExistsError):
        (mounted.path / other).open("x")
    mounted.sync()
    (mounted.path / other).unlink()
    assert os.listdir(mounted.path) == []


def test_what_dropbox_tells_apart_are_two_files(mounted: Mounted) -> None:
    for name in ("straße", "strasse"):
        (mounted.path / name).write_text(name)
    assert (mounted.path / "STRASSE").read_text() == "strasse"
    assert len(os.listdir(mounted.path)) == 2


def test_nothing_is_made_beside_another_spelling(mounted: Mounted) -> None:
    (mounted.path / "file").write_text("f")
    (mounted.path / "folder").mkdir()
    attempts: list[Callable[[], object]] = [
        lambda: (mounted.path / "FILE").open("x"),
        lambda: os.open(mounted.path / "FOLDER", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        lambda: os.mkdir(mounted.path / "File"),
        lambda: os.mkdir(mounted.path / "Folder"),
        lambda: os.mknod(mounted.path / "FILE"),
        lambda: os.symlink("x", mounted.path / "FILE"),
        lambda: renameat2(mounted.path / "folder", mounted.path / "FILE", RENAME_NOREPLACE),
        lambda: renameat2(mounted.path / "file", mounted.path / "FOLDER", RENAME_NOREPLACE),
    ]
    for attempt in attempts:
        with pytest.raises(FileExistsError):
            attempt()
    assert sorted(os.listdir(mounted.path)) == ["file", "folder"]
    assert (mounted.path / "file").read_text() == "f"


def test_copying_a_file_to_another_spelling_of_itself_harms_nothing(mounted: Mounted) -> None:
    (mounted.path / "a").write_text("content")
    done = run("cp", mounted.path / "a", mounted.path / "A")
    assert "same file" in done.stderr
    assert (mounted.path / "a").read_text() == "content"


def test_a_path_through_folders_in_other_spellings(mounted: Mounted) -> None:
    deep = mounted.path / "One" / "Two" / "Three"
    deep.mkdir(parents=True)
    (mounted.path / "ONE" / "two" / "THREE" / "File").write_text("f")
    assert (mounted.path / "one/TWO/three/FILE").read_text() == "f"
    os.rename(mounted.path / "one/TWO/three/FILE", mounted.path / "ONE/moved")
    assert (mounted.path / "One" / "moved").read_text() == "f"
    assert works("sh", "-c", "cd ONE/TWO && cat ../MOVED", cwd=mounted.path) == "f"
    mounted.sync()
    assert mounted.server.paths() == ["/One", "/One/Two", "/One/Two/Three", "/One/moved"]


def test_git_finds_out_that_case_is_ignored(mounted: Mounted) -> None:
    repository = mounted.path / "repository"
    works("git", "init", "-q", repository, env=mounted.env)
    said = works("git", "config", "core.ignorecase", cwd=repository, env=mounted.env)
    assert said == "true\n"
    shutil.rmtree(repository)


# ---- A change of case alone ----


def ids(mounted: Mounted) -> dict[str, str]:
    """Dropbox's ids by lowered path."""
    return {entry["path"].lower(): entry["id"] for entry in mounted.server.tree()}


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_mv_changes_the_case_of_a_name(mounted: Mounted, folder: bool, looked_at: bool) -> None:
    old, new = mounted.path / "readme", mounted.path / "README"
    inside = old
    if folder:
        old.mkdir()
        inside = old / "inside"
    inside.write_text("r")
    mounted.sync()
    before, number = ids(mounted), os.stat(old).st_ino
    if looked_at:
        assert os.stat(new).st_ino == number
    works("mv", old, new)
    assert os.listdir(mounted.path) == ["README"]
    assert os.stat(new).st_ino == number
    assert os.path.samefile(old, new)
    mounted.sync()
    assert ids(mounted) == before
    assert "/README" in mounted.server.paths()
    mounted.remount()
    assert os.listdir(mounted.path) == ["README"]
    assert (mounted.path / "readme" / "inside" if folder else new).read_text() == "r"


def test_programs_change_the_case_of_a_name(mounted: Mounted) -> None:
    """By rename(2) and renameat2(2), at once and after a look at the new name."""
    name = mounted.path / "a"
    name.write_text("a")
    for spelling, rename in (
        ("A", os.rename),
        ("a", lambda old, new: renameat2(old, new, 0)),
        ("A", lambda old, new: renameat2(old, new, RENAME_NOREPLACE)),
        ("a", shutil.move),
    ):
        assert (mounted.path / spelling).exists()
        new = mounted.path / spelling
        rename(str(name), str(new)) if rename is shutil.move else rename(name, new)
        assert os.listdir(mounted.path) == [spelling]
        name = new
    with pytest.raises(FileExistsError):
        renameat2(name, name, RENAME_NOREPLACE)
    assert (mounted.path / "A").read_text() == "a"


def test_the_case_changes_from_within_a_folder_and_of_a_folder_one_is_in(mounted: Mounted) -> None:
    (mounted.path / "docs").mkdir()
    (mounted.path / "docs" / "b").write_text("b")
    said = works("sh", "-ec", "cd docs; mv b B; mv ../docs ../Docs; ls; /bin/pwd", cwd=mounted.path)
    assert said == f"B\n{mounted.path}/Docs\n"
    mounted.sync()
    assert mounted.server.paths() == ["/Docs", "/Docs/B"]


def test_composition_changes_like_case(mounted: Mounted) -> None:
    (mounted.path / NFD).write_text("g")
    mounted.sync()
    works("mv", mounted.path / NFD, mounted.path / NFC)
    assert os.listdir(mounted.path) == [NFC]
    mounted.sync()
    assert mounted.server.paths() == [f"/{NFC}"]


def test_git_mv_changes_the_case_of_a_name(mounted: Mounted) -> None:
    repository = mounted.path / "repository"
    works("git", "init", "-q", repository, env=mounted.env)
    (repository / "file").write_text("f")
    works("git", "add", "file", cwd=repository, env=mounted.env)
    works("git", "mv", "file", "File", cwd=repository, env=mounted.env)
    assert sorted(os.listdir(repository)) == [".git", "File"]
    assert works("git", "ls-files", cwd=repository, env=mounted.env) == "File\n"
    shutil.rmtree(repository)


def test_an_open_file_changes_the_case_of_its_name(mounted: Mounted) -> None:
    with (mounted.path / "log").open("w", buffering=1) as file:
        file.write("one\n")
        os.rename(mounted.path / "log", mounted.path / "LOG")
        file.write("two\n")
    assert (mounted.path / "LOG").read_text() == "one\ntwo\n"
    assert os.listdir(mounted.path) == ["LOG"]


def test_a_rename_by_way_of_folders_in_other_spellings(mounted: Mounted) -> None:
    """A folder on the way is there, whatever the rename itself is about."""
    (mounted.path / "docs").mkdir()
    (mounted.path / "docs" / "a").write_text("a")
    python("import os, sys; os.chdir(sys.argv[1]); os.rename('DOCS/a', 'Docs/b')", mounted.path)
    assert os.listdir(mounted.path / "docs") == ["b"]
    os.rename(mounted.path / "DOCS" / "B", mounted.path / "dOCs" / "B")
    assert os.listdir(mounted.path / "docs") == ["b"]
    works("mv", mounted.path / "DOCS" / "b", mounted.path / "dOCs" / "B")
    assert os.listdir(mounted.path / "docs") == ["B"]
    (mounted.path / "docs" / "docs").mkdir()
    os.rename(mounted.path / "DOCS" / "docs", mounted.path / "docs" / "Docs")
    assert sorted(os.listdir(mounted.path / "docs")) == ["B", "Docs"]


# ---- Another file under another spelling ----


def test_rename_over_another_spelling_replaces_and_has_the_new_one(mounted: Mounted) -> None:
    for looked_at in (False, True):
        (mounted.path / "target").write_text("old")
        (mounted.path / "source").write_text("new")
        mounted.sync()
        if looked_at:
            os.stat(mounted.path / "TARGET")
        with (mounted.path / "target").open() as held:
            os.rename(mounted.path / "source", mounted.path / "TARGET")
            assert os.fstat(held.fileno()).st_nlink == 0
            assert held.read() == "old"
        assert os.listdir(mounted.path) == ["TARGET"]
        eventually(lambda: (mounted.path / "target").read_text() == "new")
        mounted.sync()
        assert mounted.server.paths() == ["/TARGET"]
        (mounted.path / "TARGET").unlink()


def test_a_move_onto_the_same_name_in_another_folder_in_another_case(mounted: Mounted) -> None:
    for name in ("one", "two"):
        (mounted.path / name).mkdir()
    (mounted.path / "one" / "file").write_text("one")
    (mounted.path / "two" / "file").write_text("two")
    with pytest.raises(FileExistsError):
        renameat2(mounted.path / "one/file", mounted.path / "two/FILE", RENAME_NOREPLACE)
    with (mounted.path / "two" / "file").open() as held:
        works("mv", mounted.path / "one/file", mounted.path / "two/FILE")
        eventually(lambda: os.fstat(held.fileno()).st_nlink == 0)
    assert os.listdir(mounted.path / "two") == ["FILE"]
    eventually(lambda: (mounted.path / "two" / "file").read_text() == "one")


def test_exchange_with_another_spelling(mounted: Mounted) -> None:
    (mounted.path / "a").write_text("a")
    (mounted.path / "b").write_text("b")
    renameat2(mounted.path / "A", mounted.path / "B", RENAME_EXCHANGE)
    assert (mounted.path / "A").read_text() == "b"
    assert sorted(os.listdir(mounted.path)) == ["A", "B"]
    eventually(lambda: (mounted.path / "a").read_text() == "b")


# ---- Nothing lives on ----


@pytest.mark.parametrize("looked_at", ["name", "NAME"])
@pytest.mark.parametrize("removed", ["name", "NAME", "Name"])
def test_what_is_unlinked_is_gone_by_every_spelling(
    mounted: Mounted, looked_at: str, removed: str
) -> None:
    # No spelling has been looked for before.
    folder = mounted.path / f"{looked_at} {removed}"
    folder.mkdir()
    (folder / "name").write_text("n")
    eventually(lambda: os.stat(folder / looked_at))
    os.unlink(folder / removed)
    for spelling in ("name", "NAME", "Name"):
        eventually(lambda spelling=spelling: gone(folder / spelling), what=spelling)
    (folder / "name").mkdir()
    for spelling in ("name", "NAME", "Name"):
        eventually(lambda spelling=spelling: (folder / spelling).is_dir(), what=spelling)
    os.stat(folder / looked_at)
    os.rmdir(folder / removed)
    for spelling in ("name", "NAME", "Name"):
        eventually(lambda spelling=spelling: gone(folder / spelling), what=spelling)


def test_what_is_removed_by_its_own_spelling_is_gone_by_others_at_once(mounted: Mounted) -> None:
    for _ in range(50):
        (mounted.path / "name").write_text("n")
        eventually(lambda: os.stat(mounted.path / "NAME"))
        os.unlink(mounted.path / "name")
        assert gone(mounted.path / "NAME")


def test_what_was_missed_and_is_made_in_another_spelling_is_opened_at_once(
    mounted: Mounted,
) -> None:
    """The kernel still takes the name for free when it is to be opened or made."""
    for _ in range(50):
        assert gone(mounted.path / "NAME")
        (mounted.path / "name").write_text("n")
        with (mounted.path / "NAME").open("a") as file:
            file.write("+")
        assert (mounted.path / "name").read_text() == "n+"
        with pytest.raises(FileExistsError):
            (mounted.path / "NAME").open("x")
        os.unlink(mounted.path / "name")


def test_a_stale_spelling_opens_nothing_that_the_mode_forbids(mounted: Mounted) -> None:
    """What is opened instead of made is checked like anything that is opened."""
    flags = os.O_CREAT | os.O_WRONLY
    for _ in range(20):
        assert gone(mounted.path / "NAME")
        (mounted.path / "name").mkdir()
        with refused(errno.EISDIR):
            os.open(mounted.path / "NAME", flags)
        os.rmdir(mounted.path / "name")


def test_what_is_renamed_is_gone_by_every_old_spelling(mounted: Mounted) -> None:
    (mounted.path / "old").write_text("o")
    for spelling in ("old", "OLD"):
        os.stat(mounted.path / spelling)
    os.rename(mounted.path / "Old", mounted.path / "new")
    for spelling in ("old", "OLD", "Old"):
        eventually(lambda spelling=spelling: gone(mounted.path / spelling), what=spelling)
    assert (mounted.path / "NEW").read_text() == "o"


@pytest.mark.parametrize("folder", [False, True])
def test_changes_elsewhere_are_seen_by_every_spelling(mounted: Mounted, folder: bool) -> None:
    spellings = [mounted.path / name for name in ("name", "NAME", "Name")]
    inside = "/inside" if folder else ""
    mounted.server.edit([write(f"/name{inside}", "first")])
    mounted.sync()
    for path in spellings:
        assert Path(f"{path}{inside}").read_text() == "first"
    mounted.server.edit([write(f"/name{inside}", "second")])
    for path in spellings:
        eventually(lambda path=path: Path(f"{path}{inside}").read_text() == "second")
    mounted.server.edit([{"op": "delete", "path": "/name"}])
    for path in spellings:
        eventually(lambda path=path: gone(path))
    mounted.server.edit([write(f"/NAME{inside}", "third")])
    for path in spellings:
        eventually(lambda path=path: Path(f"{path}{inside}").read_text() == "third")
    mounted.server.edit([{"op": "move", "from": "/NAME", "to": "/other"}])
    for path in spellings:
        eventually(lambda path=path: gone(path))
