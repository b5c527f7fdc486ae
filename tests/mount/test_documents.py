"""Online documents: files whose bytes Dropbox makes when somebody opens them."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embedded import Embedded

from .conftest import finish
from .mounted import Mounted, eventually, refused, run_in_background

TEXT = "".join(f"line {number} of a document\n" for number in range(20_000))
DATA = TEXT.encode()
SHOWN_WITHIN = 5.0


def make(mounted: Mounted, path: str = "/plan.paper", text: str = TEXT) -> Path:
    """A document that others write, and where it is seen."""
    mounted.server.control("document", {"path": path, "text": text})
    mounted.sync()
    return mounted.path / path[1:]


def remove(server: Embedded) -> None:
    """Both sides are compared after a test, and a document's size is not its export's."""
    paths = [entry["path"] for entry in server.tree() if entry["path"].endswith(".paper")]
    server.edit([{"op": "delete", "path": path} for path in paths])


@pytest.fixture
def plan(mounted: Mounted) -> Iterator[Path]:
    """A document in the mount."""
    yield make(mounted)
    mounted.server.faults()
    remove(mounted.server)


@pytest.fixture
def extended(make_mount: Any) -> Iterator[Mounted]:
    """A mount that shows the extensions of exports."""
    mounted: Mounted = make_mount(options=["export_extension"])
    yield mounted
    remove(mounted.server)
    finish(mounted)


def test_every_program_gets_the_whole_export(plan: Path, tmp_path: Path) -> None:
    assert plan.read_bytes() == DATA
    assert subprocess.run(["cat", plan], capture_output=True, check=True).stdout == DATA
    subprocess.run(["cp", plan, tmp_path / "copy"], check=True)
    assert (tmp_path / "copy").read_bytes() == DATA
    assert subprocess.run(["head", "-c9", plan], capture_output=True).stdout == DATA[:9]
    assert subprocess.run(["tail", "-c9", plan], capture_output=True).stdout == DATA[-9:]
    subprocess.run(["grep", "-q", "line 19999", plan], check=True)


@pytest.mark.parametrize("program", ["cp", "copyfile", "tar", "rsync"])
def test_a_copy_is_whole_the_first_time(plan: Path, tmp_path: Path, program: str) -> None:
    """Nobody has opened it yet, so its size is not known: it shall be when it is open."""
    copy = tmp_path / "plan.paper"
    match program:
        case "cp":
            subprocess.run(["cp", "-a", "--no-preserve=xattr", plan, copy], check=True)
        case "copyfile":
            shutil.copyfile(plan, copy)
        case "tar":
            archive = tmp_path / "a.tar"
            subprocess.run(["tar", "-C", plan.parent, "-cf", archive, plan.name], check=True)
            with tarfile.open(archive) as opened:
                opened.extract(plan.name, tmp_path, filter="data")
        case _:
            if shutil.which("rsync") is None:
                pytest.skip("there is no rsync")
            subprocess.run(["rsync", "-t", plan, copy], check=True)
    assert copy.read_bytes() == DATA


def test_a_copy_within_the_mount_is_an_ordinary_file(mounted: Mounted, plan: Path) -> None:
    subprocess.run(["cp", plan, mounted.path / "copy.md"], check=True)
    assert (mounted.path / "copy.md").read_bytes() == DATA
    mounted.sync()
    assert mounted.server.content("/copy.md") == DATA


def test_its_size_is_never_nought_and_the_exports_once_it_is_open(plan: Path) -> None:
    assert plan.stat().st_size > 0
    with plan.open("rb") as file:
        assert os.fstat(file.fileno()).st_size == len(DATA)
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
            assert mapped[-20:] == DATA[-20:]
    assert plan.stat().st_size == len(DATA)


def test_an_export_of_nothing_is_an_empty_file(mounted: Mounted, plan: Path) -> None:
    empty = make(mounted, "/empty.paper", "")
    assert empty.stat().st_size > 0
    assert empty.read_bytes() == b""


def test_it_cannot_be_written_or_replaced(mounted: Mounted, plan: Path) -> None:
    assert plan.stat().st_mode & 0o222 == 0
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with refused(errno.EACCES):
            os.open(plan, flags)
    with refused(errno.EACCES):
        os.truncate(plan, 0)
    (mounted.path / "new").write_text("mine")
    with refused(errno.EACCES):
        os.rename(mounted.path / "new", plan)
    assert (mounted.path / "new").read_text() == "mine"
    assert plan.read_bytes() == DATA


def test_those_who_have_it_open_share_one_export_and_later_ones_get_a_new_one(
    mounted: Mounted, plan: Path
) -> None:
    with mounted.requests() as made:
        with plan.open("rb") as one, plan.open("rb") as other:
            assert one.read() == other.read() == DATA
        assert made_of(mounted) == 1
        plan.read_bytes()
    assert made["files/export"] == 2


def made_of(mounted: Mounted) -> int:
    exports: int = mounted.server.counters()["requests"].get("files/export", 0)
    return exports


def test_what_others_write_is_seen_by_the_next_who_opens_it(mounted: Mounted, plan: Path) -> None:
    with plan.open("rb") as before:
        make(mounted, text="shorter")
        assert plan.read_bytes() == b"shorter"
        assert before.read() == DATA
    assert plan.stat().st_size == len(b"shorter")


def test_who_has_it_open_reads_on_when_it_is_gone(mounted: Mounted, plan: Path) -> None:
    with plan.open("rb") as file:
        assert file.read(10) == DATA[:10]
        mounted.server.edit([{"op": "delete", "path": "/plan.paper"}])
        mounted.sync()
        eventually(lambda: not plan.exists(), SHOWN_WITHIN, "the document being gone")
        assert file.read() == DATA[10:]


@pytest.mark.parametrize("kind", ["truncate", "garbage", "reset"])
def test_an_export_that_breaks_or_is_damaged_is_made_again(
    mounted: Mounted, plan: Path, kind: str
) -> None:
    mounted.server.faults([{"route": "files/export", "kind": kind, "count": 1}])
    assert plan.read_bytes() == DATA


def test_an_export_that_stays_damaged_is_an_error_and_never_shown(
    mounted: Mounted, plan: Path
) -> None:
    mounted.announce("another content hash", "open failed")
    mounted.server.faults([{"route": "files/export", "kind": "garbage"}])
    with refused(errno.EIO):
        plan.read_bytes()
    mounted.server.faults()
    assert plan.read_bytes() == DATA


def test_a_document_that_waits_for_the_network_disturbs_nobody(
    mounted: Mounted, plan: Path
) -> None:
    mounted.announce("cannot be followed")
    (mounted.path / "other").write_text("other")
    mounted.sync()
    mounted.server.faults([{"route": "files/export", "kind": "stall"}])
    reading = run_in_background(plan.read_bytes)
    eventually(lambda: made_of(mounted) > 0, SHOWN_WITHIN, "the export being asked for")
    assert (mounted.path / "other").read_text() == "other"
    assert plan.stat().st_size > 0
    mounted.server.faults()
    mounted.server.restart()
    assert reading() == DATA


def test_a_document_has_no_share_in_pins(mounted: Mounted, plan: Path) -> None:
    os.setxattr(mounted.path, "user.dbxfs.pin", b"1")
    assert mounted.status()["pinned"]["files"] == 0
    with refused(errno.ENODATA):
        os.getxattr(plan, "user.dbxfs.cached")
    os.removexattr(mounted.path, "user.dbxfs.pin")
    assert "online document" in mounted.dbxfs("status", str(plan)).stdout


def test_renaming_and_removing_reach_dropbox(mounted: Mounted, plan: Path) -> None:
    os.rename(plan, mounted.path / "moved.paper")
    mounted.sync()
    assert mounted.server.paths() == ["/moved.paper"]
    assert (mounted.path / "moved.paper").read_bytes() == DATA
    os.unlink(mounted.path / "moved.paper")
    mounted.sync()
    assert mounted.server.paths() == []


# ---- With the export's extension ----


def test_the_option_shows_the_exports_extension(extended: Mounted) -> None:
    make(extended, "/plan.paper")
    assert os.listdir(extended.path) == ["plan.paper.md"]
    assert (extended.path / "plan.paper.md").read_bytes() == DATA
    assert (extended.path / "PLAN.paper.MD").read_bytes() == DATA


def test_a_shown_name_can_be_renamed_and_removed(extended: Mounted) -> None:
    make(extended, "/plan.paper")
    os.rename(extended.path / "plan.paper.md", extended.path / "idea.paper.md")
    assert os.listdir(extended.path) == ["idea.paper.md"]
    assert not (extended.path / "plan.paper.md").exists()
    extended.sync()
    assert extended.server.paths() == ["/idea.paper"]
    (extended.path / "d").mkdir()
    os.rename(extended.path / "idea.paper.md", extended.path / "d/idea.paper.md")
    extended.sync()
    assert extended.server.paths() == ["/d", "/d/idea.paper"]
    os.unlink(extended.path / "d/idea.paper.md")
    assert os.listdir(extended.path / "d") == []
    extended.sync()
    assert extended.server.paths() == ["/d"]


def test_a_shown_name_follows_what_happens_elsewhere(extended: Mounted) -> None:
    shown = extended.path / "plan.paper.md"
    assert not shown.exists()
    make(extended, "/plan.paper")
    eventually(shown.exists, SHOWN_WITHIN, "the document being seen")
    extended.server.edit([{"op": "move", "from": "/plan.paper", "to": "/idea.paper"}])
    extended.sync()
    eventually(lambda: not shown.exists(), SHOWN_WITHIN, "the old name being gone")
    assert (extended.path / "idea.paper.md").read_bytes() == DATA
    extended.server.edit([{"op": "delete", "path": "/idea.paper"}])
    extended.sync()
    eventually(
        lambda: not (extended.path / "idea.paper.md").exists(), SHOWN_WITHIN, "it being gone"
    )
    assert os.listdir(extended.path) == []


def test_a_file_that_has_the_shown_name_keeps_it(extended: Mounted) -> None:
    shown = extended.path / "plan.paper.md"
    make(extended, "/plan.paper")
    assert shown.read_bytes() == DATA
    extended.server.edit([{"op": "write", "path": "/plan.paper.md", "text": "a file"}])
    extended.sync()
    eventually(lambda: shown.read_bytes() == b"a file", SHOWN_WITHIN, "the file being seen")
    assert sorted(os.listdir(extended.path)) == ["plan.paper", "plan.paper.md"]
    assert (extended.path / "plan.paper").read_bytes() == DATA
    os.unlink(shown)
    assert os.listdir(extended.path) == ["plan.paper.md"]
    assert shown.read_bytes() == DATA


def test_nothing_takes_a_shown_documents_place(extended: Mounted) -> None:
    make(extended, "/plan.paper")
    shown = extended.path / "plan.paper.md"
    (extended.path / "new").write_text("mine")
    with refused(errno.EACCES):
        os.rename(extended.path / "new", shown)
    with refused(errno.EACCES):
        shown.write_text("mine")
    with refused(errno.EEXIST):
        shown.mkdir()
    assert shown.read_bytes() == DATA
