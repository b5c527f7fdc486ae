"""Copying and packing: rsync, tar, cp -a, zip, and find that looks for what is newer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mount.mounted import needs, run, works
from tests.programs.conftest import Both
from tests.programs.outcome import Desk, in_order

LONG_AGO = 1_000_000_000


def original(folder: Path) -> Path:
    """A tree with all that a copy should keep: modes, times, links, attributes, holes, odd names.

    The same each time, to the nanosecond.
    """
    for number in range(40):
        path = folder / f"d{number % 4}" / f"e{number % 3}" / f"file {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * number * 7)
    odd = folder / "odd"
    odd.mkdir()
    for name in (
        "-n",
        "new\nline",
        "späß",
        "a'b\"c",
        "#x#",
        "*?[",
        "ü" * 120,
        ".hidden",
        "e\u0301",
    ):
        (odd / name).write_text(name)
    (folder / "empty folder").mkdir(mode=0o750)
    modes = folder / "modes"
    modes.mkdir()
    for mode in (0o400, 0o444, 0o600, 0o640, 0o664, 0o700, 0o755, 0o777, 0o000):
        (modes / f"{mode:o}").write_text("x")
        (modes / f"{mode:o}").chmod(mode)
    links = folder / "links"
    links.mkdir()
    for name, target in (
        ("file", "../d0"),
        ("nowhere", "no/where"),
        ("up", ".."),
        ("self", "self"),
    ):
        (links / name).symlink_to(target)
    with (folder / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(3_000_000)
        file.write(b"end")
        file.truncate(5_000_000)
    (folder / "tagged").write_bytes(b"tagged")
    for path in (folder / "tagged", folder / "d1"):
        os.setxattr(path, "user.colour", b"red\0and\xff")
        os.setxattr(path, "user.empty", b"")
    for number, path in enumerate([*sorted(folder.rglob("*"), reverse=True), folder]):
        moment = (LONG_AGO + number) * 10**9 + 123_456_789
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    return folder


@needs("rsync")
@pytest.mark.timeout(120)
def test_rsync_with_all_attributes_is_exact_and_has_nothing_to_do_the_second_time(
    both: Both,
) -> None:
    def work(desk: Desk) -> None:
        source = original(desk.spare / "source")
        copy = ("rsync", "-aHAX", "--checksum", "--itemize-changes")
        desk.run(*copy, f"{source}/", "tree/")
        assert desk.run(*copy, f"{source}/", "tree/") == ""
        (source / "d0" / "e0" / "file 0.txt").write_text("changed")
        os.utime(source / "d0" / "e0" / "file 0.txt", (LONG_AGO, LONG_AGO))
        (source / "d1" / "e1" / "file 1.txt").unlink()
        (source / "modes" / "600").chmod(0o611)
        os.setxattr(source / "tagged", "user.colour", b"blue")
        os.utime(source / "d1" / "e1", (LONG_AGO, LONG_AGO))
        desk.run(*copy, "--delete", f"{source}/", "tree/")
        assert desk.run(*copy, "--delete", f"{source}/", "tree/") == ""
        desk.run("rsync", "-aHAX", "--inplace", "--checksum", "tree/", "inside/")
        desk.run("rsync", "-aHAX", "tree/", f"{desk.spare}/back/")
        said = desk.run(*copy, "--delete", f"{source}/", f"{desk.spare}/back/")
        assert said == ""

    both(work)
    mounted = both.mounted
    tree = mounted.path / both.name / "tree"
    source = mounted.folder / "spare-mount" / both.name / "source"
    with mounted.requests() as made:
        assert works("rsync", "-aiX", f"{source}/", f"{tree}/") == ""
        mounted.sync()
    assert made == {}


def test_an_archive_by_tar_of_the_mount_is_the_one_of_the_disk_byte_by_byte(both: Both) -> None:
    """The archives name no times of access, and no process."""
    pack = (
        *("tar", "--format=pax", "--sort=name", "--xattrs", "--xattrs-include=user.*"),
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    )

    def work(desk: Desk) -> None:
        source = original(desk.spare / "source")
        first, second = desk.spare / "first.tar", desk.spare / "second.tar"
        desk.run(*pack, "-cf", first, "-C", source, ".")
        (desk.folder / "out").mkdir()
        desk.run("tar", "--xattrs", "--xattrs-include=user.*", "-xpf", first, "-C", "out")
        desk.run(*pack, "-cf", second, "-C", desk.folder / "out", ".")
        desk.run("cmp", first, second)
        desk.run(*pack, "-czf", "inside.tgz", "-C", desk.folder / "out", ".")
        desk.run("tar", "-tvzf", "inside.tgz")
        desk.run("tar", "--compare", "-f", first, "-C", "out")

    both(work)


def test_cp_a_keeps_all_and_finds_holes(both: Both) -> None:
    def work(desk: Desk) -> None:
        source = original(desk.spare / "source")
        desk.run("cp", "-a", "--sparse=always", source, "tree")
        desk.run("cp", "-a", "--sparse=always", "tree", "again")
        desk.run("cp", "-a", "again", desk.spare / "back")
        desk.run("diff", "-r", "--no-dereference", source, "again")
        desk.run("diff", "-r", "--no-dereference", source, desk.spare / "back")
        desk.run("cp", "-a", "--reflink=auto", "tree/sparse", "reflink")

    both(work)


def test_hard_links_are_refused_and_copies_without_them_are_complete(both: Both) -> None:
    """Dropbox has none, so what insists on them fails, and says so."""

    def work(desk: Desk) -> None:
        source = desk.spare / "source"
        source.mkdir()
        (source / "one").write_text("the same")
        os.link(source / "one", source / "two")
        desk.run("cp", "-r", "--preserve=mode,timestamps", source, "by cp")
        desk.run("rsync", "-a", f"{source}/", "by rsync/")

    both(work)
    source = both.mounted.folder / "spare-mount" / both.name / "source"
    folder = both.mounted.path / both.name
    for program, status, said in (
        (("rsync", "-aH", f"{source}/", f"{folder}/h/"), 23, "Operation not permitted (1)"),
        (("cp", "-a", source, folder / "cp"), 1, "Operation not permitted"),
    ):
        done = run(*program)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr


@needs("zip")
@needs("unzip")
def test_zip_and_unzip_keep_contents_modes_and_times(both: Both) -> None:
    def work(desk: Desk) -> None:
        source = original(desk.spare / "source")
        for path in (source / "odd" / "new\nline", source / "modes" / "0"):
            path.unlink()
            os.utime(path.parent, (LONG_AGO, LONG_AGO))
        desk.run("cp", "-a", source, "tree")
        # Without -X it notes the times of access, which are not kept.
        desk.run("zip", "-q", "-r", "-y", "-X", "tree.zip", "tree")
        desk.run("unzip", "-tq", "tree.zip")
        desk.run("unzip", "-q", "tree.zip", "-d", "out")
        desk.run("diff", "-r", "--no-dereference", "tree", "out/tree")
        (desk.folder / "tree" / "tagged").write_text("freshened")
        os.utime(desk.folder / "tree" / "tagged", (LONG_AGO * 1.5, LONG_AGO * 1.5))
        desk.run("zip", "-q", "-X", "-f", "tree.zip", "tree/tagged")
        desk.run("zip", "-q", "-d", "tree.zip", "tree/sparse")
        desk.run("unzip", "-Zl", "tree.zip", said=in_order)
        desk.run("unzip", "-tq", "tree.zip")

    both(work, unlike={"tree.zip": "holds the files in the order in which folders list them"})


def test_find_tells_what_is_newer(both: Both) -> None:
    def work(desk: Desk) -> None:
        def find(*expression: str) -> None:
            desk.run("find", "tree", *expression, said=in_order)

        top = original(desk.folder / "tree")
        find("-newer", "tree/tagged")
        find("-newermt", "@1000000030.123456789")
        find("-newermt", "@1000000030.123456788")
        desk.run("touch", "mark")
        find("-newer", "mark")
        (top / "d0" / "new").write_text("new")
        (top / "d1" / "e0" / "file 9.txt").write_text("changed")
        (top / "tagged").rename(top / "d2" / "moved")
        find("-newer", "mark")
        find("-cnewer", "mark", "-type", "f")
        find("-mmin", "-5")
        find("-type", "l", "-printf", "%p %l %m\n")
        find("-perm", "-u+x", "-type", "f")
        find("-size", "+100c", "-type", "f")
        find("-empty")

    both(work)


def test_another_machine_sees_all_that_was_copied(both: Both) -> None:
    both.seen_from_another_machine()
