"""Bytes made on the way out: a folder as a zip, a document exported.

The zip is made entry by entry while it is sent: a file's bytes are read and compressed in a
thread, and what the zip writer has produced goes out before the next piece is read.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from time import gmtime

import trio
from starlette.responses import Response, StreamingResponse

from dbxfs.demo.account import Account
from dbxfs.demo.arguments import Export, OnlyReadPath
from dbxfs.demo.content import read_range
from dbxfs.demo.metadata import describe
from dbxfs.demo.names import is_below
from dbxfs.demo.places import read, read_file
from dbxfs.demo.reading import with_result
from dbxfs.demo.routes import Call, route
from dbxfs.demo.tree import Node
from dbxfs.demo.wire import bad_call, fail

SCOPE = "files.content.read"
LARGEST_ZIP = 20 * 1000**3
LARGEST_IN_ZIP = 4 * 1000**3
MOST_IN_ZIP = 10_000


@route("files/download_zip", OnlyReadPath, SCOPE, style="download")
async def download_zip(call: Call, argument: OnlyReadPath) -> Response:
    account = call.account
    if argument.path == "/":
        raise bad_call(call.route, "path: The root folder is unsupported.")
    folder = read(account, call.view, argument.path, "path")
    if not folder.folder:
        fail("path", "not_folder")
    if account.tree.count_below(folder.key) + 1 >= MOST_IN_ZIP:
        fail("too_many_files")
    inside = [node for node in account.tree.below(folder.key, "", -1) if account.sees(node.key)]
    if sum(node.size for node in inside) > LARGEST_ZIP:
        fail("too_large")
    if any(node.size >= LARGEST_IN_ZIP for node in inside):
        fail("too_large")
    result = {"metadata": describe(account, call.view, folder, tagged=False)}
    headers = with_result(result) | {"Content-Type": "application/zip"}
    return StreamingResponse(_zip(account, folder, inside), headers=headers)


class _Pipe(io.RawIOBase):
    """What the zip writer writes to; `take` empties it."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]
        self._held += piece
        return len(piece)

    def take(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


async def _zip(account: Account, folder: Node, inside: list[Node]) -> AsyncIterator[bytes]:
    pipe = _Pipe()
    shown = {folder.key: folder.name}
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for node in [folder, *inside]:
            if is_below(node.key, folder.key):
                shown[node.key] = f"{shown[node.parent]}/{node.name}"
            if node.document:
                continue
            async for piece in _zip_one(account, archive, pipe, node, shown[node.key]):
                yield piece
    yield pipe.take()


async def _zip_one(
    account: Account, archive: zipfile.ZipFile, pipe: _Pipe, node: Node, name: str
) -> AsyncIterator[bytes]:
    moment = max(node.client_modified, 315532800)  # a zip knows no time before 1980
    info = zipfile.ZipInfo(name + ("/" if node.folder else ""), gmtime(moment)[:6])
    if node.folder:
        archive.writestr(info, b"")
        yield pipe.take()
        return
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w") as entry:
        async for data in read_range(account.contents.path(node.hash), 0, node.size):
            await trio.to_thread.run_sync(entry.write, data)
            yield pipe.take()
    yield pipe.take()


@route("files/export", Export, SCOPE, style="download")
async def export(call: Call, argument: Export) -> Response:
    account = call.account
    node = read_file(account, call.view, argument.path, "path")
    if not node.document:
        fail("non_exportable")
    if argument.export_format not in (None, node.document):
        fail("invalid_export_format")
    data = account.contents.path(node.hash).read_bytes()
    result = {
        "export_metadata": {
            "name": f"{node.name}.md",
            "size": node.size,
            "export_hash": node.hash,
        },
        "file_metadata": describe(account, call.view, node, tagged=False),
    }
    return Response(data, headers=with_result(result))
