"""Which operations tell watchers of what the feed brought, and whom they concern."""

from __future__ import annotations

import pytest

from dbxfs.fs.echoes import Appear, Move, Operation, Rewrite, Touch, Vanish, concerns, plan
from dbxfs.store.inode import Attributes, Content, Effect, Entry, Moved

FOLDER, OTHER, INO = 2, 3, 7
A, B, THERE = (FOLDER, "a"), (FOLDER, "b"), (OTHER, "a")


def moved(source: tuple[int, str] | None, target: tuple[int, str] | None, ino: int = INO) -> Moved:
    return Moved(ino, False, source, target)


@pytest.mark.parametrize(
    ("effects", "operations"),
    [
        ([], []),
        ([Entry(FOLDER, "a")], []),
        ([Entry(FOLDER, "a"), moved(None, A)], [Appear(INO, A)]),
        ([moved(A, None)], [Vanish(INO, False, A)]),
        ([Moved(INO, True, A, None)], [Vanish(INO, True, A)]),
        ([moved(A, B)], [Move(INO, A, B)]),
        ([moved(A, THERE)], [Move(INO, A, THERE)]),
        ([Content(INO)], [Rewrite(INO)]),
        ([Content(INO), Content(INO), Attributes(INO)], [Rewrite(INO)]),
        ([Attributes(INO)], [Touch(INO)]),
        # It came with its content and its times, or went with them.
        ([Content(INO), Attributes(INO), moved(None, A)], [Appear(INO, A)]),
        ([Content(INO), moved(A, None)], [Vanish(INO, False, A)]),
        # It moved and was changed.
        ([Content(INO), moved(A, B)], [Move(INO, A, B), Rewrite(INO)]),
        # Replaced: the old one goes before the new one comes.
        ([moved(A, None), moved(None, A, 8)], [Vanish(INO, False, A), Appear(8, A)]),
        ([moved(A, None), moved(B, A, 8)], [Vanish(INO, False, A), Move(8, B, A)]),
        # A removed folder: only itself is told, and what left it before has come from nowhere.
        (
            [Moved(OTHER, True, A, None), moved(THERE, None), moved((OTHER, "b"), B, 8)],
            [Vanish(OTHER, True, A), Appear(8, B)],
        ),
    ],
)
def test_changes_are_told_by_operations(effects: list[Effect], operations: list[Operation]) -> None:
    assert plan(effects) == operations


@pytest.mark.parametrize(
    ("operation", "watched", "concerned"),
    [
        (Appear(INO, A), {FOLDER}, True),
        (Appear(INO, A), {INO, OTHER}, False),
        (Vanish(INO, False, A), {FOLDER}, True),
        # The kernel tells it by itself when the entry is dropped.
        (Vanish(INO, False, A), {INO}, False),
        (Move(INO, A, THERE), {FOLDER}, True),
        (Move(INO, A, THERE), {OTHER}, True),
        (Move(INO, A, THERE), {INO}, True),
        (Move(INO, A, THERE), {1}, False),
        (Rewrite(INO), {INO}, True),
        (Rewrite(INO), {FOLDER}, True),
        (Rewrite(INO), {OTHER}, False),
        (Touch(INO), {FOLDER}, True),
        (Touch(INO), set(), False),
    ],
)
def test_only_what_is_watched_concerns_anybody(
    operation: Operation, watched: set[int], concerned: bool
) -> None:
    assert concerns(operation, watched, {INO: FOLDER}.get) is concerned
