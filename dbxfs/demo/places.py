"""From a path in a call to a place in the account.

A path is absolute in the caller's view, relative to an identity ("id:…" and maybe "/rest"), or
relative to a namespace ("ns:1/rest"). What comes out is a `Place`: the physical display path and
key, whether or not something is there. Lookups for reading raise LookupError values, those for
writing WriteError values, under the tag that the endpoint uses for them.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from dbxfs.demo.account import Account, View
from dbxfs.demo.metadata import number_of
from dbxfs.demo.names import fold, is_disallowed, is_malformed
from dbxfs.demo.tree import Node
from dbxfs.demo.wire import EndpointError, union


class Place(NamedTuple):
    """Where a path leads; `display` and `key` are physical."""

    display: str
    key: str


class MalformedError(Exception):
    """The path breaks the rules for paths."""


class UnknownIdError(Exception):
    """The path begins with an identity or a namespace that leads nowhere."""


def locate(account: Account, view: View, path: str) -> Place:
    """The place that `path` names. Raises MalformedError, UnknownIdError."""
    base = view.display
    rest = path
    if path.startswith("ns:"):
        namespace, slash, rest = path[3:].partition("/")
        named = account.namespace_view(namespace)
        if named is None or not view.shows(named.key):
            raise UnknownIdError
        base, rest = named.display, slash + rest
    elif path.startswith("id:"):
        identity, slash, rest = path.partition("/")
        fid = account.fid_of(identity)
        node = account.tree.by_fid(fid) if fid is not None else None
        if node is None or not view.shows(node.key) or not account.sees(node.key):
            raise UnknownIdError
        base, rest = node.display, slash + rest
    if rest and is_malformed(rest):
        raise MalformedError
    display = base + rest
    return Place(display, fold(display))


def read(account: Account, view: View, path: str, *tags: str) -> Node:
    """The entry at `path` ("rev:…" too). Raises LookupError values below `tags`."""
    if path.startswith("rev:"):
        node = account.tree.by_rev(number_of(path[4:]))
    else:
        try:
            place = locate(account, view, path)
        except MalformedError:
            _malformed(path, tags)
        except UnknownIdError:
            node = None
        else:
            node = account.tree.get(place.key)
    if node is None or not view.shows(node.key) or not account.sees(node.key):
        raise EndpointError(union(*tags, "not_found"))
    return node


def read_file(account: Account, view: View, path: str, *tags: str) -> Node:
    """As `read`, but it must be a file."""
    node = read(account, view, path, *tags)
    if node.folder:
        raise EndpointError(union(*tags, "not_file"))
    return node


def write(account: Account, view: View, path: str, *tags: str) -> Place:
    """The place that `path` names, good for writing a new name. Raises WriteError values."""
    try:
        place = locate(account, view, path)
    except (MalformedError, UnknownIdError):
        _malformed(path, tags)
    if place.key == view.key or place.key == account.home.key:
        _malformed(path, tags)
    if is_disallowed(place.display):
        raise EndpointError(union(*tags, "disallowed_name"))
    if not account.may_write(place.key):
        raise EndpointError(union(*tags, "no_write_permission"))
    return place


def check_ancestors(account: Account, place: Place, *tags: str) -> None:
    """Raises conflict/file_ancestor when a file stands where a parent folder is needed."""
    above = place.key
    while above := above[: above.rfind("/")]:
        node = account.tree.get(above)
        if node is not None:
            if not node.folder:
                raise EndpointError(union(*tags, "conflict", "file_ancestor"))
            return


def _malformed(path: str, tags: tuple[str, ...]) -> NoReturn:
    raise EndpointError(union(*tags, "malformed_path", malformed_path=path))
