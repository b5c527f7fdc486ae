"""Many a reply to a call that changes something is lost, while much is to be done.

The work is done each time, and the daemon cannot know. Afterwards the tree is exact, and what it
took is counted: the calls that the work needs, and those that the doubt cost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability.ambush import EXPECTED, THOROUGH, WRITES, Twins
from tests.mount.mounted import Mounted

FILES = 500 if THOROUGH else 40
FOLDERS = 10
LOST = 0.3 if THOROUGH else 0.15
BATCHES = (
    "files/upload_session/finish_batch_v2",
    "files/move_batch_v2",
    "files/delete_batch",
)
"""One for each work."""


def lost_so_far(mounted: Mounted) -> int:
    """How many replies the server has dropped since the faults were set."""
    return sum(fault["fired"] for fault in mounted.server.control("faults"))


def losses() -> list[dict[str, object]]:
    """Replies are lost by chance, but the first one of each batch in any case."""
    batches = [{"route": route, "kind": "lost_reply", "count": 1} for route in BATCHES]
    chances = [{"route": route, "kind": "lost_reply", "probability": LOST} for route in WRITES]
    return [*batches, *chances]


def copy_in(root: Path) -> None:
    """Folders of small files, and a large one."""
    for number in range(FILES):
        folder = root / f"folder {number % FOLDERS}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(f"content {number}")
    (root / "large").write_bytes(bytes(range(256)) * 4 * 10 * 1024)


def move(root: Path) -> None:
    """Whole folders, and single files into them."""
    for number in range(0, FOLDERS, 2):
        os.rename(root / f"folder {number}", root / f"moved {number}")
    for number in range(1, FILES, 10):
        os.rename(root / f"folder 1/{number}.txt", root / f"moved 0/from 1, {number}.txt")
    os.rename(root / "large", root / "moved 2" / "large")


def delete(root: Path) -> None:
    """A folder, and single files."""
    shutil.rmtree(root / "folder 3")
    for number in range(5, FILES, 10):
        (root / f"folder 5/{number}.txt").unlink()
    (root / "moved 2" / "large").unlink()


@pytest.mark.timeout(420)
@pytest.mark.hangs_after(400)
def test_lost_replies_leave_an_exact_tree_and_cost_little(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    mounted = make_mount()
    mounted.announce(*EXPECTED)
    assert mounted.sync() == []
    plain = tmp_path / "plain"
    plain.mkdir()
    twins = Twins(mounted, plain)
    mounted.server.reset_counters()
    lost = 0
    for work in (copy_in, move, delete):
        mounted.server.faults(losses())
        twins.do(work)
        assert mounted.sync(200) == []
        lost += lost_so_far(mounted)
    requests = mounted.server.counters()["requests"]
    twins.settle()
    writes = sum(requests.get(route, 0) for route in WRITES)
    looks = requests["files/list_folder/continue"]
    print(f"{writes} calls made, {lost} replies lost, {looks} looks at the feed")
    assert lost >= 3, "one for each work at least"
    # Each work has a few rounds of at most four calls; a lost reply costs its round once more.
    assert writes <= 24 + 5 * lost
    assert looks <= 12 + 5 * lost
