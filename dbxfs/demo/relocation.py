"""Folders made, entries moved, copied, deleted, restored: one function for each call.

Each runs within a change and raises the endpoint's error union. A move into its own place, which
a change of case is, is a conflict: the service says that it does not support renaming by case.
"""

from __future__ import annotations

from dbxfs.demo.account import Account, View
from dbxfs.demo.commits import free_path
from dbxfs.demo.metadata import number_of
from dbxfs.demo.names import fold, is_below, name_of, numbered
from dbxfs.demo.places import Place, check_ancestors, read, write
from dbxfs.demo.tree import Content, Node
from dbxfs.demo.wire import EndpointError, fail, union

MOST_ENTRIES = 10_000
"""Files and folders that one move or copy may involve."""


def create_folder(account: Account, view: View, path: str, *, autorename: bool) -> Node:
    """A new folder. Raises CreateFolderError values."""
    place = write(account, view, path, "path")
    check_ancestors(account, place, "path")
    place = _clear(account, place, ("path",), autorename=autorename, is_folder=True)
    account.tree.make_parents(place.display)
    return account.tree.make_folder(place.display)


def _clear(
    account: Account, place: Place, tags: tuple[str, ...], *, autorename: bool, is_folder: bool
) -> Place:
    """The place itself if nothing is there, else a numbered one, or the conflict."""
    existing = account.tree.get(place.key)
    if existing is None:
        return place
    if not autorename:
        fail(*tags, "conflict", "folder" if existing.folder else "file")
    names = numbered(name_of(place.display), is_folder=is_folder)
    display = free_path(account, place.display, names)
    return Place(display, fold(display))


def delete(account: Account, view: View, path: str, parent_rev: str | None) -> Node:
    """Deletes; returns what it was. Raises DeleteError values."""
    node = read(account, view, path, "path_lookup")
    _check_not_root(account, view, node, "path_write")
    if not account.may_write(node.key):
        fail("path_write", "no_write_permission")
    if parent_rev is not None:
        if node.folder:
            fail("path_lookup", "not_file")
        if number_of(parent_rev) != node.rev:
            fail("path_write", "conflict", "file")
    account.tree.remove(node)
    account.move_shares(node.key, None)
    return node


def move(account: Account, view: View, source: str, target: str, *, autorename: bool) -> Node:
    """Moves. Raises RelocationError values."""
    node = read(account, view, source, "from_lookup")
    _check_not_root(account, view, node, "from_write")
    if not account.may_write(node.key):
        fail("from_write", "no_write_permission")
    place = write(account, view, target, "to")
    if is_below(place.key, node.key):
        fail("cant_move_folder_into_itself")
    inside = _check_count(account, node)
    if inside and account.share_of(place.key) and _holds_share(account, node):
        fail("cant_nest_shared_folder")
    check_ancestors(account, place, "to")
    place = _clear(account, place, ("to",), autorename=autorename, is_folder=bool(node.folder))
    account.tree.make_parents(place.display)
    moved = account.tree.move(node, place.display)
    account.move_shares(node.key, moved.key)
    return moved


def copy(account: Account, view: View, source: str, target: str, *, autorename: bool) -> Node:
    """Copies. Raises RelocationError values."""
    node = read(account, view, source, "from_lookup")
    _check_not_root(account, view, node, "from_lookup")
    place = write(account, view, target, "to")
    if is_below(place.key, node.key):
        fail("duplicated_or_nested_paths")
    _check_count(account, node)
    if _holds_share(account, node):
        fail("cant_copy_shared_folder")
    check_ancestors(account, place, "to")
    place = _clear(account, place, ("to",), autorename=autorename, is_folder=bool(node.folder))
    if not account.fits(account.tree.size_below(node.key)):
        fail("insufficient_quota")
    account.tree.make_parents(place.display)
    return account.tree.copy(node, place.display)


def restore(account: Account, view: View, path: str, rev: str) -> Node:
    """Makes an old revision the present one at `path`. Raises RestoreError values."""
    old = account.tree.by_rev(number_of(rev))
    if old is None or not view.shows(old.key):
        fail("invalid_revision")
    place = write(account, view, path, "path_write")
    check_ancestors(account, place, "path_write")
    content = Content(old.hash, old.size, old.client_modified, old.document)
    existing = account.tree.get(place.key)
    if existing is None:
        if not account.fits(old.size):
            fail("path_write", "insufficient_space")
        account.tree.make_parents(place.display)
        fid = old.fid if account.tree.by_fid(old.fid) is None else None
        return account.tree.make_file(place.display, content, fid)
    if existing.folder:
        fail("path_write", "conflict", "folder")
    if existing.hash == old.hash:
        return existing
    if not account.fits(old.size - existing.size):
        fail("path_write", "insufficient_space")
    return account.tree.replace_content(existing, content)


def _check_not_root(account: Account, view: View, node: Node, tag: str) -> None:
    """The home folder of a team member cannot be moved or deleted."""
    if node.key in (view.key, account.home.key):
        raise EndpointError(union(tag, "malformed_path", malformed_path=view.path(node.display)))


def _check_count(account: Account, node: Node) -> int:
    inside = account.tree.count_below(node.key) if node.folder else 0
    if inside > MOST_ENTRIES:
        fail("too_many_files")
    return inside


def _holds_share(account: Account, node: Node) -> bool:
    return any(key == node.key or is_below(key, node.key) for key in account.shares)
