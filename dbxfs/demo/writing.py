"""The calls that change the tree without bytes: create, delete, move, copy, restore.

The batch forms run as jobs. A job does its work when its turn comes, which is before the answer
that names it is sent; it is reported as in progress until the time that a commit takes is over.
Every entry of a batch succeeds or fails by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
import trio

from dbxfs.demo import relocation
from dbxfs.demo.account import Account
from dbxfs.demo.arguments import (
    CopyBatch,
    CreateFolder,
    CreateFolderBatch,
    Delete,
    DeleteBatch,
    MoveBatch,
    Poll,
    Relocation,
    Restore,
)
from dbxfs.demo.metadata import describe
from dbxfs.demo.names import is_below
from dbxfs.demo.places import MalformedError, UnknownIdError, locate, read
from dbxfs.demo.routes import Call, route
from dbxfs.demo.tree import Node
from dbxfs.demo.wire import EndpointError, Json, encode, fail, union

SCOPE = "files.content.write"
LARGE_BATCH = 100
"""Folders from which on create_folder_batch becomes a job."""

PROMPT_BATCH = 10
"""Entries up to which a batch of moves or copies is answered at once."""


def keys_of(call: Call, paths: Iterable[str]) -> list[str]:
    """The keys that a call is about, for the lock; what cannot be found locks the view's own."""
    keys = []
    for path in paths:
        try:
            keys.append(locate(call.account, call.view, path).key)
        except (MalformedError, UnknownIdError):
            keys.append(call.view.key)
    return keys


async def _commit(call: Call, paths: list[str], work: Callable[[], Node]) -> Node:
    def change() -> Node:
        with call.account.tree.change():
            return work()

    return await call.account.commit(keys_of(call, paths), change)


@route("files/create_folder_v2", CreateFolder, SCOPE)
async def create_folder(call: Call, argument: CreateFolder) -> Json:
    def work() -> Node:
        return relocation.create_folder(
            call.account, call.view, argument.path, autorename=argument.autorename
        )

    node = await _commit(call, [argument.path], work)
    return {"metadata": describe(call.account, call.view, node, tagged=False)}


@route("files/delete_v2", Delete, SCOPE)
async def delete(call: Call, argument: Delete) -> Json:
    value: Json = {}

    def work() -> Node:
        node = read(call.account, call.view, argument.path, "path_lookup")
        value.update(describe(call.account, call.view, node))
        return relocation.delete(call.account, call.view, argument.path, argument.parent_rev)

    await _commit(call, [argument.path], work)
    return {"metadata": value}


@route("files/move_v2", Relocation, SCOPE)
async def move(call: Call, argument: Relocation) -> Json:
    return await _relocate(call, argument, relocation.move)


@route("files/copy_v2", Relocation, SCOPE)
async def copy(call: Call, argument: Relocation) -> Json:
    return await _relocate(call, argument, relocation.copy)


async def _relocate(call: Call, argument: Relocation, how: Callable[..., Node]) -> Json:
    def work() -> Node:
        return how(
            call.account,
            call.view,
            argument.from_path,
            argument.to_path,
            autorename=argument.autorename,
        )

    node = await _commit(call, [argument.from_path, argument.to_path], work)
    return {"metadata": describe(call.account, call.view, node)}


@route("files/restore", Restore, SCOPE)
async def restore(call: Call, argument: Restore) -> Json:
    def work() -> Node:
        return relocation.restore(call.account, call.view, argument.path, argument.rev)

    node = await _commit(call, [argument.path], work)
    return describe(call.account, call.view, node, tagged=False)


# batches


def _entry(account: Account, work: Callable[[], Json], wrap: Callable[[Json], Json]) -> Json:
    """One entry of a batch, as a change of its own: its success or its failure."""
    try:
        with account.tree.change():
            return {".tag": "success", **work()}
    except EndpointError as refused:
        return {".tag": "failure", "failure": wrap(refused.error)}


async def _run(
    call: Call, kind: str, keys: list[str], work: Callable[[], list[Json]], *, at_once: bool
) -> Json:
    """Runs a batch: the answer itself (`at_once`), or the job that has it."""
    result = {".tag": "complete"}
    if at_once:
        return {**result, "entries": await call.account.commit_queued(keys, work)}
    hold = call.account.commit_seconds
    entries = await call.account.commit_queued(keys, work, stay=False)
    return launch(call.account, kind, {**result, "entries": entries}, call.account.now() + hold)


def launch(account: Account, kind: str, result: Json, ready: float) -> Json:
    """Keeps a job's result until it is asked for; the answer that names the job."""
    ident = f"dbjid:AA{secrets.token_urlsafe(24)}"
    row = (ident, kind, ready, encode(result))
    account.db.execute("INSERT INTO jobs VALUES (?, ?, ?, ?)", row)
    return {".tag": "async_job_id", "async_job_id": ident}


async def check(call: Call, argument: Poll, kind: str) -> Any:
    """The state of a job of this kind. Raises PollError values."""
    row = call.account.db.execute(
        "SELECT ready, result FROM jobs WHERE id = ? AND kind = ?", (argument.async_job_id, kind)
    ).fetchone()
    if row is None:
        fail("invalid_async_job_id")
    ready, result = row
    if call.account.now() < ready:
        return {".tag": "in_progress"}
    await trio.lowlevel.checkpoint()
    return msgspec.json.decode(result)


@route("files/create_folder_batch", CreateFolderBatch, SCOPE)
async def create_folder_batch(call: Call, argument: CreateFolderBatch) -> Json:
    account, view = call.account, call.view
    paths = list(dict.fromkeys(argument.paths))

    def one(path: str) -> Json:
        node = relocation.create_folder(account, view, path, autorename=argument.autorename)
        return {"metadata": describe(account, view, node, tagged=False)}

    def work() -> list[Json]:
        return [_entry(account, partial(one, path), _same) for path in paths]

    at_once = not argument.force_async and len(paths) < LARGE_BATCH
    return await _run(call, "create", keys_of(call, paths), work, at_once=at_once)


@route("files/delete_batch", DeleteBatch, SCOPE)
async def delete_batch(call: Call, argument: DeleteBatch) -> Json:
    account, view = call.account, call.view

    def one(entry: Delete) -> Json:
        node = read(account, view, entry.path, "path_lookup")
        value = describe(account, view, node)
        relocation.delete(account, view, entry.path, entry.parent_rev)
        return {"metadata": value}

    def work() -> list[Json]:
        return [_entry(account, partial(one, entry), _same) for entry in argument.entries]

    keys = keys_of(call, [entry.path for entry in argument.entries])
    return await _run(call, "delete", keys, work, at_once=False)


@route("files/move_batch_v2", MoveBatch, SCOPE)
async def move_batch(call: Call, argument: MoveBatch) -> Json:
    return await _relocate_batch(call, argument, "move", relocation.move)


@route("files/copy_batch_v2", CopyBatch, SCOPE)
async def copy_batch(call: Call, argument: CopyBatch) -> Json:
    return await _relocate_batch(call, argument, "copy", relocation.copy)


async def _relocate_batch(
    call: Call, argument: CopyBatch, kind: str, how: Callable[..., Node]
) -> Json:
    account, view = call.account, call.view

    def one(source: str, target: str) -> Json:
        node = how(account, view, source, target, autorename=argument.autorename)
        return {"success": describe(account, view, node)}

    entangled = _entangled(call, argument)

    def work() -> list[Json]:
        return [
            _ENTANGLED
            if index in entangled
            else _entry(account, partial(one, entry.from_path, entry.to_path), _relocation)
            for index, entry in enumerate(argument.entries)
        ]

    paths = [path for entry in argument.entries for path in (entry.from_path, entry.to_path)]
    at_once = len(argument.entries) <= PROMPT_BATCH
    return await _run(call, kind, keys_of(call, paths), work, at_once=at_once)


_ENTANGLED = {
    ".tag": "failure",
    "failure": union("relocation_error", "duplicated_or_nested_paths"),
}


def _entangled(call: Call, argument: CopyBatch) -> set[int]:
    """The entries one of whose paths is, holds or lies in a path of another entry."""
    marked = [
        (key, index)
        for index, entry in enumerate(argument.entries)
        for key in keys_of(call, [entry.from_path, entry.to_path])
        if key != call.view.key
    ]
    found: set[int] = set()
    open_keys: list[tuple[str, int]] = []
    for key, index in sorted(marked, key=lambda mark: mark[0].split("/")):
        while open_keys and not (key == open_keys[-1][0] or is_below(key, open_keys[-1][0])):
            open_keys.pop()
        for _above, other in open_keys:
            if other != index:
                found |= {index, other}
        open_keys.append((key, index))
    return found


def _same(error: Json) -> Json:
    return error


def _relocation(error: Json) -> Json:
    return union(
        "relocation_error", error[".tag"], **{k: v for k, v in error.items() if k != ".tag"}
    )


@route("files/create_folder_batch/check", Poll, SCOPE)
async def check_create(call: Call, argument: Poll) -> Any:
    return await check(call, argument, "create")


@route("files/delete_batch/check", Poll, SCOPE)
async def check_delete(call: Call, argument: Poll) -> Any:
    return await check(call, argument, "delete")


@route("files/move_batch/check_v2", Poll, SCOPE)
async def check_move(call: Call, argument: Poll) -> Any:
    return await check(call, argument, "move")


@route("files/copy_batch/check_v2", Poll, SCOPE)
async def check_copy(call: Call, argument: Poll) -> Any:
    return await check(call, argument, "copy")
