"""The daemon's socket: how the commands talk to a running mount.

One request a connection: a line of JSON, answered by lines of JSON; the last has `"done": true`.
The socket lies in the private state folder, and who connects must be the daemon's own user or
root (SO_PEERCRED).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dbxfs.sync.replicator import NotSentError

from . import checking, holding, reports

if TYPE_CHECKING:
    from .services import Services

log = logging.getLogger(__name__)

LONGEST_REQUEST = 64 * 1024
CONNECT_TIMEOUT = 5.0
PROGRESS_EVERY = 0.5

Reply = Callable[[dict[str, Any]], Awaitable[None]]


class NoAnswerError(Exception):
    """No daemon answers there."""


# ---- The daemon's side ----


async def serve_commands(
    services: Services,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands until cancelled."""
    path = services.folders.socket
    path.unlink(missing_ok=True)
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with address_of(path) as address:
        await listener.bind(address)
    path.chmod(0o600)
    listener.listen(16)

    async def answer(stream: trio.SocketStream) -> None:
        await _answer(services, stream)

    await trio.serve_listeners(answer, [trio.SocketListener(listener)], task_status=task_status)


async def _answer(services: Services, stream: trio.SocketStream) -> None:
    async def reply(value: dict[str, Any]) -> None:
        await stream.send_all(json.dumps(value).encode() + b"\n")

    async with stream:
        try:
            if _peer(stream) not in (0, os.getuid()):
                return
            await _carry_out(services, json.loads(await _line(stream)), reply)
        except* (trio.BrokenResourceError, ValueError) as group:
            log.debug("a command went away: %s", group.exceptions)
        except* Exception:
            # A command must never take the mount with it.
            log.exception("a command failed")


async def _carry_out(services: Services, request: object, reply: Reply) -> None:
    match request:
        case {"command": "status" | "pin" | "unpin" | "evict" as command, "ino": int(ino)}:
            await reply({**await holding.answer(services, command, ino), "done": True})
        case {"command": "status"}:
            await reply({**await reports.status(services), "done": True})
        case {"command": "sync"}:
            await _sync(services, reply)
        case {"command": "pause" | "resume" as command}:
            services.switch.turn(paused=command == "pause")
            await reply({**await reports.progress(services), "done": True})
        case {"command": "check", **options}:
            repair, full = options.get("repair") is True, options.get("full") is True
            await checking.check(services, reply, repair=repair, full=full)
        case _:
            await reply({"error": "unknown command", "done": True})


async def _sync(services: Services, reply: Reply) -> None:
    """Bring both sides together; progress now and then."""
    finished = trio.Event()

    async def agree() -> None:
        with contextlib.suppress(NotSentError):
            await services.replicator.drained()
            await services.feed.catch_up()
            await services.replicator.drained()
            await services.space.refresh()
        finished.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agree)
        while not finished.is_set():
            with trio.move_on_after(PROGRESS_EVERY):
                await finished.wait()
            if not finished.is_set():
                await reply(await reports.progress(services))
    await reply(
        {**await reports.progress(services), "errors": reports.errors(services), "done": True}
    )


def _peer(stream: trio.SocketStream) -> int:
    packed = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", packed)[1])


async def _line(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    while b"\n" not in received and len(received) < LONGEST_REQUEST:
        chunk = await stream.receive_some(4096)
        if not chunk:
            break
        received += chunk
    return bytes(received)


# ---- The commands' side ----


def ask(
    path: Path, command: str, timeout: float | None = None, **options: object
) -> Iterator[dict[str, Any]]:
    """Send a command with its options, give its replies one by one; the last has `done`.

    `timeout`: seconds without a word after which `NoAnswerError` is raised.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT)
        try:
            with address_of(path) as address:
                connection.connect(address)
            connection.settimeout(timeout)
            connection.sendall(json.dumps({"command": command, **options}).encode() + b"\n")
            for line in connection.makefile("rb"):
                reply = json.loads(line)
                yield reply
                if reply.get("done"):
                    return
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"the daemon does not answer ({error})") from None
    raise NoAnswerError("the daemon went away")


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address for the socket: the kernel takes 107 bytes, a folder's name can be longer."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
