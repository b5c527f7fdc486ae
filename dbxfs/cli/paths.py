"""The commands for files and folders in a mount: pin, unpin, evict, and the status of a path."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from .folders import socket_of
from .mountinfo import place
from .socket import NoAnswerError, ask

PATIENCE = 120.0
"""Seconds to wait for the answer: a tree may be large."""

Reply = dict[str, Any]

_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class RefusedError(ValueError):
    """The daemon cannot do it; `str()` says why."""


def owner_of(path: Path) -> tuple[Path, Path]:
    """The mount point that a path is in, or is, and the socket of its daemon.

    Raises `NoAnswerError` where there is none.
    """
    real = place(path)
    for folder in (real, *real.parents):
        socket = socket_of(folder)
        if socket is not None:
            return folder, socket
    raise NoAnswerError(f"no dbxfs is known to be mounted on {path}")


def ask_about(path: Path, command: str) -> Reply:
    """The daemon's answer to a command about a path in its mount.

    Raises `NoAnswerError`, `RefusedError`, and OSError when the path is not there.
    """
    _, socket = owner_of(path)
    ino = os.lstat(place(path)).st_ino
    (reply,) = ask(socket, command, PATIENCE, ino=ino)
    del reply["done"]
    if "refused" in reply:
        raise RefusedError(f"{path}: {reply['refused']}")
    return reply


@click.command()
@_PATHS
@_JSON
def pin(paths: tuple[Path, ...], as_json: bool) -> None:
    """Keep files, or all that is in folders, on this machine: complete, and up to date."""

    def line(path: Path, reply: Reply) -> str:
        left = reply["size"] - reply["cached_bytes"]
        rest = f"{_size(left)} still to fetch" if left > 0 else "all here"
        return f"{path}: pinned; {_files(reply)}, {rest}"

    _for_each(paths, "pin", line, as_json=as_json)


@click.command()
@_PATHS
@_JSON
def unpin(paths: tuple[Path, ...], as_json: bool) -> None:
    """Keep them no longer: pins of files and folders, and of what is in them."""

    def line(path: Path, reply: Reply) -> str:
        return f"{path}: {'unpinned' if reply['removed'] else 'was not pinned'}"

    _for_each(paths, "unpin", line, as_json=as_json)


@click.command()
@_PATHS
@_JSON
def evict(paths: tuple[Path, ...], as_json: bool) -> None:
    """Free the disk of what is cached; what is pinned or not sent yet stays."""

    def line(path: Path, reply: Reply) -> str:
        return f"{path}: {_size(reply['freed'])} freed"

    _for_each(paths, "evict", line, as_json=as_json)


def _for_each(
    paths: Iterable[Path], command: str, line: Callable[[Path, Reply], str], *, as_json: bool
) -> None:
    replies = []
    for path in paths:
        reply = ask_about(path, command)
        replies.append(reply)
        if not as_json:
            click.echo(line(path, reply))
    if as_json:
        click.echo(json.dumps(replies, indent=2))


def status_lines(path: Path, reply: Reply) -> Iterable[str]:
    """What `dbxfs status` says of a path, for people."""
    yield f"{path}"
    if reply["kind"] == "document":
        yield "  an online document; it is fetched each time that it is opened"
    elif reply["kind"] == "folder":
        yield f"  {_files(reply)}, {reply['cached']}% here"
    else:
        yield f"  {_size(reply['size'])}, {reply['cached']}% here"
    if reply["pinned"]:
        yield "  pinned"
    if reply["state"]:
        yield f"  {reply['state']}" + (f": {reply['error']}" if reply["error"] else "")
    if reply["rev"]:
        yield f"  revision {reply['rev']}"


def pinned_line(pinned: Reply) -> str:
    """What `dbxfs status` says of a mount's pins."""
    line = f"pinned: {_files(pinned)}, "
    if not pinned["missing"]:
        return f"{line}all here"
    trouble = f" ({pinned['trouble']})" if pinned["trouble"] else ""
    return f"{line}{_size(pinned['missing'])} still to fetch{trouble}"


def _files(reply: Reply) -> str:
    count = reply["files"]
    return f"{count} file{'' if count == 1 else 's'} of {_size(reply['size'])}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"
