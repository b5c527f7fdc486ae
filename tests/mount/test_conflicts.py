"""Edited on both sides: nobody's work is lost, whoever was first.

The daemon is stopped, or the network is, while the other side is edited, so that both edits are
made from the same version.
"""

from __future__ import annotations

import os

import pytest

from tests.mount.mounted import Mounted, eventually


@pytest.fixture
def known(mounted: Mounted) -> Mounted:
    """The mount with a file both sides know."""
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "base"}])
    mounted.sync()
    assert (mounted.path / "a.txt").read_text() == "base"
    return mounted


def hold(mounted: Mounted, on: bool) -> None:
    """Let nothing through to Dropbox, or everything again; edits elsewhere go on."""
    mounted.announce("cannot be (followed|sent)", "failed: ")
    mounted.server.faults([{"route": "*", "kind": "reset"}] if on else [])


def texts(mounted: Mounted) -> dict[str, str]:
    """Name and content of all files at the top, as programs see them."""
    return {name: (mounted.path / name).read_text() for name in os.listdir(mounted.path)}


def test_edited_here_and_elsewhere_both_versions_exist(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").write_text("mine")
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: sorted(texts(mounted).values()) == ["mine", "theirs"], 3)
    assert texts(mounted)["a.txt"] == "theirs"
    (copy,) = set(texts(mounted)) - {"a.txt"}
    assert "conflicted copy" in copy
    assert mounted.server.content(f"/{copy}") == b"mine"


def test_edited_while_the_daemon_was_dead_both_versions_exist(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").write_text("mine")
    mounted.kill()
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs"}])
    hold(mounted, False)
    mounted.start()
    mounted.sync()
    eventually(lambda: sorted(texts(mounted).values()) == ["mine", "theirs"], 3)
    assert texts(mounted)["a.txt"] == "theirs"


def test_an_open_file_edited_elsewhere_before_it_is_written_becomes_a_conflict_or_follows(
    known: Mounted,
) -> None:
    """A program that has read "base" and writes later must not hide what came between."""
    mounted = known
    with (mounted.path / "a.txt").open("r+b", buffering=0) as file:
        assert file.read() == b"base"
        file.write(b" and mine")
        mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs"}])
        mounted.server.edit([{"op": "write", "path": "/wake", "text": ""}])
        eventually(lambda: os.stat(mounted.path / "wake"))
    mounted.sync()
    eventually(lambda: "theirs" in texts(mounted).values(), 3)
    assert "base and mine" in texts(mounted).values()


def test_edited_twice_here_while_edited_elsewhere_the_last_version_and_theirs_exist(
    known: Mounted,
) -> None:
    mounted = known
    hold(mounted, True)
    for text in ("mine 1", "mine 2", "mine 3"):
        (mounted.path / "a.txt").write_text(text)
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs 1"}])
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs 2"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: sorted(texts(mounted).values()) == ["mine 3", "theirs 2"], 3)


def test_the_same_edit_on_both_sides_is_no_conflict(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").write_text("the same")
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "the same"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: texts(mounted) == {"a.txt": "the same"}, 3)


def test_deleted_elsewhere_while_edited_here_the_local_version_stays(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").write_text("mine")
    mounted.server.edit([{"op": "delete", "path": "/a.txt"}])
    hold(mounted, False)
    mounted.sync()
    assert texts(mounted) == {"a.txt": "mine"}
    assert mounted.server.content("/a.txt") == b"mine"


def test_deleted_elsewhere_while_a_program_writes_the_local_version_stays(
    known: Mounted,
) -> None:
    mounted = known
    with (mounted.path / "a.txt").open("r+b", buffering=0) as file:
        file.write(b"mine")
        mounted.server.edit(
            [{"op": "delete", "path": "/a.txt"}, {"op": "write", "path": "/wake", "text": ""}]
        )
        eventually(lambda: os.stat(mounted.path / "wake"))
        file.write(b" goes on")
    mounted.sync()
    assert texts(mounted)["a.txt"] == "mine goes on"
    assert mounted.server.content("/a.txt") == b"mine goes on"


def test_a_folder_deleted_elsewhere_with_an_edited_file_in_it_keeps_that_file(
    mounted: Mounted,
) -> None:
    mounted.server.edit(
        [{"op": "write", "path": f"/d/e/{name}", "text": name} for name in ("one", "two")]
    )
    mounted.sync()
    hold(mounted, True)
    (mounted.path / "d" / "e" / "one").write_text("mine")
    mounted.server.edit([{"op": "delete", "path": "/d"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: os.listdir(mounted.path / "d" / "e") == ["one"], 3)
    assert mounted.server.content("/d/e/one") == b"mine"


def test_deleted_here_while_changed_elsewhere_the_remote_version_stays(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").unlink()
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: texts(mounted) == {"a.txt": "theirs"}, 3)
    assert mounted.server.content("/a.txt") == b"theirs"


def test_deleted_here_and_elsewhere_it_is_gone(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").unlink()
    mounted.server.edit([{"op": "delete", "path": "/a.txt"}])
    hold(mounted, False)
    mounted.sync()
    assert texts(mounted) == {}


def test_created_under_one_name_here_and_elsewhere_both_exist(mounted: Mounted) -> None:
    hold(mounted, True)
    (mounted.path / "New.txt").write_text("mine")
    mounted.server.edit([{"op": "write", "path": "/new.txt", "text": "theirs"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: sorted(texts(mounted).values()) == ["mine", "theirs"], 3)


def test_the_same_folder_made_here_and_elsewhere_is_one(mounted: Mounted) -> None:
    hold(mounted, True)
    (mounted.path / "d").mkdir()
    (mounted.path / "d" / "mine").write_text("m")
    mounted.server.edit([{"op": "write", "path": "/d/theirs", "text": "t"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: sorted(os.listdir(mounted.path / "d")) == ["mine", "theirs"], 3)
    assert mounted.server.paths() == ["/d", "/d/mine", "/d/theirs"]


def test_renamed_here_while_edited_elsewhere_has_the_new_name_and_content(
    known: Mounted,
) -> None:
    mounted = known
    hold(mounted, True)
    os.rename(mounted.path / "a.txt", mounted.path / "b.txt")
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: texts(mounted) == {"b.txt": "theirs"}, 3)


def test_edited_here_while_renamed_elsewhere_keeps_the_edit(known: Mounted) -> None:
    """At the new name if the feed is first; else the edit is a file of its own at the old one."""
    mounted = known
    hold(mounted, True)
    (mounted.path / "a.txt").write_text("mine")
    mounted.server.edit([{"op": "move", "from": "/a.txt", "to": "/b.txt"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: texts(mounted) in ({"b.txt": "mine"}, {"a.txt": "mine", "b.txt": "base"}), 3)


def test_renamed_differently_on_both_sides_loses_nothing(known: Mounted) -> None:
    mounted = known
    hold(mounted, True)
    os.rename(mounted.path / "a.txt", mounted.path / "mine.txt")
    mounted.server.edit([{"op": "move", "from": "/a.txt", "to": "/theirs.txt"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: list(texts(mounted).values()) == ["base"], 3)


def test_renamed_over_here_while_edited_elsewhere_both_contents_exist(known: Mounted) -> None:
    """An editor's save by rename meets an edit made elsewhere."""
    mounted = known
    hold(mounted, True)
    (mounted.path / "tmp").write_text("mine")
    os.rename(mounted.path / "tmp", mounted.path / "a.txt")
    mounted.server.edit([{"op": "write", "path": "/a.txt", "text": "theirs"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: sorted(texts(mounted).values()) == ["mine", "theirs"], 3)


def test_a_folder_renamed_here_while_files_come_elsewhere_has_them_all(mounted: Mounted) -> None:
    mounted.server.edit([{"op": "write", "path": "/d/one", "text": "1"}])
    mounted.sync()
    hold(mounted, True)
    os.rename(mounted.path / "d", mounted.path / "e")
    (mounted.path / "e" / "two").write_text("2")
    mounted.server.edit([{"op": "write", "path": "/d/three", "text": "3"}])
    hold(mounted, False)
    mounted.sync()
    eventually(
        lambda: (
            sorted(path.name for path in mounted.path.rglob("*") if path.is_file())
            == ["one", "three", "two"]
        ),
        3,
    )


def test_a_folder_removed_here_while_a_file_comes_elsewhere_keeps_that_file(
    mounted: Mounted,
) -> None:
    mounted.server.edit([{"op": "write", "path": "/d/one", "text": "1"}])
    mounted.sync()
    hold(mounted, True)
    (mounted.path / "d" / "one").unlink()
    (mounted.path / "d").rmdir()
    mounted.server.edit([{"op": "write", "path": "/d/two", "text": "2"}])
    hold(mounted, False)
    mounted.sync()
    eventually(lambda: (mounted.path / "d" / "two").read_text() == "2", 3)
