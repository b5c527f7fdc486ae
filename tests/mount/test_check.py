"""`dbxfs check` on a real mount: silent while all is well, exact about what is not, and repairs it.

The harm is done through connections of our own, behind the daemon's back, as a mistake of ours, a
disk or another program would.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbxfs.store.blocks import BLOCK
from tests.mount.agreement import hash_of
from tests.mount.mounted import Mounted, eventually


def harm(mounted: Mounted, statement: str, *values: object) -> None:
    """Change rows behind the daemon's back."""
    connection = sqlite3.connect(mounted.state / "tree.db", timeout=5)
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def spoil(mounted: Mounted, content: str, *, plausible: bool) -> None:
    """Flip a bit in the first cached block of a content, and in its checksum where `plausible`."""
    connection = sqlite3.connect(mounted.cache / "blocks" / "cache.db", timeout=5)
    query = "SELECT filename FROM Cache WHERE key = ?"
    # It is kept after the reader has got it.
    found = eventually(lambda: connection.execute(query, (f"{content}/0",)).fetchone(), 5)
    connection.close()
    name = found[0]
    raw = bytearray((mounted.cache / "blocks" / name).read_bytes())
    raw[1000] ^= 1
    if plausible:
        raw[-4:] = zlib.crc32(raw[:-4]).to_bytes(4, "little")
    (mounted.cache / "blocks" / name).write_bytes(raw)


def told(reply: dict[str, Any]) -> list[tuple[str, str]]:
    """Part and path of each finding."""
    return [(finding["part"], finding["path"]) for finding in reply["findings"]]


def populate(mounted: Mounted) -> None:
    """Some files from elsewhere, and one from here."""
    mounted.server.edit(
        [
            {"op": "write", "path": f"/docs/{name}.txt", "text": f"text of {name}"}
            for name in ("one", "two", "three")
        ]
    )
    mounted.sync()
    (mounted.path / "docs" / "here.txt").write_text("written here")
    assert mounted.sync() == []


def test_a_sound_mount_is_checked_clean_and_at_once(mounted: Mounted) -> None:
    populate(mounted)
    (mounted.path / "docs" / "one.txt").read_text()
    assert mounted.check() == {
        "findings": [],
        "more": False,
        "compared": True,
        "trouble": None,
        "pending": 0,
        "done": True,
    }
    took = []
    for _ in range(5):
        began = time.monotonic()
        mounted.check()
        took.append(time.monotonic() - began)
    print(f"a check of a small mount: {min(took) * 1000:.1f} ms")
    assert min(took) < 0.25


def test_the_command_says_that_all_agrees_and_exits_with_0(mounted: Mounted) -> None:
    populate(mounted)
    done = mounted.dbxfs("check", str(mounted.path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "All agrees.\n", "")
    done = mounted.dbxfs("check", "--json", str(mounted.path))
    assert done.returncode == 0
    assert json.loads(done.stdout)["findings"] == []


def test_the_command_names_what_differs_and_exits_with_1_until_it_is_repaired(
    mounted: Mounted,
) -> None:
    populate(mounted)
    harm(mounted, "UPDATE inode SET rev = 'abc', hash = 'def' WHERE name = 'two.txt'")
    done = mounted.dbxfs("check", str(mounted.path))
    assert done.returncode == 1
    assert done.stdout == (
        "/docs/two.txt: Dropbox has it otherwise than the mount knows: another revision, other"
        " content\n  --repair compares all with a new listing\n"
    )
    done = mounted.dbxfs("check", "--repair", str(mounted.path))
    assert done.returncode == 0
    assert done.stdout.endswith("\n  repaired\n")
    assert mounted.dbxfs("check", str(mounted.path)).returncode == 0


def test_changes_here_and_elsewhere_in_the_meantime_are_no_false_alarm(mounted: Mounted) -> None:
    populate(mounted)
    for number in range(20):
        mounted.server.edit(
            [{"op": "write", "path": f"/docs/{number}-{n}.txt", "text": "x"} for n in range(10)]
        )
        if number % 2:
            mounted.server.edit([{"op": "delete", "path": f"/docs/{number - 1}-3.txt"}])
        (mounted.path / "docs" / f"here-{number}").write_text("y" * number)
        if number % 4 == 3:
            (mounted.path / "docs" / f"here-{number}").rename(mounted.path / f"moved-{number}")
            (mounted.path / "docs" / f"here-{number - 1}").unlink()
        assert mounted.check()["findings"] == []


def test_work_under_way_is_no_false_alarm(mounted: Mounted) -> None:
    populate(mounted)
    with (mounted.path / "docs" / "one.txt").open("r+b") as opened:
        opened.write(b"half of")
        (mounted.path / "docs" / "two.txt").unlink()
        unlinked = (mounted.path / "gone.txt").open("w+b")
        with unlinked:
            unlinked.write(b"and still open")
            unlinked.flush()
            (mounted.path / "gone.txt").unlink()
            assert mounted.check()["findings"] == []
            unlinked.seek(0)
            assert unlinked.read() == b"and still open"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM inode WHERE name = 'two.txt'",
        "UPDATE inode SET base_name = 'TWO.txt', name = 'TWO.txt' WHERE name = 'two.txt'",
        "UPDATE inode SET id = 'id:wrong' WHERE name = 'two.txt'",
        "UPDATE inode SET hash = 'wrong', rev = 'ab12' WHERE name = 'two.txt'",
        "UPDATE inode SET size = 3, base_size = 3 WHERE name = 'two.txt'",
        "INSERT INTO inode (parent, name, key, kind, mtime_ns, ctime_ns, base_parent, base_name,"
        " base_key, id, rev, hash, base_size, seen) SELECT ino, 'ghost', 'ghost', 0, 0, 0, ino,"
        " 'ghost', 'ghost', 'id:ghost', 'ab13', 'x', 0, seen FROM inode WHERE name = 'docs'",
    ],
    ids=["missing", "spelling", "identity", "content", "size", "ghost"],
)
def test_what_the_mount_does_not_know_rightly_of_dropbox_is_told_and_listed_again(
    mounted: Mounted, statement: str
) -> None:
    populate(mounted)
    harm(mounted, statement)
    mounted.remount()
    mounted.sync()
    differing = mounted.check()
    assert {part for part, _ in told(differing)} == {"dropbox"}
    assert not any(finding["repaired"] for finding in differing["findings"])
    repaired = mounted.check(repair=True)
    assert told(repaired) == told(differing)
    assert all(finding["repaired"] for finding in repaired["findings"])
    assert mounted.check()["findings"] == []
    assert (mounted.path / "docs" / "two.txt").read_text() == "text of two"
    assert sorted(os.listdir(mounted.path / "docs")) == [
        "here.txt",
        "one.txt",
        "three.txt",
        "two.txt",
    ]


def test_a_change_that_was_forgotten_is_told_and_sent(mounted: Mounted) -> None:
    populate(mounted)
    harm(
        mounted,
        "UPDATE inode SET name = 'renamed.txt', key = 'renamed.txt' WHERE name = 'one.txt'",
    )
    mounted.remount()
    assert told(mounted.check()) == [("store", "/docs/renamed.txt")]
    assert mounted.check(repair=True)["findings"][0]["repaired"]
    assert mounted.sync() == []
    assert "/docs/renamed.txt" in mounted.server.paths()
    assert mounted.check()["findings"] == []


def test_notes_that_belong_to_nothing_are_told_and_removed(mounted: Mounted) -> None:
    populate(mounted)
    harm(mounted, "INSERT INTO journal (ino, since_ns, error) VALUES (99999, 0, 'held')")
    assert told(mounted.check()) == [("store", "(inode 99999)")]
    mounted.check(repair=True)
    assert mounted.check()["findings"] == []


def test_a_staging_file_of_nothing_is_kept_where_people_find_it(mounted: Mounted) -> None:
    populate(mounted)
    stray = mounted.state / "staging" / "stray"
    stray.write_bytes(b"somebody wrote this")
    assert told(mounted.check()) == [("store", "stray")]
    assert stray.exists()
    assert mounted.check(repair=True)["findings"][0]["repaired"]
    assert (mounted.state / "recovered" / "stray").read_bytes() == b"somebody wrote this"
    assert not stray.exists()


def test_a_staging_file_that_is_gone_is_told(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    populate(mounted)
    # What is being sent at the moment of a look is not looked at.
    assert mounted.dbxfs("pause", str(mounted.path)).returncode == 0
    mounted.server.stop()
    (mounted.path / "docs" / "one.txt").write_text("never to be sent")
    (mounted.path / "new.txt").write_text("this will be")
    for path in (mounted.state / "staging").iterdir():
        if path.read_bytes().startswith(b"never"):
            path.unlink()
    findings = mounted.check()["findings"]
    assert [finding["path"] for finding in findings] == ["/docs/one.txt"]
    assert "unmount and mount again" in findings[0]["remedy"]


@pytest.mark.parametrize("size", [700_000, 2 * BLOCK])
def test_a_cached_block_that_is_not_the_files_is_told_and_dropped(
    mounted: Mounted, size: int
) -> None:
    populate(mounted)
    mounted.server.edit([{"op": "write", "path": "/big", "text": "x" * size}])
    mounted.sync()
    content = (mounted.path / "big").read_bytes()
    spoil(mounted, hash_of(mounted.path / "big"), plausible=True)
    bad = mounted.check(full=True)
    assert told(bad) == [("cache", "/big")]
    assert mounted.check(full=True, repair=True)["findings"][0]["repaired"]
    assert mounted.check(full=True)["findings"] == []
    eventually(lambda: (mounted.path / "big").read_bytes() == content, 5, "the right bytes")


def test_wrong_bytes_that_were_read_already_are_not_read_again_after_the_repair(
    mounted: Mounted,
) -> None:
    populate(mounted)
    mounted.server.edit([{"op": "write", "path": "/big", "text": "x" * 2 * BLOCK}])
    mounted.sync()
    content = (mounted.path / "big").read_bytes()
    spoil(mounted, hash_of(mounted.path / "big"), plausible=True)
    mounted.unmount()
    mounted.start()
    assert (mounted.path / "big").read_bytes() != content
    assert mounted.check(full=True, repair=True)["findings"][0]["repaired"]
    eventually(lambda: (mounted.path / "big").read_bytes() == content, 5, "the right bytes")


def test_a_cached_block_that_the_disk_has_changed_is_told_and_gone(mounted: Mounted) -> None:
    populate(mounted)
    mounted.server.edit([{"op": "write", "path": "/big", "text": "y" * 700_000}])
    mounted.sync()
    content = (mounted.path / "big").read_bytes()
    spoil(mounted, hash_of(mounted.path / "big"), plausible=False)
    mounted.announce("the disk has changed a cached block")
    assert told(mounted.check(full=True)) == [("cache", "/big")]
    assert mounted.check(full=True)["findings"] == []
    assert (mounted.path / "big").read_bytes() == content


def test_offline_the_rest_is_checked_and_the_exit_status_says_that_it_is_not_all(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    mounted = make_mount()
    populate(mounted)
    mounted.server.stop()
    harm(mounted, "INSERT INTO journal (ino, since_ns) VALUES (99999, 0)")
    done = mounted.dbxfs("check", str(mounted.path), timeout=40)
    assert done.returncode == 1
    assert "(inode 99999): a note that belongs to nothing" in done.stdout
    assert "Dropbox was left out: " in done.stdout


def test_unmounting_does_not_wait_for_a_check(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    populate(mounted)
    mounted.server.network(round_trip_ms=3000)
    from dbxfs.cli.socket import NoAnswerError, ask

    replies = ask(mounted.state / "socket", "check", 20)
    assert "checking" in next(replies)
    began = time.monotonic()
    mounted.unmount()
    assert time.monotonic() - began < 4
    with pytest.raises(NoAnswerError):
        list(replies)
    assert mounted.trouble() == []
