"""The control interface: what tests and benches do to the service behind its clients' backs.

Not part of the Dropbox API: no authorization, never counted, delayed or faulted. Paths are those
of the member's home. Edits are "made elsewhere": they need no lock, no rights and no space.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.routing import Route as HttpRoute

from dbxfs.demo import oauth
from dbxfs.demo.account import Account
from dbxfs.demo.content import read_range
from dbxfs.demo.database import HOME
from dbxfs.demo.metadata import describe, describe_deleted, rev_of
from dbxfs.demo.names import fold, is_malformed, name_of, parent_of
from dbxfs.demo.network import Fault, Profile
from dbxfs.demo.populate import make_document, make_many
from dbxfs.demo.tree import Content, Node, Tomb
from dbxfs.demo.wire import Json, Timestamp, encode, timestamp

if TYPE_CHECKING:
    from dbxfs.demo.app import Service

T = TypeVar("T")


class BadRequestError(Exception):
    """The control call is wrong; the message says how."""


class Edit(msgspec.Struct, forbid_unknown_fields=True):
    """One edit made elsewhere."""

    op: Literal["write", "mkdir", "delete", "move", "symlink"]
    path: str = ""
    text: str | None = None
    base64: str | None = None
    client_modified: str | None = None
    source: str = msgspec.field(default="", name="from")
    target: str = msgspec.field(default="", name="to")


class Populate(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    folders: int
    files_per_folder: int
    size: int = 1024


class Quota(msgspec.Struct, forbid_unknown_fields=True):
    allocated: int


class SharedFolder(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    access: Literal["editor", "read_only", "traverse_only", "no_access"] = "editor"


class Document(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    text: str | None = None
    """What is exported; None: an example."""


class Team(msgspec.Struct, forbid_unknown_fields=True):
    on: bool


def _place(path: str) -> str:
    """The physical display path of a home path. Raises BadRequestError."""
    if path and (not path.startswith("/") or is_malformed(path)):
        raise BadRequestError(f"malformed path: {path!r}")
    return HOME + path


def _existing(account: Account, path: str) -> Node:
    node = account.tree.get(fold(_place(path)))
    if node is None:
        raise BadRequestError(f"there is nothing at {path!r}")
    return node


def _edit(account: Account, edit: Edit) -> Json:
    if edit.op == "write":
        return describe(account, account.home, _write(account, edit))
    if edit.op == "symlink":
        link = _write(account, msgspec.structs.replace(edit, text=""))
        account.set_symlink(link.fid, edit.target)
        return describe(account, account.home, link)
    if edit.op == "mkdir":
        node = account.tree.get(fold(_place(edit.path)))
        if node is None:
            account.tree.make_parents(_place(edit.path))
            node = account.tree.make_folder(_place(edit.path))
        return describe(account, account.home, node)
    if edit.op == "delete":
        node = _existing(account, edit.path)
        account.tree.remove(node)
        account.move_shares(node.key, None)
        return describe_deleted(account.home, Tomb(node.key, node.name, node.display))
    return describe(account, account.home, _move(account, edit))


def _write(account: Account, edit: Edit) -> Node:
    display = _place(edit.path)
    if (edit.text is None) == (edit.base64 is None):
        raise BadRequestError('"write" takes either "text" or "base64"')
    data = base64.b64decode(edit.base64) if edit.base64 is not None else (edit.text or "").encode()
    seconds = int(account.now())
    if edit.client_modified is not None:
        seconds = Timestamp(edit.client_modified).seconds
    content = Content(account.contents.keep_bytes(data), len(data), seconds)
    existing = account.tree.get(fold(display))
    if existing is None:
        account.tree.make_parents(display)
        return account.tree.make_file(display, content)
    if existing.folder:
        raise BadRequestError(f"there is a folder at {edit.path!r}")
    return account.tree.replace_content(existing, content)


def _move(account: Account, edit: Edit) -> Node:
    node = _existing(account, edit.source)
    display = _place(edit.target)
    if fold(display) == node.key:
        account.tree.recase(node, display)
        return node._replace(name=name_of(display), display=display)
    if account.tree.get(fold(display)) is not None:
        raise BadRequestError(f"there is something at {edit.target!r} already")
    account.tree.make_parents(display)
    moved = account.tree.move(node, display)
    account.move_shares(node.key, moved.key)
    return moved


def list_tree(account: Account, path: str) -> list[Json]:
    """Everything below a home path, in the order of display paths made of the entries' names."""
    top = fold(_place(path))
    if account.tree.get(top) is None:
        raise BadRequestError(f"there is nothing at {path!r}")
    shown = {top: path}
    found = []
    for node in account.tree.below(top, "", -1):
        shown[node.key] = f"{shown[parent_of(node.key)]}/{node.name}"
        is_file = not node.folder
        found.append(
            {
                "path": shown[node.key],
                "kind": "file" if is_file else "folder",
                "id": account.id_of(node.fid),
                "rev": rev_of(node.rev) if is_file else None,
                "size": node.size if is_file else None,
                "content_hash": node.hash if is_file else None,
                "client_modified": timestamp(node.client_modified) if is_file else None,
            }
        )
    return sorted(found, key=lambda entry: str(entry["path"]))


class Control:
    """The handlers, over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._account = service.account

    def network(self, profile: Profile) -> None:
        self._service.network.set_profile(profile)
        self._account.commit_seconds = profile.commit_ms / 1000
        self._account.longpoll_jitter = profile.longpoll_jitter_s

    def get_network(self) -> Profile:
        return self._service.network.profile

    def faults(self, faults: list[Fault]) -> None:
        self._service.network.faults = faults

    def get_faults(self) -> list[Fault]:
        return self._service.network.faults

    def counters(self) -> Json:
        network = self._service.network
        return {
            "requests": dict(network.requests),
            "total": network.requests.total(),
            "bytes_in": network.bytes_in,
            "bytes_out": network.bytes_out,
        }

    def edit(self, edits: list[Edit]) -> list[Json]:
        with self._account.tree.change():
            return [_edit(self._account, edit) for edit in edits]

    def populate(self, wanted: Populate) -> Json:
        make_many(
            self._account, _place(wanted.path), wanted.folders, wanted.files_per_folder, wanted.size
        )
        return {"files": wanted.folders * wanted.files_per_folder, "folders": wanted.folders}

    def quota(self, quota: Quota) -> None:
        self._account.set_quota(quota.allocated)

    def shared_folder(self, wanted: SharedFolder) -> Json:
        display = _place(wanted.path)
        if self._account.tree.get(fold(display)) is None:
            with self._account.tree.change():
                self._account.tree.make_parents(display)
                self._account.tree.make_folder(display)
        share = self._account.set_share(_existing(self._account, wanted.path).key, wanted.access)
        return {"shared_folder_id": share.id}

    def document(self, wanted: Document) -> Json:
        account = self._account
        with account.tree.change():
            node = make_document(account, _place(wanted.path), wanted.text)
        return describe(account, account.home, node)

    def team(self, team: Team) -> None:
        self._account.set_team(team.on)


def _post(work: Callable[[T], Any], kind: type[T]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            argument = msgspec.json.decode(await request.body(), type=kind)
            return Response(encode(work(argument)), media_type="application/json")
        except (msgspec.MsgspecError, BadRequestError, ValueError) as error:
            return PlainTextResponse(str(error), 400)

    return handle


def _plain(work: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_request: Request) -> Response:
        return Response(encode(work()), media_type="application/json")

    return handle


def routes(service: Service) -> list[BaseRoute]:
    """The control routes of a service."""
    account, control = service.account, Control(service)

    async def tree(request: Request) -> Response:
        try:
            found = list_tree(account, request.query_params.get("path", ""))
        except BadRequestError as error:
            return PlainTextResponse(str(error), 404)
        return Response(encode(found), media_type="application/json")

    async def content(request: Request) -> Response:
        try:
            node = _existing(account, request.query_params.get("path", ""))
        except BadRequestError as error:
            return PlainTextResponse(str(error), 404)
        if node.folder:
            return PlainTextResponse("that is a folder", 400)
        path = account.contents.path(node.hash)
        headers = {"Content-Length": str(node.size)}
        return StreamingResponse(read_range(path, 0, node.size), headers=headers)

    posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "network": _post(control.network, Profile),
        "faults": _post(control.faults, list[Fault]),
        "edit": _post(control.edit, list[Edit]),
        "populate": _post(control.populate, Populate),
        "quota": _post(control.quota, Quota),
        "shared_folder": _post(control.shared_folder, SharedFolder),
        "document": _post(control.document, Document),
        "team": _post(control.team, Team),
        "reset_cursors": _plain(account.reset_cursors),
        "expire_tokens": _plain(lambda: oauth.expire_all(account)),
        "revoke_tokens": _plain(lambda: oauth.revoke_all(account)),
        "counters/reset": _plain(lambda: service.network.reset_counters()),
    }
    gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "network": _plain(control.get_network),
        "faults": _plain(control.get_faults),
        "counters": _plain(control.counters),
        "tree": tree,
        "content": content,
    }
    return [
        *(HttpRoute(f"/control/{name}", do, methods=["POST"]) for name, do in posts.items()),
        *(HttpRoute(f"/control/{name}", do, methods=["GET"]) for name, do in gets.items()),
    ]
