"""Mount options: what `-o` may say, checked before anything is touched.

mount(8) passes generic options from /etc/fstab along with ours; those that only it cares about
are accepted and dropped, those of the kernel are passed on, and what nobody knows is refused by
name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dbxfs.api.settings import check_url
from dbxfs.core.model import ROOT, RemotePath
from dbxfs.core.names import problem

KERNEL = frozenset(
    [
        *("ro", "rw", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"),
        *("allow_other", "allow_root"),
    ]
)
DROPPED = frozenset(
    [
        *("defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail"),
        *("_netdev", "exec", "async", "atime", "diratime", "strictatime", "lazytime"),
        *("norelatime", "nostrictatime", "nolazytime", "noiversion", "nomand", "silent", "loud"),
        "default_permissions",
    ]
)
VALUED = {
    "api_url": "https://host",
    "state_dir": "/path",
    "cache_dir": "/path",
    "cache_size": "10G",
    "upload_limit": "500K",
    "download_limit": "2M",
    "uid": "1000",
    "gid": "1000",
    "fmask": "077",
    "dmask": "077",
    "umask": "077",
    "sync": "remote",
    "inotify": "always",
}
"""Our own options, each with a value that it may have."""

FLAGS = frozenset(["demo", "export_extension"])
"""Our own options without a value."""

RESERVED = frozenset(["demo", "mounts"])
"""Names in the state folder that are no accounts."""

SLOWEST = 1024
"""Bytes a second; slower, calls would run into their time-outs."""
LARGEST_CACHE = 1 << 60
NO_ID = 0xFFFFFFFF
"""The user or group id that means "none" to the kernel."""

_SIZE = re.compile(r"(\d+)([KMGT]?)", re.IGNORECASE)
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


class UsageError(Exception):
    """What was asked for makes no sense; `str()` says what to write instead."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """One mount, as asked for."""

    mountpoint: Path
    account: str = "default"
    folder: RemotePath = ROOT
    """The folder of the account that is mounted."""
    demo: bool = False
    api_url: str | None = None
    state_dir: Path | None = None
    cache_dir: Path | None = None
    cache_size: int = 10 * 1024**3
    """Bytes."""
    upload_limit: int | None = None
    """Bytes a second that contents may take; None: what the link has."""
    download_limit: int | None = None
    sync_remote: bool = False
    inotify: str = "auto"
    """Whether watchers are told of changes made elsewhere: auto, always, never."""
    export_extension: bool = False
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    fmask: int = 0o022
    dmask: int = 0o022
    kernel: frozenset[str] = frozenset({"nosuid", "nodev"})
    foreground: bool = False
    verbose: bool = False


def parse_size(text: str) -> int:
    """Bytes of "500M", "10G"…"""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no size; write it like 500M or 10G")
    power = " KMGT".index(match[2].upper() or " ")
    # So many digits that Python would not read them are too much all the same.
    size = int(match[1]) << (10 * power) if len(match[1]) < 20 else LARGEST_CACHE + 1
    if size > LARGEST_CACHE:
        raise UsageError(f"{text!r} is more than any disk holds")
    return size


def parse_source(source: str) -> tuple[str, RemotePath]:
    """Account and folder of `dbxfs:ACCOUNT[/sub/folder]`; `none` and `dbxfs` are the default."""
    if source in ("none", "dbxfs", ""):
        return "default", ROOT
    kind, colon, rest = source.partition(":")
    if not colon or kind != "dbxfs":
        raise UsageError(
            f"{source!r} is no source; write dbxfs:ACCOUNT, dbxfs:ACCOUNT/FOLDER or none"
        )
    account, _, folder = rest.partition("/")
    account = check_account(account or "default")
    names = [name for name in folder.split("/") if name]
    for name in names:
        reason = problem(name)
        if reason is not None:
            raise UsageError(f"{name!r} cannot be a folder on Dropbox: {reason}")
    return account, RemotePath("".join(f"/{name}" for name in names))


def check_account(account: str) -> str:
    """`account` if it can be the name of one; raises `UsageError`."""
    if not _ACCOUNT.fullmatch(account):
        raise UsageError(
            f"{account!r} cannot be the name of an account; use letters, digits and . _ @ + -"
        )
    if account.lower() in RESERVED:
        raise UsageError(f"{account!r} cannot be the name of an account; it has another meaning")
    return account


def split_options(texts: Iterable[str]) -> list[str]:
    """The single options of several `-o a,b=c`."""
    return [option for text in texts for option in text.split(",") if option]


def parse_options(
    base: MountOptions, options: Iterable[str], *, sloppy: bool = False
) -> MountOptions:
    """`base` with the options; raises `UsageError` that names the one that is wrong.

    `sloppy`: what is unknown is left out, as mount(8) asks with -s.
    """
    values: dict[str, object] = {}
    kernel = set(base.kernel)
    for option in options:
        name, equals, value = option.partition("=")
        if name in KERNEL and not equals:
            kernel.add(name)
        elif name in ("suid", "dev"):
            kernel.discard(f"no{name}")
        elif _is_others(name) or (sloppy and name not in {*VALUED, *FLAGS}):
            continue
        elif name in FLAGS and not equals:
            values[name] = True
        else:
            values |= _own_option(option, name, value)
    if {"allow_other", "allow_root"} <= kernel:
        raise UsageError("allow_other and allow_root exclude each other")
    if values.get("demo", base.demo) and "api_url" in values:
        raise UsageError("demo has a server of its own; it cannot be used with api_url")
    return MountOptions(**{**_fields(base), **values, "kernel": frozenset(kernel)})  # type: ignore[arg-type]


def _is_others(name: str) -> bool:
    """Whether it is a word of fstab's that says nothing to a mount helper."""
    return name in DROPPED or name.startswith(("x-", "comment"))


def _own_option(option: str, name: str, value: str) -> dict[str, object]:
    """What one of our own options sets."""
    if name not in VALUED:
        raise UsageError(f"unknown option {option!r}; see mount.dbxfs(8)")
    if not value:
        raise UsageError(f"option {name!r} needs a value, like {name}={VALUED[name]}")
    match name:
        case "api_url":
            return {name: _server(option, value)}
        case "state_dir" | "cache_dir":
            return {name: Path(os.path.expanduser(value)).absolute()}
        case "cache_size":
            return {name: parse_size(value)}
        case "upload_limit" | "download_limit":
            return {name: _rate(option, value)}
        case "uid" | "gid":
            return {name: _number(option, value, 10)}
        case "fmask" | "dmask":
            return {name: _number(option, value, 8)}
        case "umask":
            mask = _number(option, value, 8)
            return {"fmask": mask, "dmask": mask}
        case "inotify":
            if value not in ("auto", "always", "never"):
                raise UsageError(f"{option!r}: inotify is auto, always or never")
            return {name: value}
        case _ if value in ("remote", "local"):
            return {"sync_remote": value == "remote"}
        case _:
            raise UsageError(f"{option!r}: sync is remote or local")


def _rate(option: str, value: str) -> int | None:
    rate = parse_size(value)
    if 0 < rate < SLOWEST:
        raise UsageError(f"{option!r} is too slow to work with; 1K is the least, 0 means no limit")
    return rate or None


def _server(option: str, value: str) -> str:
    try:
        return check_url(value)
    except ValueError as error:
        raise UsageError(f"{option!r}: {error}") from None


def _number(option: str, value: str, base: int) -> int:
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if not 0 <= number < (0o1000 if base == 8 else NO_ID):
        raise UsageError(f"{option!r} is no valid number")
    return number


def _fields(options: MountOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in options.__slots__}
