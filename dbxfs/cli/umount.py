"""`umount.dbxfs`: unmount when everything is on Dropbox.

`--now`, or Ctrl-C while it waits, leaves the rest in the journal, where the next mount finds it;
so does a plain umount(8). What is in use stays mounted, as with umount(8).
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from .folders import daemon_of, socket_of
from .mountinfo import DROPBOX, mounted_type, place
from .progress import meter, progress_line, refused_line
from .socket import NoAnswerError, ask

FAILURE = 32
END_TIMEOUT = 10.0
BUSY_FOR = 1.0
"""Seconds in which what is busy may become free: who watches the mount is just being told of what
came from Dropbox last."""
AGAIN_AFTER = 0.03


def unmount(mountpoint: Path, *, now: bool) -> None:
    """Wait for Dropbox unless `now`, then unmount; raises `click.ClickException`.

    Returns when the daemon has ended too, so that the account can be mounted again at once.
    """
    try:
        real = place(mountpoint)
    except OSError as error:
        raise click.ClickException(f"{mountpoint}: {error.strerror}") from None
    if mounted_type(real) != DROPBOX:
        raise click.ClickException(f"no Dropbox is mounted on {mountpoint}")
    daemon = daemon_of(real)
    try:
        _unmount(real, now=now)
        if daemon is not None:
            select.select([daemon], [], [], END_TIMEOUT)
    finally:
        if daemon is not None:
            os.close(daemon)


def _unmount(real: Path, *, now: bool) -> None:
    if not now:
        try:
            wait_until_synced(real)
        except NoAnswerError as error:
            click.echo(f"umount.dbxfs: {error}; unmounting without waiting", err=True)
        except KeyboardInterrupt:
            click.echo("\nunmounting now; the rest is sent at the next mount", err=True)
    command = [*unmount_command(), str(real)]
    deadline = time.monotonic() + BUSY_FOR
    while (done := _run(command)).returncode and time.monotonic() < deadline:
        time.sleep(AGAIN_AFTER)
    if done.returncode:
        raise click.ClickException(done.stderr.strip() or f"{real} cannot be unmounted")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def wait_until_synced(mountpoint: Path) -> None:
    """Wait until both sides agree, with progress on a terminal; errors are printed."""
    socket = socket_of(mountpoint)
    if socket is None:
        raise NoAnswerError(f"no dbxfs is known to be mounted on {mountpoint}")
    reply: dict[str, object] = {}
    told = False
    with meter() as bar:
        for reply in ask(socket, "sync"):
            bar.show(reply)
            if reply.get("trouble") and not told and not bar.visible:
                told = True
                click.echo(f"waiting (--now does not): {progress_line(reply)}", err=True)
    if reply.get("paused"):
        click.echo(f"sending is paused: {progress_line(reply)}, at the next mount", err=True)
    errors = reply.get("errors")
    if isinstance(errors, list) and errors:
        click.echo(f"{len(errors)} changes are not on Dropbox and stay in the journal:", err=True)
        for error in errors:
            click.echo(f"  {refused_line(error)}", err=True)


def unmount_command() -> list[str]:
    """How this user unmounts; the mount point is to be added."""
    if os.getuid() == 0:
        return ["umount", "-i"]
    return [shutil.which("fusermount3") or shutil.which("fusermount") or "fusermount3", "-u"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--now", is_flag=True, help="Do not wait for uploads; the next mount goes on.")
def umount(mountpoint: Path, now: bool) -> None:
    """Unmount MOUNTPOINT when everything is on Dropbox."""
    unmount(mountpoint, now=now)


def main() -> NoReturn:
    """The command's entry point."""
    try:
        umount(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.UsageError as error:
        print(f"umount.dbxfs: {error.format_message()}", file=sys.stderr)
        sys.exit(1)
    except click.ClickException as error:
        print(f"umount.dbxfs: {error.format_message()}", file=sys.stderr)
        sys.exit(FAILURE)
    except click.Abort:
        sys.exit(FAILURE)
    sys.exit(0)
