"""Which reads are a walk through a folder, and how far ahead of it to fetch."""

from __future__ import annotations

from dbxfs.core.siblings import FORESEEN, MOST, Walk, follow, reach

FOLDER, OTHER = 5, 6
NAMES = "abcdefghij"


def walked(*inos: int, names: str = NAMES) -> Walk | None:
    """The walk over files of one folder; their names go by `names`, in order of inode number."""
    walk: Walk | None = Walk(FOLDER, inos[0], names[inos[0]])
    for ino in inos[1:]:
        if walk is not None:
            walk = follow(walk, FOLDER, ino, names[ino], foreseen=False)
    return walk


def far(walk: Walk | None) -> int:
    assert walk is not None
    return reach(walk)


def test_the_third_file_in_order_makes_a_walk() -> None:
    assert far(walked(1)) == 0
    assert far(walked(1, 2)) == 0
    assert far(walked(1, 2, 3)) > 0
    assert far(walked(1, 4, 9)) > 0


def test_the_order_may_be_that_of_the_names() -> None:
    walk = walked(7, 5, 2, names="jihgfedcba")
    assert far(walk) > 0
    assert walk is not None
    assert walk.by_name


def test_going_back_is_no_walk() -> None:
    assert walked(5, 3, 8) is None or far(walked(5, 3, 8)) == 0
    assert walked(1, 2, 3, 1) is None


def test_another_folder_is_another_walk_unless_it_was_foreseen() -> None:
    walk = walked(1, 2, 3)
    assert walk is not None
    assert follow(walk, OTHER, 20, "x", foreseen=False) is None
    gone_on = follow(walk, OTHER, 20, "x", foreseen=True)
    assert gone_on is not None
    assert reach(gone_on) > reach(walk)


def test_more_is_fetched_the_longer_it_goes_and_never_too_much() -> None:
    walk: Walk | None = Walk(FOLDER, 1, "a")
    before = 0
    for ino in range(2, 100):
        assert walk is not None
        walk = follow(walk, FOLDER, ino, "z", foreseen=ino > FORESEEN + 2)
        assert before <= far(walk) <= MOST
        before = far(walk)
    assert before == MOST


def test_reading_the_same_file_again_is_no_step() -> None:
    assert walked(1, 1) is None
