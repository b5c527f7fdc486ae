"""Committing a content to a path: the write modes, and what is a conflict.

The rules are those of `WriteMode` and `CommitInfo` in the API reference, in its order: nothing at
the path, it is written; a folder, it is a conflict; the same content, nothing is written; else
the mode decides. `strict_conflict` makes the same content a conflict for `add`, and a vanished
target one for `update`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dbxfs.demo.account import Account, View
from dbxfs.demo.metadata import number_of
from dbxfs.demo.names import conflicted, fold, name_of, numbered, parent_of
from dbxfs.demo.places import Place, check_ancestors, write
from dbxfs.demo.tree import Content, Node
from dbxfs.demo.wire import EndpointError, WriteMode, union


class Commit(NamedTuple):
    """What is to be committed where, in which mode."""

    path: str
    content: Content
    mode: WriteMode
    autorename: bool = False
    strict_conflict: bool = False


def commit(account: Account, view: View, wanted: Commit) -> Node:
    """Commits, within a change. Raises WriteError values without a tag around them."""
    place = write(account, view, wanted.path)
    check_ancestors(account, place)
    existing = account.tree.get(place.key)
    if existing is None:
        return _commit_new(account, place, wanted)
    if existing.folder:
        return _rename_or_refuse(account, place, wanted, "folder")
    mode = wanted.mode
    same = existing.hash == wanted.content.hash and not existing.document
    if same and not (wanted.strict_conflict and mode.tag == "add"):
        outdated = mode.tag == "update" and number_of(mode.rev) != existing.rev
        if not (wanted.strict_conflict and outdated):
            return existing
    if mode.tag == "overwrite" or (mode.tag == "update" and number_of(mode.rev) == existing.rev):
        _check_space(account, wanted.content.size - existing.size)
        return account.tree.replace_content(existing, wanted.content)
    return _rename_or_refuse(account, place, wanted, "file")


def _commit_new(account: Account, place: Place, wanted: Commit) -> Node:
    if wanted.mode.tag == "update" and wanted.strict_conflict:
        return _rename_or_refuse(account, place, wanted, "file")
    return _create(account, place.display, wanted.content)


def _rename_or_refuse(account: Account, place: Place, wanted: Commit, kind: str) -> Node:
    if not wanted.autorename:
        raise EndpointError(union("conflict", kind))
    name = name_of(place.display)
    if wanted.mode.tag == "update":
        candidates = conflicted(name)
    else:
        candidates = numbered(name, is_folder=False)
    return _create(account, free_path(account, place.display, candidates), wanted.content)


def free_path(account: Account, display: str, candidates: Iterator[str]) -> str:
    """The first of the candidates, beside `display`, where nothing is."""
    folder = parent_of(display)
    for name in candidates:
        path = f"{folder}/{name}"
        if account.tree.get(fold(path)) is None:
            return path
    raise AssertionError("the candidates do not end")


def _create(account: Account, display: str, content: Content) -> Node:
    _check_space(account, content.size)
    account.tree.make_parents(display)
    return account.tree.make_file(display, content)


def _check_space(account: Account, more: int) -> None:
    if not account.fits(more):
        raise EndpointError(union("insufficient_space"))
