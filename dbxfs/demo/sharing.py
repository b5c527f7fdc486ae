"""The calls of `sharing` for shared links: create, list, look at, revoke; and what a link shows.

A link belongs to an identity, so it follows a moved file, and is gone with a deleted one.
"""

from __future__ import annotations

import secrets
from typing import Annotated, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dbxfs.demo.account import Account, View
from dbxfs.demo.arguments import Argument, ReadPath
from dbxfs.demo.changes import InvalidCursorError, seal_text, unseal_text
from dbxfs.demo.metadata import rev_of
from dbxfs.demo.names import is_below
from dbxfs.demo.places import read
from dbxfs.demo.reading import serve_bytes
from dbxfs.demo.routes import Call, route
from dbxfs.demo.tree import Node
from dbxfs.demo.wire import Choice, Json, Timestamp, fail, timestamp

READ, WRITE = "sharing.read", "sharing.write"
LINKS_A_PAGE = 100


class Visibility(Choice):
    tags = frozenset({"public", "team_only", "password"})


class Audience(Choice):
    tags = frozenset({"public", "team", "no_one", "password", "members"})


class AccessLevel(Choice):
    tags = frozenset({"viewer", "editor", "max", "default"})


class LinkSettings(Argument):
    require_password: bool | None = None
    link_password: str | None = None
    expires: Timestamp | None = None
    audience: Audience | None = None
    access: AccessLevel | None = None
    requested_visibility: Visibility | None = None
    allow_download: bool | None = None


class CreateLink(Argument):
    path: ReadPath
    settings: LinkSettings | None = None


class ListLinks(Argument):
    path: ReadPath | None = None
    cursor: str | None = None
    direct_only: bool | None = None


class OneLink(Argument):
    url: str


class LookAtLink(Argument):
    url: str
    path: Annotated[str, Meta(pattern=r"\A/(.|[\r\n])*\Z")] | None = None
    link_password: str | None = None


class Link(NamedTuple):
    """A row of `links`; `expires` in seconds since the epoch."""

    url: str
    fid: int
    visibility: str
    password: str | None
    expires: int | None
    created: int


def _links(account: Account, where: str, *values: str | int) -> list[Link]:
    sql = f"SELECT * FROM links WHERE {where} ORDER BY created, url"  # noqa: S608 — constants
    return [Link(*row) for row in account.db.execute(sql, values)]


def _describe(account: Account, view: View, link: Link, node: Node) -> Json:
    visibility = {".tag": link.visibility}
    value: Json = {
        ".tag": "folder" if node.folder else "file",
        "url": link.url,
        "id": account.id_of(node.fid),
        "name": node.name,
        "path_lower": view.path(node.key),
        "created_timestamp": timestamp(link.created),
        "link_permissions": {
            "resolved_visibility": visibility,
            "requested_visibility": visibility,
            "can_revoke": True,
            "effective_audience": {".tag": "team" if link.visibility == "team_only" else "public"},
            "link_access_level": {".tag": "viewer"},
            "visibility_policies": [
                {
                    "policy": {".tag": policy},
                    "resolved_policy": {".tag": policy},
                    "allowed": policy != "team_only" or account.in_team,
                }
                for policy in ("public", "team_only", "password")
            ],
            "can_set_expiry": True,
            "can_remove_expiry": link.expires is not None,
            "allow_download": True,
            "can_allow_download": True,
            "can_disallow_download": False,
            "allow_comments": True,
            "team_restricts_comments": False,
            "require_password": link.password is not None,
        },
    }
    if link.expires is not None:
        value["expires"] = timestamp(link.expires)
    if not node.folder:
        value |= {
            "client_modified": timestamp(node.client_modified),
            "server_modified": timestamp(node.server_modified),
            "rev": rev_of(node.rev),
            "size": node.size,
        }
    return value


def _check_settings(account: Account, settings: LinkSettings) -> tuple[str, str | None, int | None]:
    """Visibility, password and expiry. Raises settings_error values."""
    given = [getattr(settings, name) for name in settings.__struct_fields__]
    if all(value is None for value in given):
        fail("settings_error", "invalid_settings")
    wanted = settings.requested_visibility.tag if settings.requested_visibility else "public"
    audience = settings.audience.tag if settings.audience else ""
    if audience == "team":
        wanted = "team_only"
    if settings.require_password or audience == "password":
        wanted = "password"
    if wanted == "password" and not settings.link_password:
        fail("settings_error", "invalid_settings")
    if wanted == "team_only" and not account.in_team:
        fail("settings_error", "not_authorized")
    expires = settings.expires.seconds if settings.expires else None
    if expires is not None and expires <= account.now():
        fail("settings_error", "invalid_settings")
    return wanted, settings.link_password if wanted == "password" else None, expires


@route("sharing/create_shared_link_with_settings", CreateLink, WRITE)
async def create_link(call: Call, argument: CreateLink) -> Json:
    account, view = call.account, call.view
    node = read(account, view, argument.path, "path")
    visibility, password, expires = "public", None, None
    if argument.settings is not None:
        visibility, password, expires = _check_settings(account, argument.settings)
    existing = _links(account, "fid = ?", node.fid)
    if existing:
        if argument.settings is not None:
            fail("shared_link_already_exists")
        metadata = _describe(account, view, existing[0], node)
        fail("shared_link_already_exists", "metadata", metadata=metadata)
    base = str(call.request.base_url).rstrip("/")
    kind = "fo" if node.folder else "fi"
    url = f"{base}/scl/{kind}/{secrets.token_urlsafe(15)}/{quote(node.name)}?dl=0"
    link = Link(url, node.fid, visibility, password, expires, int(account.now()))
    account.db.execute("INSERT INTO links VALUES (?, ?, ?, ?, ?, ?)", link)
    return _describe(account, view, link, node)


@route("sharing/list_shared_links", ListLinks, READ)
async def list_links(call: Call, argument: ListLinks) -> Json:
    account, view = call.account, call.view
    start = 0
    if argument.cursor is not None:
        try:
            start = msgspec.json.decode(unseal_text(account, argument.cursor), type=int)
        except (InvalidCursorError, msgspec.MsgspecError):
            fail("reset")
    target = None
    if argument.path not in (None, ""):
        target = read(account, view, argument.path or "", "path")
    found = []
    for link in _links(account, "1"):
        node = account.tree.by_fid(link.fid)
        if node and view.shows(node.key) and _leads_to(node, target, argument):
            found.append(_describe(account, view, link, node))
    end = start + LINKS_A_PAGE
    answer: Json = {"links": found[start:end], "has_more": len(found) > end}
    if answer["has_more"]:
        answer["cursor"] = seal_text(account, str(end).encode())
    return answer


def _leads_to(node: Node, target: Node | None, argument: ListLinks) -> bool:
    if target is None or node.key == target.key:
        return True
    return not argument.direct_only and is_below(target.key, node.key)


def _find(call: Call, url: str) -> tuple[Link, Node]:
    """The link and what it leads to. Raises SharedLinkError values."""
    found = _links(call.account, "url = ?", url)
    node = call.account.tree.by_fid(found[0].fid) if found else None
    if node is None:
        fail("shared_link_not_found")
    return found[0], node


@route("sharing/revoke_shared_link", OneLink, WRITE)
async def revoke_link(call: Call, argument: OneLink) -> None:
    if not urlsplit(argument.url).scheme:
        fail("shared_link_malformed")
    link, _node = _find(call, argument.url)
    call.account.db.execute("DELETE FROM links WHERE url = ?", (link.url,))


@route("sharing/get_shared_link_metadata", LookAtLink, READ)
async def look_at_link(call: Call, argument: LookAtLink) -> Json:
    link, node = _find(call, argument.url)
    if link.password is not None and argument.link_password != link.password:
        fail("shared_link_access_denied")
    if link.expires is not None and link.expires <= call.account.now():
        fail("shared_link_not_found")
    if argument.path is not None:
        inside = call.account.tree.get(node.key + argument.path.lower())
        if inside is None:
            fail("shared_link_not_found")
        node = inside
    return _describe(call.account, call.view, link, node)


def show_link(account: Account, request: Request) -> Response:
    """What a browser gets at a link's address: the file, or the names in the folder."""
    path = f"{request.url.path.rpartition('/')[0]}/"
    found = _links(account, "instr(url, ?) > 0", path)
    node = account.tree.by_fid(found[0].fid) if found else None
    if node is None or (found[0].expires or account.now() + 1) <= account.now():
        return PlainTextResponse("That link does not work (any more).", 404)
    if found[0].password is not None and request.query_params.get("pw") != found[0].password:
        return PlainTextResponse("That link needs its password.", 403)
    if node.folder:
        names = [child.name for child in account.tree.children(node.key, "", -1)]
        return PlainTextResponse("\n".join(names) + "\n")
    return serve_bytes(account, node, request, {"Content-Type": "application/octet-stream"})
