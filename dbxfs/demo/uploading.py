"""The calls that bring bytes: upload and the upload sessions."""

from __future__ import annotations

from pathlib import Path

from dbxfs.demo.account import Account, View
from dbxfs.demo.arguments import (
    CommitInfo,
    SessionAppend,
    SessionAppendBatch,
    SessionAppendBatchEntry,
    SessionFinish,
    SessionFinishBatch,
    SessionStart,
    SessionStartBatch,
    Upload,
)
from dbxfs.demo.commits import Commit, commit
from dbxfs.demo.content import Received, TooLargeError, read_range, receive_body
from dbxfs.demo.metadata import describe
from dbxfs.demo.properties import check_groups, write_groups
from dbxfs.demo.routes import Call, route
from dbxfs.demo.sessions import LARGEST_BODY, Session
from dbxfs.demo.tree import Content, Node
from dbxfs.demo.wire import EndpointError, Json, fail, union
from dbxfs.demo.writing import keys_of

SCOPE = "files.content.write"


def _check_hash(body: Received, wanted: str | None) -> None:
    if wanted is not None and wanted.lower() != body.content_hash:
        fail("content_hash_mismatch")


def _commit(
    account: Account, view: View, info: CommitInfo, source: Path, content: tuple[str, int]
) -> Node:
    """Commits the file `source`, whose hash and size are given. Raises WriteError values.

    The content is kept before the entry is made: a kill in between leaves a content too many,
    never an entry without one.
    """
    stamp = info.client_modified
    seconds = int(account.now()) if stamp is None else stamp.seconds
    wanted = Commit(
        info.path,
        Content(*content, seconds),
        info.mode,
        info.autorename,
        info.strict_conflict,
    )
    is_new = account.contents.keep(source, content[0])
    try:
        with account.tree.change():
            return commit(account, view, wanted)
    except BaseException:
        if is_new:
            account.contents.drop(content[0])
        raise


def _add_groups(account: Account, node: Node, info: CommitInfo) -> None:
    """Adds the properties that came with a commit; a wrong group does not undo the commit.

    Raises properties_error values.
    """
    if info.property_groups:
        check_groups(account, info.property_groups, "properties_error")
        with account.tree.change():
            write_groups(account, node, info.property_groups)
            account.tree.touch(node)


@route("files/upload", Upload, SCOPE, style="upload")
async def upload(call: Call, argument: Upload) -> Json:
    account = call.account
    source = account.contents.incoming()
    try:
        try:
            body = await receive_body(call.request.stream(), source, 0, LARGEST_BODY)
        except TooLargeError:
            fail("payload_too_large")
        _check_hash(body, argument.content_hash)

        def work() -> Node:
            return _commit_upload(call, argument, source, body)

        node = await account.commit(keys_of(call, [argument.path]), work)
    finally:
        source.unlink(missing_ok=True)
    return describe(account, call.view, node, tagged=False)


def _commit_upload(call: Call, argument: Upload, source: Path, body: Received) -> Node:
    account = call.account
    try:
        content = body.content_hash, body.size
        node = _commit(account, call.view, argument, source, content)
    except EndpointError as refused:
        session = call.sessions.adopt(source, body)
        raise EndpointError(
            union("path", reason=refused.error, upload_session_id=session)
        ) from None
    _add_groups(account, node, argument)
    return node


# sessions


@route("files/upload_session/start", SessionStart, SCOPE, style="upload")
async def start(call: Call, argument: SessionStart) -> Json:
    concurrent = argument.session_type is not None and argument.session_type.tag == "concurrent"
    if concurrent and argument.close:
        fail("concurrent_session_close_not_allowed")
    source = call.account.contents.incoming()
    try:
        try:
            body = await receive_body(call.request.stream(), source, 0, LARGEST_BODY)
        except TooLargeError:
            fail("payload_too_large")
        if concurrent and body.size:
            fail("concurrent_session_data_not_allowed")
        _check_hash(body, argument.content_hash)
        if concurrent:
            return {"session_id": call.sessions.create(concurrent=True)}
        ident = call.sessions.adopt(source, body)
        if argument.close:
            call.sessions.close(ident)
        return {"session_id": ident}
    finally:
        source.unlink(missing_ok=True)


@route("files/upload_session/start_batch", SessionStartBatch, SCOPE)
async def start_batch(call: Call, argument: SessionStartBatch) -> Json:
    concurrent = argument.session_type is not None and argument.session_type.tag == "concurrent"
    idents = [call.sessions.create(concurrent=concurrent) for _ in range(argument.num_sessions)]
    return {"session_ids": idents}


@route("files/upload_session/append_v2", SessionAppend, SCOPE, style="upload")
async def append(call: Call, argument: SessionAppend) -> None:
    sessions, cursor = call.sessions, argument.cursor
    session = sessions.find(cursor.session_id)
    async with sessions.turn(session):
        length = _length(call)
        session = sessions.check_append(
            cursor.session_id, cursor.offset, length, close=argument.close
        )
        body = await _take(call, session, cursor.offset)
        _check_hash(body, argument.content_hash)
        sessions.check_append(cursor.session_id, cursor.offset, body.size, close=argument.close)
        sessions.record(session, cursor.offset, body, close=argument.close)


def _length(call: Call) -> int | None:
    length = call.request.headers.get("content-length")
    return int(length) if length else None


async def _take(call: Call, session: Session, offset: int) -> Received:
    try:
        return await call.sessions.take(session, offset, call.request.stream(), LARGEST_BODY)
    except TooLargeError:
        fail("payload_too_large")


@route("files/upload_session/append_batch", SessionAppendBatch, SCOPE, style="upload")
async def append_batch(call: Call, argument: SessionAppendBatch) -> Json:
    source = call.account.contents.incoming()
    try:
        try:
            body = await receive_body(call.request.stream(), source, 0, LARGEST_BODY)
        except TooLargeError:
            fail("payload_too_large")
        if body.size != sum(entry.length for entry in argument.entries):
            fail("length_mismatch")
        _check_hash(body, argument.content_hash)
        entries = []
        start = 0
        for entry in argument.entries:
            entries.append(await _append_part(call, entry, source, start))
            start += entry.length
        return {"entries": entries}
    finally:
        source.unlink(missing_ok=True)


async def _append_part(
    call: Call, entry: SessionAppendBatchEntry, source: Path, start: int
) -> Json:
    sessions, cursor = call.sessions, entry.cursor
    try:
        session = sessions.find(cursor.session_id)
        async with sessions.turn(session):
            session = sessions.check_append(
                cursor.session_id, cursor.offset, entry.length, close=entry.close
            )
            part = read_range(source, start, start + entry.length)
            body = await sessions.take(session, cursor.offset, part, LARGEST_BODY)
            sessions.record(session, cursor.offset, body, close=entry.close)
    except EndpointError as refused:
        return {".tag": "failure", "failure": refused.error}
    return {".tag": "success"}


@route("files/upload_session/finish", SessionFinish, SCOPE, style="upload")
async def finish(call: Call, argument: SessionFinish) -> Json:
    sessions, cursor = call.sessions, argument.cursor
    session = sessions.find(cursor.session_id, "lookup_failed")
    async with sessions.turn(session):
        size = await _finish_body(call, argument)
        session = sessions.check_finish(cursor.session_id, cursor.offset + size, batch=False)
        content = await sessions.content(session)

        def work() -> Node:
            return _commit_session(call, argument, session, content)

        paths = [argument.commit.path]
        node = await call.account.commit(keys_of(call, paths), work)
    return describe(call.account, call.view, node, tagged=False)


async def _finish_body(call: Call, argument: SessionFinish) -> int:
    """Appends the data that came with `finish`; how many bytes there were."""
    sessions, cursor = call.sessions, argument.cursor
    session = sessions.find(cursor.session_id, "lookup_failed")
    if session.concurrent or session.closed or session.committed:
        source = call.account.contents.incoming()
        try:
            body = await receive_body(call.request.stream(), source, 0, LARGEST_BODY)
        except TooLargeError:
            fail("payload_too_large")
        finally:
            source.unlink(missing_ok=True)
        if body.size:
            if session.concurrent:
                fail("concurrent_session_data_not_allowed")
            fail("lookup_failed", "closed")
        _check_hash(body, argument.content_hash)
        return 0
    sessions.check_append(
        cursor.session_id, cursor.offset, _length(call), "lookup_failed", close=False
    )
    body = await _take(call, session, cursor.offset)
    _check_hash(body, argument.content_hash)
    if body.size:
        sessions.record(session, cursor.offset, body, close=False)
    return body.size


def _commit_session(
    call: Call, argument: SessionFinish, session: Session, content: tuple[str, int]
) -> Node:
    try:
        path = call.sessions.path(session)
        node = _commit(call.account, call.view, argument.commit, path, content)
    except EndpointError as refused:
        raise EndpointError(union_of("path", refused.error)) from None
    call.sessions.use_up(session)
    _add_groups(call.account, node, argument.commit)
    return node


def union_of(tag: str, value: Json) -> Json:
    """A union value under one more tag."""
    return {".tag": tag, tag: value}


@route("files/upload_session/finish_batch_v2", SessionFinishBatch, SCOPE)
async def finish_batch(call: Call, argument: SessionFinishBatch) -> Json:
    account, sessions = call.account, call.sessions
    ready: list[tuple[Session, tuple[str, int]] | Json] = []
    for entry in argument.entries:
        try:
            session = sessions.check_finish(
                entry.cursor.session_id, entry.cursor.offset, batch=True
            )
            ready.append((session, await sessions.content(session)))
        except EndpointError as refused:
            ready.append(refused.error)

    def work() -> list[Json]:
        return [
            {".tag": "failure", "failure": found}
            if isinstance(found, dict)
            else _finish_one(call, entry, *found)
            for entry, found in zip(argument.entries, ready, strict=True)
        ]

    keys = keys_of(call, [entry.commit.path for entry in argument.entries])
    if any(account.busy(key) for key in keys):
        busy = {".tag": "failure", "failure": union("too_many_write_operations")}
        return {"entries": [busy for _ in argument.entries]}
    return {"entries": await account.commit(keys, work)}


def _finish_one(
    call: Call, entry: SessionFinish, session: Session, content: tuple[str, int]
) -> Json:
    try:
        call.sessions.check_finish(session.id, entry.cursor.offset, batch=True)
        node = _commit_session(call, entry, session, content)
    except EndpointError as refused:
        return {".tag": "failure", "failure": refused.error}
    return {".tag": "success", **describe(call.account, call.view, node, tagged=False)}
