"""What the kernel's second attempt after ESTALE tells of the first."""

from __future__ import annotations

from dbxfs.fs.spelling import Retries

ME, OTHER = 100, 200
FOLDER = 7


def test_who_looks_at_the_old_spelling_again_renames() -> None:
    retries = Retries()
    assert retries.is_respelling(ME, FOLDER, "A") is None
    retries.noted(ME, FOLDER, "a")
    retries.noted(ME, FOLDER, "A")
    assert retries.is_respelling(ME, FOLDER, "A") is True


def test_who_comes_back_for_the_one_spelling_wants_the_file() -> None:
    retries = Retries()
    assert retries.is_respelling(ME, FOLDER, "A") is None
    retries.noted(OTHER, FOLDER, "a")
    retries.noted(ME, FOLDER + 1, "a")
    retries.noted(ME, FOLDER, "A")
    assert retries.is_respelling(ME, FOLDER, "A") is False


def test_nobody_is_sent_back_twice_in_one_call() -> None:
    """The kernel would pass the second ESTALE on to the program."""
    retries = Retries()
    assert retries.is_respelling(ME, FOLDER, "D") is None
    assert retries.is_respelling(ME, FOLDER, "D") is False
    retries.noted(ME, FOLDER, "d")
    assert retries.is_respelling(ME, FOLDER, "D") is False
    assert retries.is_respelling(ME, FOLDER, "SUB") is False
    assert retries.is_respelling(OTHER, FOLDER, "SUB") is None


def test_after_a_rename_the_next_one_is_recognised_too() -> None:
    retries = Retries()
    for old, new in (("a", "A"), ("b", "B")):
        assert retries.is_respelling(ME, FOLDER, new) is None
        retries.noted(ME, FOLDER, old)
        assert retries.is_respelling(ME, FOLDER, new) is True
        retries.renamed(ME)
