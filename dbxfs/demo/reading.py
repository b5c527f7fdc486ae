"""The calls that give bytes, and revisions: download, export, zip, temporary links."""

from __future__ import annotations

import re
import secrets
from mimetypes import guess_type

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from dbxfs.demo.account import Account
from dbxfs.demo.arguments import Download, ListRevisions, OnlyReadPath
from dbxfs.demo.content import INLINE, read_range
from dbxfs.demo.metadata import describe, number_of, rev_of
from dbxfs.demo.places import MalformedError, UnknownIdError, locate, read_file
from dbxfs.demo.routes import Call, route
from dbxfs.demo.tree import COLUMNS, Node
from dbxfs.demo.wire import Json, fail, header_json, timestamp

SCOPE = "files.content.read"
LINK_LIFETIME = 4 * 3600
"""Seconds that a temporary link works."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class UnsatisfiableError(Exception):
    """The range lies outside the file."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for; None for all of the file.

    Several ranges, and what is not understood, count as no range (RFC 9110, 14.2).
    Raises UnsatisfiableError.
    """
    match = _RANGE.match(header or "")
    if not match or not (match[1] or match[2]):
        return None
    if match[1]:
        start, stop = int(match[1]), int(match[2]) + 1 if match[2] else size
        if match[2] and stop <= start:
            return None
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= size or stop <= start:
        raise UnsatisfiableError
    return start, min(stop, size)


def serve_bytes(account: Account, node: Node, request: Request, headers: Json) -> Response:
    """The content of a file, or the range of it that the request asks for."""
    etag = f'W/"{rev_of(node.rev)}"'
    headers = {**headers, "ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") in (etag, etag[2:]):
        return Response(status_code=304, headers=headers)
    try:
        wanted = parse_range(request.headers.get("range"), node.size)
    except UnsatisfiableError:
        refusal = {"Content-Range": f"bytes */{node.size}"}
        return PlainTextResponse("Range Not Satisfiable", 416, headers=refusal)
    start, stop = wanted or (0, node.size)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{node.size}"
        headers["Original-Content-Length"] = str(node.size)
    status = 206 if wanted else 200
    path = account.contents.path(node.hash)
    if stop - start <= INLINE:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            data = file.read(stop - start)
        return Response(data, status, headers)
    headers["Content-Length"] = str(stop - start)
    return StreamingResponse(read_range(path, start, stop), status, headers)


def with_result(value: Json) -> Json:
    """The headers of an answer whose body is bytes and whose result is `value`."""
    return {"Dropbox-API-Result": header_json(value), "Content-Type": "application/octet-stream"}


@route("files/download", Download, SCOPE, style="download")
async def download(call: Call, argument: Download) -> Response:
    path = argument.path
    if argument.rev is not None:
        path = f"rev:{argument.rev}"
    node = read_file(call.account, call.view, path, "path")
    if node.document:
        fail("unsupported_file")
    result = describe(call.account, call.view, node, tagged=False)
    return serve_bytes(call.account, node, call.request, with_result(result))


@route("files/get_temporary_link", OnlyReadPath, SCOPE)
async def get_temporary_link(call: Call, argument: OnlyReadPath) -> Json:
    account = call.account
    node = read_file(account, call.view, argument.path, "path")
    if node.document:
        fail("unsupported_file")
    token = secrets.token_urlsafe(48)
    expires = int(account.now()) + LINK_LIFETIME
    account.db.execute("INSERT INTO temporary_links VALUES (?, ?, ?)", (token, node.rev, expires))
    return {
        "metadata": describe(account, call.view, node, tagged=False),
        "link": f"{str(call.request.base_url).rstrip('/')}/1/view/{token}/file",
    }


def temporary_link(account: Account, request: Request, token: str) -> Response:
    """What a temporary link answers: the bytes, 404, or 410 when it is too old."""
    row = account.db.execute(
        "SELECT rev, expires FROM temporary_links WHERE token = ?", (token,)
    ).fetchone()
    node = account.tree.by_rev(row[0]) if row else None
    if node is None:
        return PlainTextResponse("Not Found", 404)
    if row[1] < account.now():
        return PlainTextResponse("Gone", 410)
    kind = guess_type(node.name)[0] or "application/octet-stream"
    return serve_bytes(account, node, request, {"Content-Type": kind})


@route("files/list_revisions", ListRevisions, "files.metadata.read")
async def list_revisions(call: Call, argument: ListRevisions) -> Json:
    account, view = call.account, call.view
    by_path = argument.mode.tag == "path"
    before = 1 << 62
    if argument.before_rev is not None:
        if not by_path:
            fail("before_rev_not_supported")
        before = number_of(argument.before_rev)
        if account.tree.by_rev(before) is None:
            fail("invalid_before_rev")
    latest = _latest(call, argument.path)
    where, value = ("key", latest.key) if by_path else ("fid", latest.fid)
    query = f"SELECT {COLUMNS}, {{}} FROM {{}} WHERE {where} = ? AND rev < ? AND rev > 0"  # noqa: S608
    rows = account.db.execute(
        f"{query.format('0 AS gone', 'entries')} UNION ALL {query.format('gone', 'history')}"
        " ORDER BY rev DESC LIMIT ?",
        (value, before, value, before, argument.limit + 1),
    ).fetchall()
    found = rows[: argument.limit]
    result: Json = {
        "is_deleted": bool(found and found[0][-1]),
        "entries": [describe(account, view, Node._make(row[:-1]), tagged=False) for row in found],
        "has_more": len(rows) > argument.limit,
    }
    if result["is_deleted"]:
        result["server_deleted"] = timestamp(found[0][-1])
    return result


def _latest(call: Call, path: str) -> Node:
    """The file at `path`, or the latest that was there. Raises LookupError values."""
    account, view = call.account, call.view
    try:
        key = locate(account, view, path).key
    except MalformedError:
        fail("path", "malformed_path", malformed_path=path)
    except UnknownIdError:
        fid = account.fid_of(path)
        where, value = "fid", -1 if fid is None else fid
    else:
        node = account.tree.get(key)
        if node is not None:
            return read_file(account, view, path, "path")
        where, value = "key", key  # type: ignore[assignment]
    row = account.db.execute(
        f"SELECT {COLUMNS} FROM history WHERE {where} = ? ORDER BY rev DESC LIMIT 1",  # noqa: S608
        (value,),
    ).fetchone()
    if row is None or not view.shows(row[0]) or not account.sees(row[0]):
        fail("path", "not_found")
    return Node._make(row)
