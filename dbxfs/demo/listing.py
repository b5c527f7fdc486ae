"""The calls that list: list_folder and its cursors, longpoll, get_metadata."""

from __future__ import annotations

import random

import trio

from dbxfs.demo.arguments import Continue, GetMetadata, ListFolder, Longpoll
from dbxfs.demo.changes import (
    DEFAULT_LIMIT,
    Cursor,
    GoneError,
    InvalidCursorError,
    Listing,
    Page,
    ResetError,
    begin,
    has_changes,
    next_page,
    seal,
    unseal,
)
from dbxfs.demo.metadata import add_properties, describe, describe_deleted
from dbxfs.demo.places import MalformedError, UnknownIdError, locate, read
from dbxfs.demo.properties import check_templates
from dbxfs.demo.routes import Call, route
from dbxfs.demo.wire import Json, bad_call, fail


def _listing(call: Call, argument: ListFolder) -> Listing:
    account, view = call.account, call.view
    if argument.path == "/":
        raise bad_call(
            call.route,
            'request body: path: Specify the root folder as an empty string rather than as "/".',
        )
    if argument.shared_link is not None:
        raise bad_call(call.route, "request body: shared_link: not supported here")
    if argument.path == "":
        key = view.key
    else:
        node = read(account, view, argument.path, "path")
        if not node.folder:
            fail("path", "not_folder")
        key = node.key
        share = account.shares.get(key)
        if share and share.access == "no_access":
            fail("path", "restricted_content")
    if argument.include_property_groups is not None:
        check_templates(account, argument.include_property_groups.ids or [], "template_error")
    wanted = argument.include_property_groups
    return Listing(
        view.namespace,
        view.display,
        key,
        argument.recursive,
        argument.include_deleted,
        argument.include_mounted_folders,
        argument.include_non_downloadable_files,
        argument.include_has_explicit_shared_members,
        argument.limit or DEFAULT_LIMIT,
        None if wanted is None else wanted.ids or [],
    )


def _result(call: Call, page: Page) -> Json:
    return {
        "entries": page.entries,
        "cursor": seal(call.account, page.cursor),
        "has_more": page.has_more,
    }


def _cursor(call: Call, text: str) -> Cursor:
    try:
        return unseal(call.account, text)
    except InvalidCursorError:
        message = 'request body: cursor: Invalid "cursor" argument'
        raise bad_call(call.route, message) from None
    except ResetError:
        fail("reset")


def _page(call: Call, cursor: Cursor) -> Json:
    try:
        return _result(call, next_page(call.account, cursor))
    except GoneError:
        fail("path", "not_found")


@route("files/list_folder", ListFolder, "files.metadata.read")
async def list_folder(call: Call, argument: ListFolder) -> Json:
    return _page(call, begin(call.account, _listing(call, argument)))


@route("files/list_folder/continue", Continue, "files.metadata.read")
async def list_folder_continue(call: Call, argument: Continue) -> Json:
    cursor = _cursor(call, argument.cursor)
    if cursor.listing.namespace != call.view.namespace:
        message = 'request body: cursor: Invalid "cursor" argument for this path root'
        raise bad_call(call.route, message)
    return _page(call, cursor)


@route("files/list_folder/get_latest_cursor", ListFolder, "files.metadata.read")
async def get_latest_cursor(call: Call, argument: ListFolder) -> Json:
    cursor = begin(call.account, _listing(call, argument), at_end=True)
    return {"cursor": seal(call.account, cursor)}


@route("files/list_folder/longpoll", Longpoll, "", auth="none")
async def longpoll(call: Call, argument: Longpoll) -> Json:
    account = call.account
    jitter = random.uniform(0, account.longpoll_jitter)  # noqa: S311 — spreads, hides nothing
    deadline = trio.current_time() + argument.timeout + jitter
    while True:
        changed = account.tree.changed
        if has_changes(account, _cursor(call, argument.cursor)):
            return {"changes": True}
        with trio.move_on_at(deadline) as waiting:
            await changed.wait()
        if waiting.cancelled_caught:
            return {"changes": False}


@route("files/get_metadata", GetMetadata, "files.metadata.read")
async def get_metadata(call: Call, argument: GetMetadata) -> Json:
    account, view = call.account, call.view
    if argument.path == "/":
        raise bad_call(call.route, "request body: path: The root folder is unsupported.")
    deleted = _deleted(call, argument.path) if argument.include_deleted else None
    if deleted is not None:
        return deleted
    node = read(account, view, argument.path, "path")
    value = describe(account, view, node)
    if argument.include_has_explicit_shared_members and not node.folder:
        value["has_explicit_shared_members"] = False
    add_properties(account, [(node.fid, value)], argument.include_property_groups)
    return value


def _deleted(call: Call, path: str) -> Json | None:
    if path.startswith("rev:"):
        return None
    try:
        key = locate(call.account, call.view, path).key
    except (MalformedError, UnknownIdError):
        return None
    tomb = call.account.tree.tomb(key) if call.account.tree.get(key) is None else None
    return describe_deleted(call.view, tomb) if tomb else None
