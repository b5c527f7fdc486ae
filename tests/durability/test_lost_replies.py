"""Every fifth reply to a call that changes something is lost, while much is to be done.

The work is done each time, and the daemon cannot know. Afterwards the tree is exact, and what it
took is counted: the calls that the work needs, and those that the doubt cost.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability.ambush import EXPECTED, MIB, THOROUGH, WRITES, Twins
from tests.mount.mounted import Mounted

FILES = 500 if THOROUGH else 40
FOLDERS = 10
LOST = 0.2


def lost_so_far(mounted: Mounted) -> int:
    """How many replies the server has dropped since the faults were set."""
    return sum(fault["fired"] for fault in mounted.server.control("faults"))


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
    each = FILES // FOLDERS
    needed = {
        "files/upload": FILES,
        "files/create_folder_v2": FOLDERS,
        "files/move_v2": FOLDERS // 2 + each + 1,
        "files/delete_v2": 1 + each + 1,
        "session": 1 + math.ceil(10 * MIB / (8 * MIB)) + 1,
    }
    mounted.server.reset_counters()
    lost = 0
    for work in (copy_in, move, delete):
        mounted.server.faults(
            [{"route": route, "kind": "lost_reply", "probability": LOST} for route in WRITES]
        )
        twins.do(work)
        assert mounted.sync(200) == []
        lost += lost_so_far(mounted)
    requests = mounted.server.counters()["requests"]
    twins.settle()
    writes = sum(requests.get(route, 0) for route in WRITES)
    looks = requests["files/get_metadata"]
    minimum = sum(needed.values())
    print(f"{minimum} calls needed, {writes} made, {lost} replies lost, {looks} looks")
    assert lost > 0.5 * LOST * minimum, "too few were lost to test anything"
    assert writes <= minimum + lost, "more was repeated than what was in doubt"
    assert looks <= 2 * lost
