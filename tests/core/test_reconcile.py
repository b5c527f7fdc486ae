"""What a remote change does to pending local ones: all combinations, as tables."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbxfs.core.names import MAX_LENGTH, problem
from dbxfs.core.reconcile import (
    Collision,
    Fate,
    Follow,
    Pending,
    conflicted_name,
    on_collision,
    on_deleted,
    on_entry,
)

N, Y = False, True
NOTHING = Follow(content=False, place=False)
CONTENT = Follow(content=True, place=False)
PLACE = Follow(content=False, place=True)
ALL = Follow(content=True, place=True)
REVIVED = Follow(content=True, place=True, revive=True)

# Pending content, place, deletion; the remote content changed.
ENTRIES = {
    (N, N, N, N): ALL,
    (N, N, N, Y): ALL,
    (N, N, Y, N): NOTHING,
    (N, N, Y, Y): REVIVED,
    (N, Y, N, N): CONTENT,
    (N, Y, N, Y): CONTENT,
    (N, Y, Y, N): NOTHING,
    (N, Y, Y, Y): REVIVED,
    (Y, N, N, N): PLACE,
    (Y, N, N, Y): PLACE,
    (Y, N, Y, N): NOTHING,
    (Y, N, Y, Y): REVIVED,
    (Y, Y, N, N): NOTHING,
    (Y, Y, N, Y): NOTHING,
    (Y, Y, Y, N): NOTHING,
    (Y, Y, Y, Y): REVIVED,
}

# Pending content, place, deletion; something in it has to stay.
DELETIONS = {
    (N, N, N, N): Fate.REMOVE,
    (N, N, N, Y): Fate.KEEP_AS_NEW,
    (N, N, Y, N): Fate.REMOVE,
    (N, N, Y, Y): Fate.REMOVE,
    (N, Y, N, N): Fate.KEEP_AS_NEW,
    (N, Y, N, Y): Fate.KEEP_AS_NEW,
    (N, Y, Y, N): Fate.REMOVE,
    (N, Y, Y, Y): Fate.REMOVE,
    (Y, N, N, N): Fate.KEEP_AS_NEW,
    (Y, N, N, Y): Fate.KEEP_AS_NEW,
    (Y, N, Y, N): Fate.REMOVE,
    (Y, N, Y, Y): Fate.REMOVE,
    (Y, Y, N, N): Fate.KEEP_AS_NEW,
    (Y, Y, N, Y): Fate.KEEP_AS_NEW,
    (Y, Y, Y, N): Fate.REMOVE,
    (Y, Y, Y, Y): Fate.REMOVE,
}

# Local folder, remote folder, the local one has a base, same content.
COLLISIONS = {
    (N, N, N, N): Collision.STEP_ASIDE,
    (N, N, N, Y): Collision.MERGE,
    (N, N, Y, N): Collision.STEP_ASIDE,
    (N, N, Y, Y): Collision.STEP_ASIDE,
    (N, Y, N, N): Collision.STEP_ASIDE,
    (N, Y, Y, N): Collision.STEP_ASIDE,
    (Y, N, N, N): Collision.STEP_ASIDE,
    (Y, N, Y, N): Collision.STEP_ASIDE,
    (Y, Y, N, N): Collision.MERGE,
    (Y, Y, Y, N): Collision.STEP_ASIDE,
}


def test_the_tables_leave_nothing_out() -> None:
    everything = set(product((N, Y), repeat=4))
    assert set(ENTRIES) == everything
    assert set(DELETIONS) == everything
    # Only two files can have the same content.
    assert set(COLLISIONS) == {row for row in everything if not (row[3] and (row[0] or row[1]))}


@pytest.mark.parametrize(("row", "expected"), ENTRIES.items())
def test_what_is_not_pending_follows_dropbox(
    row: tuple[bool, bool, bool, bool], expected: Follow
) -> None:
    content, place, deletion, changed = row
    pending = Pending(content=content, place=place, deletion=deletion)
    assert on_entry(pending, content_changed=changed) == expected


@pytest.mark.parametrize(("row", "expected"), DELETIONS.items())
def test_a_remote_deletion_takes_no_pending_content(
    row: tuple[bool, bool, bool, bool], expected: Fate
) -> None:
    content, place, deletion, survivors = row
    pending = Pending(content=content, place=place, deletion=deletion)
    assert on_deleted(pending, holds_survivors=survivors) is expected


@pytest.mark.parametrize(("row", "expected"), COLLISIONS.items())
def test_two_things_at_one_name_merge_or_the_local_one_steps_aside(
    row: tuple[bool, bool, bool, bool], expected: Collision
) -> None:
    local_folder, remote_folder, local_has_base, same_content = row
    verdict = on_collision(
        local_folder=local_folder,
        remote_folder=remote_folder,
        local_has_base=local_has_base,
        same_content=same_content,
    )
    assert verdict is expected


@pytest.mark.parametrize(
    ("name", "attempt", "expected"),
    [
        ("a.txt", 0, "a (conflicted copy).txt"),
        ("a.txt", 1, "a (conflicted copy 1).txt"),
        ("a.txt", 12, "a (conflicted copy 12).txt"),
        ("folder", 0, "folder (conflicted copy)"),
        (".profile", 0, ".profile (conflicted copy)"),
        ("x" * 251 + ".txt", 0, "x" * 233 + " (conflicted copy).txt"),
    ],
)
def test_what_steps_aside_is_named_as_dropbox_names_it(
    name: str, attempt: int, expected: str
) -> None:
    assert conflicted_name(name, attempt) == expected


@given(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=MAX_LENGTH).filter(
        lambda name: problem(name) is None
    ),
    st.integers(0, 10**6),
)
def test_each_attempt_is_another_name_that_dropbox_takes(name: str, attempt: int) -> None:
    aside = conflicted_name(name, attempt)
    assert problem(aside) is None
    assert aside not in (name, conflicted_name(name, attempt + 1))
