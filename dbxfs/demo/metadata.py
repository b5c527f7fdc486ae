"""How entries look in answers, seen through a view.

Where the reference types an answer as `Metadata`, the value carries ".tag"; where it names
`FileMetadata` or `FolderMetadata`, it does not. Both come from the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from dbxfs.core.content_hash import content_hash
from dbxfs.demo.account import ACCOUNT_ID, Account, View
from dbxfs.demo.names import parent_of
from dbxfs.demo.tree import Node, Tomb
from dbxfs.demo.wire import Json, TemplateFilter, timestamp

REV_BASE = 0x65A00000000000
"""Makes a change number a rev of 14 digits, as long as old ones of the service."""

DOCUMENT_OVERHEAD = 1000
"""Bytes by which what is kept of a document is larger than its export."""


def rev_of(number: int) -> str:
    """The rev as the wire has it; only files have one."""
    return f"{REV_BASE + number:x}"


def number_of(rev: str) -> int:
    """The change number in a rev; -1 if this account never gave it out."""
    number = int(rev, 16) - REV_BASE
    return number if number > 0 and rev_of(number) == rev else -1


def describe(account: Account, view: View, node: Node, *, tagged: bool = True) -> Json:
    """FileMetadata or FolderMetadata."""
    cut = len(view.display)
    if node.folder:
        value: Json = {
            "name": node.name,
            "path_lower": node.key[cut:],
            "path_display": node.display[cut:],
            "id": account.id_of(node.fid),
        }
        if account.shares:
            _add_folder_sharing(account, node, value)
        return {".tag": "folder", **value} if tagged else value
    value = {
        "name": node.name,
        "path_lower": node.key[cut:],
        "path_display": node.display[cut:],
        "id": account.id_of(node.fid),
        "client_modified": timestamp(node.client_modified),
        "server_modified": timestamp(node.server_modified),
        "rev": rev_of(node.rev),
        "size": node.size,
        "is_downloadable": not node.document,
        "content_hash": node.hash,
    }
    if node.document:
        # They are those of what Dropbox keeps, which is another thing than any export.
        value["size"] = node.size + DOCUMENT_OVERHEAD
        value["content_hash"] = content_hash(f"document {node.hash}".encode())
        value["export_info"] = {"export_as": node.document, "export_options": [node.document]}
    if node.fid in account.symlinks:
        value["symlink_info"] = {"target": account.symlinks[node.fid]}
    if account.shares:
        _add_file_sharing(account, node, value)
    return {".tag": "file", **value} if tagged else value


def describe_deleted(view: View, tomb: Tomb) -> Json:
    """DeletedMetadata."""
    return {
        ".tag": "deleted",
        "name": tomb.name,
        "path_lower": view.path(tomb.key),
        "path_display": view.path(tomb.display),
    }


def _add_file_sharing(account: Account, node: Node, value: Json) -> None:
    share = account.share_of(node.parent)
    if share:
        value["parent_shared_folder_id"] = share.id
        value["sharing_info"] = {
            "read_only": share.access != "editor",
            "parent_shared_folder_id": share.id,
            "modified_by": ACCOUNT_ID,
        }


def _add_folder_sharing(account: Account, node: Node, value: Json) -> None:
    share = account.shares.get(node.key)
    parent = account.share_of(parent_of(node.key))
    nearest = share or parent
    if nearest is None:
        return
    info: Json = {"read_only": nearest.access != "editor"}
    if parent:
        value["parent_shared_folder_id"] = parent.id
        info["parent_shared_folder_id"] = parent.id
    if share:
        value["shared_folder_id"] = share.id
        info["shared_folder_id"] = share.id
    if nearest.access in ("traverse_only", "no_access"):
        info[nearest.access] = True
    value["sharing_info"] = info


def add_properties(
    account: Account, values: Iterable[tuple[int, Json]], templates: TemplateFilter | None
) -> None:
    """Adds `property_groups` to metadata, given with the entries' identities.

    Without a filter nothing is added; with one, entries that have no such group get none.
    """
    if templates is None:
        return
    by_fid = dict(values)
    rows = account.db.execute(
        "SELECT fid, template, fields FROM properties"
        " WHERE fid IN (SELECT value FROM json_each(?)) ORDER BY fid, template",
        (json.dumps(list(by_fid)),),
    )
    for fid, template, fields in rows:
        if templates.ids is None or template in templates.ids:
            group = {
                "template_id": template,
                "fields": [
                    {"name": name, "value": value} for name, value in json.loads(fields).items()
                ],
            }
            by_fid[fid].setdefault("property_groups", []).append(group)
