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
        "default_permissions",
    ]
)

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
    sync_remote: bool = False
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
    return int(match[1]) << (10 * power)


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
    account = account or "default"
    if not _ACCOUNT.fullmatch(account):
        raise UsageError(f"{account!r} cannot be the name of an account")
    names = [name for name in folder.split("/") if name]
    for name in names:
        reason = problem(name)
        if reason is not None:
            raise UsageError(f"{name!r} cannot be a folder on Dropbox: {reason}")
    return account, RemotePath("".join(f"/{name}" for name in names))


def split_options(texts: Iterable[str]) -> list[str]:
    """The single options of several `-o a,b=c`."""
    return [option for text in texts for option in text.split(",") if option]


def parse_options(base: MountOptions, options: Iterable[str]) -> MountOptions:
    """`base` with the options; raises `UsageError` that names the one that is wrong."""
    values: dict[str, object] = {}
    kernel = set(base.kernel)
    for option in options:
        name, equals, value = option.partition("=")
        if name in KERNEL and not equals:
            kernel.add(name)
        elif name in ("suid", "dev"):
            kernel.discard(f"no{name}")
        elif name in DROPPED or name.startswith(("x-", "comment")):
            continue
        elif name == "demo" and not equals:
            values["demo"] = True
        else:
            values |= _own_option(option, name, value)
    if {"allow_other", "allow_root"} <= kernel:
        raise UsageError("allow_other and allow_root exclude each other")
    return MountOptions(**{**_fields(base), **values, "kernel": frozenset(kernel)})  # type: ignore[arg-type]


def _own_option(option: str, name: str, value: str) -> dict[str, object]:
    """What one of our own options sets."""
    if not value:
        raise UsageError(f"unknown option {option!r}; see mount.dbxfs(8)")
    match name:
        case "api_url":
            return {name: value}
        case "state_dir" | "cache_dir":
            return {name: Path(value).absolute()}
        case "cache_size":
            return {name: parse_size(value)}
        case "uid" | "gid":
            return {name: _number(option, value, 10)}
        case "fmask" | "dmask":
            return {name: _number(option, value, 8)}
        case "umask":
            mask = _number(option, value, 8)
            return {"fmask": mask, "dmask": mask}
        case "sync" if value in ("remote", "local"):
            return {"sync_remote": value == "remote"}
        case _:
            raise UsageError(f"unknown option {option!r}; see mount.dbxfs(8)")


def _number(option: str, value: str, base: int) -> int:
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if number < 0 or (base == 8 and number > 0o777):
        raise UsageError(f"{option!r} is no valid number")
    return number


def _fields(options: MountOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in options.__slots__}
