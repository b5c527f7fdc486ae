"""The next call for one pending inode: every branch, and what holds for all facts."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dbxfs.core.model import FileId, RemotePath, Rev, join
from dbxfs.core.names import MAX_LENGTH, marked, problem
from dbxfs.core.plan import (
    After,
    Bring,
    CreateFolder,
    Delete,
    Done,
    Facts,
    Hold,
    Move,
    Occupant,
    SetAttributes,
    Step,
    Upload,
    next_step,
    passing_place,
)

ROOT = RemotePath("")
DOCS = RemotePath("/docs")
PATH = RemotePath("/docs/a.txt")
ID = FileId("id:a")
REV = Rev("0a1")
OTHER_REV = Rev("0b2")
ROOT_INO, INO, FOLDER_INO, OTHER = 1, 7, 3, 9

OCCUPANTS = {
    "a file that programs still have": Occupant(OTHER, leaving=False, rev=OTHER_REV),
    "an unlinked file": Occupant(OTHER, leaving=True, rev=OTHER_REV),
    "a folder that programs still have": Occupant(OTHER, leaving=False, rev=None),
    "an unlinked folder": Occupant(OTHER, leaving=True, rev=None),
}

KNOWN = Facts(
    ino=INO,
    is_folder=False,
    name="a.txt",
    parent=FOLDER_INO,
    folder=DOCS,
    base=PATH,
    id=ID,
    rev=REV,
)
"""A file that is the same here and there."""
KNOWN_FOLDER = dataclasses.replace(KNOWN, is_folder=True, rev=None)
NEW = dataclasses.replace(KNOWN, base=None, id=None, rev=None, content=True)
NEW_FOLDER = dataclasses.replace(NEW, is_folder=True, content=False)
MOVED = dataclasses.replace(KNOWN, name="b.txt", moved=True)
UNLINKED = Facts(ino=INO, is_folder=False, name=None, base=PATH, id=ID, rev=REV)
UNLINKED_FOLDER = dataclasses.replace(UNLINKED, is_folder=True, rev=None)

BY_ID = RemotePath(ID)
TARGET = RemotePath("/docs/b.txt")
PASSING = RemotePath("/docs/a (being renamed 7).txt")


def step(facts: Facts, *, in_cycle: bool = False, **changes: object) -> Step:
    return next_step(dataclasses.replace(facts, **changes), in_cycle=in_cycle)  # type: ignore[arg-type]


# ---- Nothing pending ----


@pytest.mark.parametrize("facts", [KNOWN, KNOWN_FOLDER], ids=["file", "folder"])
@pytest.mark.parametrize("in_cycle", [False, True])
def test_what_is_the_same_here_and_there_is_done(facts: Facts, in_cycle: bool) -> None:
    assert next_step(facts, in_cycle=in_cycle) == Done()


# ---- Attributes ----


@pytest.mark.parametrize("facts", [KNOWN, KNOWN_FOLDER], ids=["file", "folder"])
def test_attributes_alone_are_sent_without_content(facts: Facts) -> None:
    assert step(facts, attributes=True) == SetAttributes(BY_ID)
    assert step(facts, attributes=True, id=None) == SetAttributes(PATH)


def test_attributes_go_with_the_content_and_after_a_move() -> None:
    assert step(KNOWN, attributes=True, content=True, from_rev=REV) == Upload(PATH, REV)
    assert step(NEW, attributes=True) == Upload(PATH, None)
    assert step(MOVED, attributes=True) == Move(BY_ID, TARGET)
    assert step(NEW_FOLDER, attributes=True) == CreateFolder(PATH)


def test_what_is_to_go_or_kept_here_only_needs_no_attributes() -> None:
    assert step(UNLINKED, attributes=True) == Delete(BY_ID, REV)
    assert step(KNOWN, attributes=True, local_only=True) == Delete(BY_ID, REV)


# ---- New ----


@pytest.mark.parametrize(
    ("facts", "folder", "expected"),
    [
        (NEW, DOCS, Upload(PATH, None)),
        (NEW, ROOT, Upload(RemotePath("/a.txt"), None)),
        (NEW_FOLDER, DOCS, CreateFolder(PATH)),
        (NEW_FOLDER, ROOT, CreateFolder(RemotePath("/a.txt"))),
    ],
)
def test_something_new_at_a_free_place_is_made_there(
    facts: Facts, folder: RemotePath, expected: Step
) -> None:
    assert step(facts, folder=folder) == expected


def test_an_atomic_save_is_one_upload_that_names_the_replaced_revision() -> None:
    replaced = OCCUPANTS["an unlinked file"]
    assert step(NEW, occupant=replaced) == Upload(PATH, OTHER_REV)


def test_an_atomic_save_names_what_it_replaces_and_not_what_it_was_made_from() -> None:
    replaced = OCCUPANTS["an unlinked file"]
    assert step(NEW, occupant=replaced, from_rev=REV) == Upload(PATH, OTHER_REV)


@pytest.mark.parametrize("which", [w for w in OCCUPANTS if w != "an unlinked file"])
def test_a_new_file_waits_for_whatever_else_holds_its_place(which: str) -> None:
    assert step(NEW, occupant=OCCUPANTS[which]) == After(OTHER)


@pytest.mark.parametrize("which", OCCUPANTS)
def test_a_new_folder_waits_for_whatever_holds_its_place(which: str) -> None:
    assert step(NEW_FOLDER, occupant=OCCUPANTS[which]) == After(OTHER)


@pytest.mark.parametrize("facts", [NEW, NEW_FOLDER, MOVED], ids=["file", "folder", "moved"])
def test_what_is_in_a_new_folder_waits_for_the_folder(facts: Facts) -> None:
    assert step(facts, folder=None) == After(FOLDER_INO)


@pytest.mark.parametrize("facts", [NEW, NEW_FOLDER, MOVED], ids=["file", "folder", "moved"])
def test_what_is_in_no_folder_at_all_is_held(facts: Facts) -> None:
    assert step(facts, folder=None, parent=None) == Hold("in a removed folder")


# ---- Changed ----


@pytest.mark.parametrize("from_rev", [REV, OTHER_REV, None])
def test_changed_content_replaces_the_revision_that_it_was_made_from(from_rev: Rev | None) -> None:
    assert step(KNOWN, content=True, from_rev=from_rev) == Upload(PATH, from_rev)


def test_a_move_goes_before_the_content() -> None:
    assert step(MOVED, content=True, from_rev=REV) == Move(BY_ID, TARGET)


# ---- Moved ----


@pytest.mark.parametrize(("file_id", "source"), [(ID, BY_ID), (None, PATH)])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_move_names_its_source_by_id_where_that_is_known(
    file_id: FileId | None, source: RemotePath, is_folder: bool
) -> None:
    assert step(MOVED, id=file_id, is_folder=is_folder) == Move(source, TARGET)


def test_a_move_goes_to_where_dropbox_has_the_folder_now() -> None:
    elsewhere = RemotePath("/not yet renamed")
    assert step(MOVED, folder=elsewhere) == Move(BY_ID, RemotePath("/not yet renamed/b.txt"))


@pytest.mark.parametrize("which", OCCUPANTS)
def test_a_move_waits_for_whatever_holds_its_place(which: str) -> None:
    assert step(MOVED, occupant=OCCUPANTS[which]) == After(OTHER)


@pytest.mark.parametrize("which", OCCUPANTS)
@pytest.mark.parametrize(("file_id", "source"), [(ID, BY_ID), (None, PATH)])
def test_in_a_swap_of_names_a_move_goes_out_of_the_way(
    which: str, file_id: FileId | None, source: RemotePath
) -> None:
    facts = dataclasses.replace(MOVED, occupant=OCCUPANTS[which], id=file_id)
    assert next_step(facts, in_cycle=True) == Move(source, PASSING)


def test_a_change_of_case_goes_through_a_passing_name() -> None:
    facts = dataclasses.replace(KNOWN, name="A.txt", moved=True, same_key=True)
    assert next_step(facts) == Move(BY_ID, PASSING)
    halfway = dataclasses.replace(facts, base=PASSING, same_key=False)
    assert next_step(halfway) == Move(BY_ID, RemotePath("/docs/A.txt"))
    arrived = dataclasses.replace(facts, base=RemotePath("/docs/A.txt"), moved=False)
    assert next_step(arrived) == Done()


def test_what_is_in_a_new_folder_at_its_own_old_name_goes_out_of_the_way() -> None:
    """`mv a t; mkdir a; mv t a/b`: the new folder waits for the name, the old one for the folder.

    A new folder has nothing to move, so the one that Dropbox has must give up the name.
    """
    old = dataclasses.replace(MOVED, folder=None, parent=OTHER)
    folder = dataclasses.replace(NEW_FOLDER, ino=OTHER, occupant=Occupant(INO, False, REV))
    assert (next_step(old), next_step(folder)) == (After(OTHER), After(INO))
    assert next_step(old, in_cycle=True) == Move(BY_ID, PASSING)


# ---- Unlinked ----


@pytest.mark.parametrize("facts", [UNLINKED, UNLINKED_FOLDER], ids=["file", "folder"])
@pytest.mark.parametrize("in_cycle", [False, True])
def test_what_was_made_and_unlinked_before_it_was_sent_is_done(
    facts: Facts, in_cycle: bool
) -> None:
    assert step(facts, in_cycle=in_cycle, base=None, id=None, content=True) == Done()


@pytest.mark.parametrize(("file_id", "source"), [(ID, BY_ID), (None, PATH)])
@pytest.mark.parametrize(
    ("facts", "rev"), [(UNLINKED, REV), (UNLINKED_FOLDER, None)], ids=["file", "folder"]
)
def test_a_deletion_names_the_version_that_was_deleted_here(
    facts: Facts, rev: Rev | None, file_id: FileId | None, source: RemotePath
) -> None:
    assert step(facts, id=file_id) == Delete(source, rev)


@pytest.mark.parametrize("facts", [UNLINKED, UNLINKED_FOLDER], ids=["file", "folder"])
@pytest.mark.parametrize("in_cycle", [False, True])
@pytest.mark.parametrize("successor", [None, OTHER])
def test_what_goes_with_its_folder_waits_for_that(
    facts: Facts, in_cycle: bool, successor: int | None
) -> None:
    after = step(facts, in_cycle=in_cycle, removed_with=FOLDER_INO, successor=successor)
    assert after == After(FOLDER_INO)


def test_a_moved_folder_waits_for_what_of_its_new_place_is_still_in_it() -> None:
    moved = dataclasses.replace(MOVED, is_folder=True, must_leave=OTHER)
    assert next_step(moved) == After(OTHER)
    assert next_step(moved, in_cycle=True) == Move(BY_ID, passing_place(PATH, INO))


def test_an_unlinked_folder_waits_for_what_has_to_leave_it() -> None:
    assert step(UNLINKED_FOLDER, must_leave=OTHER) == After(OTHER)


@pytest.mark.parametrize(("file_id", "source"), [(ID, BY_ID), (None, PATH)])
def test_an_unlinked_folder_whose_name_is_waited_for_goes_out_of_the_way(
    file_id: FileId | None, source: RemotePath
) -> None:
    facts = dataclasses.replace(UNLINKED_FOLDER, must_leave=OTHER, id=file_id)
    assert next_step(facts, in_cycle=True) == Move(source, PASSING)


def test_an_unlinked_file_leaves_the_call_to_its_successor() -> None:
    assert step(UNLINKED, successor=OTHER) == After(OTHER)


# ---- Names that Dropbox does not take ----

HERE_ONLY = Facts(
    ino=INO,
    is_folder=False,
    name=".~lock",
    parent=FOLDER_INO,
    base=PATH,
    id=ID,
    rev=REV,
    local_only=True,
)
NEW_HERE = dataclasses.replace(HERE_ONLY, base=None, id=None, rev=None)


@pytest.mark.parametrize("in_cycle", [False, True])
def test_what_is_kept_here_only_is_never_sent(in_cycle: bool) -> None:
    assert next_step(NEW_HERE, in_cycle=in_cycle) == Done()
    folder = dataclasses.replace(NEW_HERE, is_folder=True)
    assert next_step(folder, in_cycle=in_cycle) == Done()


def test_what_is_kept_here_only_from_now_on_is_brought_here_before_it_is_deleted_there() -> None:
    assert step(HERE_ONLY, missing=True) == Bring()
    assert next_step(HERE_ONLY) == Delete(RemotePath(ID), REV)


def test_what_is_kept_here_only_leaves_its_name_to_its_successor() -> None:
    assert step(HERE_ONLY, successor=OTHER) == After(OTHER)
    assert step(NEW, occupant=OCCUPANTS["an unlinked file"]) == Upload(PATH, OTHER_REV)


def test_a_folder_that_is_kept_here_only_goes_after_what_is_in_it() -> None:
    folder = dataclasses.replace(HERE_ONLY, is_folder=True, rev=None)
    assert step(folder, must_leave=OTHER) == After(OTHER)
    assert next_step(folder) == Delete(RemotePath(ID), None)


# ---- For all facts ----

numbers = st.integers(min_value=1, max_value=2**63 - 1)
letters = st.characters(exclude_categories=("Cs",), exclude_characters="/\0")
names = st.text(letters, min_size=1, max_size=MAX_LENGTH)
extensions = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\0."), min_size=1, max_size=127
)
folders = st.lists(names, max_size=3).map(lambda parts: RemotePath("".join(f"/{p}" for p in parts)))
paths = st.builds(join, folders, names)
revs = st.sampled_from([REV, OTHER_REV])
any_facts = st.builds(
    Facts,
    ino=numbers,
    is_folder=st.booleans(),
    name=st.none() | names,
    parent=st.none() | numbers,
    folder=st.none() | folders,
    base=st.none() | paths,
    id=st.none() | st.just(ID),
    rev=st.none() | revs,
    moved=st.booleans(),
    same_key=st.booleans(),
    content=st.booleans(),
    from_rev=st.none() | revs,
    occupant=st.none()
    | st.builds(Occupant, ino=numbers, leaving=st.booleans(), rev=st.none() | revs),
    local_only=st.booleans(),
    missing=st.booleans(),
    attributes=st.booleans(),
    removed_with=st.none() | numbers,
    must_leave=st.none() | numbers,
    successor=st.none() | numbers,
)


@given(any_facts, names, paths, st.booleans())
def test_no_call_is_made_for_an_inode_with_nothing_pending(
    facts: Facts, name: str, base: RemotePath, in_cycle: bool
) -> None:
    here = dataclasses.replace(
        facts, name=name, base=base, moved=False, content=False, attributes=False, local_only=False
    )
    assert isinstance(next_step(here, in_cycle=in_cycle), (Done, After, Hold))
    gone = dataclasses.replace(facts, name=None, base=None)
    assert next_step(gone, in_cycle=in_cycle) == Done()


@given(any_facts, st.booleans())
def test_a_call_goes_only_to_names_that_dropbox_takes_or_to_a_passing_place(
    facts: Facts, in_cycle: bool
) -> None:
    assume(facts.local_only or facts.name is None or problem(facts.name) is None)
    made = next_step(facts, in_cycle=in_cycle)
    match made:
        case Upload(path=place) | CreateFolder(path=place) | Move(target=place):
            out_of_the_way = facts.base is not None and place == passing_place(
                facts.base, facts.ino
            )
            assert out_of_the_way or problem(place.rpartition("/")[2]) is None
        case Delete():
            assert facts.name is None or (facts.local_only and not facts.missing)


@given(any_facts, st.booleans())
def test_only_what_dropbox_has_is_moved_or_deleted(facts: Facts, in_cycle: bool) -> None:
    made = next_step(facts, in_cycle=in_cycle)
    if isinstance(made, Move | Delete):
        assert facts.base is not None
        assert made.source == (facts.id or facts.base)


@given(any_facts, st.booleans())
def test_a_linked_occupant_is_never_written_over(facts: Facts, in_cycle: bool) -> None:
    holder = Occupant(OTHER, leaving=False, rev=OTHER_REV)
    new = dataclasses.replace(facts, base=None, occupant=holder)
    assert isinstance(next_step(new, in_cycle=in_cycle), After | Hold | Done | Bring)


@given(paths, numbers)
def test_a_passing_place_is_another_one_beside_the_old_and_dropbox_takes_it(
    path: RemotePath, ino: int
) -> None:
    folder, _, name = path.rpartition("/")
    passing_folder, _, passing = passing_place(path, ino).rpartition("/")
    assert passing_folder == folder
    assert passing != name
    assert len(passing) <= MAX_LENGTH
    assert f"(being renamed {ino})" in passing
    if problem(name) is None:
        assert problem(passing) is None


@given(names, extensions, numbers)
def test_a_passing_place_keeps_the_extension(stem: str, extension: str, ino: int) -> None:
    passing = passing_place(RemotePath(f"/{stem}.{extension}"), ino)
    assert passing.endswith(f".{extension}")
    assert len(passing) <= MAX_LENGTH + 1


@given(paths, numbers, numbers)
def test_two_inodes_never_share_a_passing_place(path: RemotePath, one: int, other: int) -> None:
    assert (passing_place(path, one) == passing_place(path, other)) == (one == other)


@given(names, extensions, st.sampled_from(["(conflicted copy)", "(conflicted copy 12)", "(x)"]))
def test_a_marked_name_fits_and_keeps_its_extension(stem: str, extension: str, mark: str) -> None:
    name = marked(f"{stem}.{extension}", mark)
    assert len(name) <= MAX_LENGTH
    assert name.endswith(f" {mark}.{extension}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "a (m).txt"),
        ("a", "a (m)"),
        (".bashrc", ".bashrc (m)"),
        ("a.tar.gz", "a.tar (m).gz"),
        ("a.", "a (m)."),
        ("a." + "x" * 128, "a." + "x" * 128 + " (m)"),
        ("y" * 255, "y" * 251 + " (m)"),
        ("y" * 251 + ".txt", "y" * 247 + " (m).txt"),
    ],
)
def test_the_mark_goes_before_the_extension(name: str, expected: str) -> None:
    assert marked(name, "(m)") == expected


# ---- Several inodes ----


def _work(base: dict[int, str], local: dict[int, str], ino: int) -> list[Move]:
    """Bring one file of a folder to its local name, as the schedule does; changes `base`."""
    waiting: list[int] = []
    moves: list[Move] = []
    while True:
        assert len(moves) <= 2 * len(local), "it does not come to an end"
        holder = next((i for i, name in base.items() if name == local[ino] and i != ino), None)
        facts = dataclasses.replace(
            KNOWN,
            ino=ino,
            name=local[ino],
            base=join(DOCS, base[ino]),
            id=FileId(f"id:{ino}"),
            moved=base[ino] != local[ino],
            occupant=None if holder is None else Occupant(holder, leaving=False, rev=REV),
        )
        made = next_step(facts)
        if isinstance(made, After) and made.ino in (*waiting, ino):
            made = next_step(facts, in_cycle=True)
        match made:
            case After(ino=first):
                waiting.append(ino)
                ino = first
            case Move(target=target):
                moves.append(made)
                base[ino] = target.rpartition("/")[2]
                assert len(set(base.values())) == len(base), "two things at one place"
                if waiting:
                    ino = waiting.pop()
            case Done():
                if not waiting:
                    return moves
                ino = waiting.pop()
            case _:
                pytest.fail(f"{made} in a mere exchange of names")


@given(st.permutations([f"{letter}.txt" for letter in "abcde"]))
def test_any_exchange_of_names_ends_as_programs_see_it(wanted: list[str]) -> None:
    base = dict(enumerate(sorted(wanted), start=10))
    local = dict(enumerate(wanted, start=10))
    astray = sum(base[ino] != local[ino] for ino in local)
    moves = [move for ino in local for move in _work(base, local, ino)]
    assert base == local
    # One more for each cycle, and a cycle has at least two in it.
    assert astray <= len(moves) <= astray + astray // 2
