"""`dbxfs`: the commands around a mount."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import trio

from dbxfs.api.auth import TOKEN_URL
from dbxfs.api.errors import DropboxError
from dbxfs.api.login import WWW_URL, begin, exchange

from . import credentials, paths
from .folders import mounts, socket_of
from .mountinfo import place
from .older import warn_of_older_program
from .options import UsageError, check_account
from .progress import meter, progress_line, refused_line
from .socket import NoAnswerError, ask
from .umount import unmount

ANSWER_TIMEOUT = 10.0

CHECK_TIMEOUT = 60.0
"""Seconds without a sign of progress after which a check counts as lost."""

OFFLINE_PATIENCE = 30.0
"""Seconds that `sync` waits for a Dropbox that cannot be reached."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbxfs-mount", prog_name="dbxfs")
def dbxfs() -> None:
    """A Dropbox account as a local folder."""
    warn_of_older_program()


@dbxfs.command()
@click.argument("account", default="default")
@click.option("--app-key", envvar="DBXFS_APP_KEY", help="Key of the Dropbox app to sign in with.")
@click.option("--api-url", envvar="DBXFS_API_URL", hidden=True)
def login(account: str, app_key: str | None, api_url: str | None) -> None:
    """Sign in to Dropbox and keep the account under the name ACCOUNT."""
    check_account(account)
    app_key = app_key or click.prompt("App key (from https://www.dropbox.com/developers/apps)")
    token_url = f"{api_url}/oauth2/token" if api_url else TOKEN_URL
    address, verifier = begin(app_key, api_url or WWW_URL)
    click.echo("Open this address, allow the access, and copy the code that is shown:")
    click.echo(f"\n  {address}\n")
    # Not an argument and not echoed: the code is as good as the account for a few minutes.
    code = click.prompt("Code", hide_input=sys.stdin.isatty())

    async def finish() -> Path:
        granted = await exchange(code, verifier, app_key, token_url=token_url)
        return credentials.store(
            account,
            refresh_token=granted.refresh_token,
            app_key=app_key,
            token_url=token_url,
            account_id=granted.account_id,
        )

    path = trio.run(finish)
    click.echo(f"Signed in; the credentials are in {path}")
    name = "none" if account == "default" else f"dbxfs:{account}"
    click.echo(f"Mount it with: mount.dbxfs {name} MOUNTPOINT")


@dbxfs.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(path: Path | None, as_json: bool) -> None:
    """Show what the mounts are doing, or the one on PATH, or a file or folder in one."""
    if path is not None and paths.owner_of(path)[0] != place(path):
        reply = paths.ask_about(path, "status")
        text = (
            json.dumps(reply, indent=2) if as_json else "\n".join(paths.status_lines(path, reply))
        )
        click.echo(text)
        return
    found = [_socket(path)] if path else [socket for _, socket in mounts()]
    replies = []
    for socket in found:
        try:
            replies += [*ask(socket, "status", ANSWER_TIMEOUT)]
        except NoAnswerError:
            if path:
                raise
    for reply in replies:
        reply.pop("done", None)
    if as_json:
        click.echo(json.dumps(replies[0] if path else replies, indent=2))
        return
    for line in _status_lines(replies):
        click.echo(line)


def _status_lines(replies: list[dict[str, Any]]) -> Iterator[str]:
    if not replies:
        yield "Nothing is mounted."
    for reply in replies:
        yield f"{reply['mountpoint']} ({reply['account']})"
        yield f"  {'online' if reply['online'] else 'offline: ' + reply['trouble']}"
        if reply["paused"]:
            yield "  paused: nothing is sent or fetched ahead until dbxfs resume"
        yield f"  {reply['entries']} entries, listing {reply['listing']}"
        yield f"  {progress_line({**reply, 'trouble': None})}"
        if reply["pinned"]["files"]:
            yield f"  {paths.pinned_line(reply['pinned'])}"
        if reply["local"]:
            yield f"  {reply['local']} files with names that Dropbox does not take are kept here"
        if reply.get("attributes"):
            yield f"  modes, times, links and attributes are kept here only: {reply['attributes']}"
        for error in reply["errors"]:
            yield f"  {refused_line(error)}"
        for path in reply["recovered"]:
            yield f"  bytes of an unknown file, put aside after a crash: {path}"


@dbxfs.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sync(mountpoint: Path, as_json: bool) -> None:
    """Return when MOUNTPOINT and Dropbox agree; 1 when something could not be sent."""
    reply: dict[str, Any] = {}
    well = time.monotonic()
    with meter() as bar:
        for reply in ask(_socket(mountpoint), "sync"):
            bar.show(reply)
            if not reply.get("trouble"):
                well = time.monotonic()
            elif time.monotonic() - well > OFFLINE_PATIENCE:
                raise NoAnswerError(f"{reply['trouble']}; what is not sent stays in the journal")
    if reply.get("paused"):
        raise NoAnswerError(f"sending is paused, {progress_line(reply)}; dbxfs resume goes on")
    if as_json:
        click.echo(json.dumps({"errors": reply["errors"]}, indent=2))
    elif reply["errors"]:
        for error in reply["errors"]:
            click.echo(refused_line(error), err=True)
    if reply["errors"]:
        sys.exit(1)


@dbxfs.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
def pause(mountpoint: Path) -> None:
    """Send nothing to Dropbox and fetch nothing ahead, until resume; also after a remount."""
    _turn(mountpoint, "pause")


@dbxfs.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
def resume(mountpoint: Path) -> None:
    """Go on after pause."""
    _turn(mountpoint, "resume")


def _turn(mountpoint: Path, command: str) -> None:
    for reply in ask(_socket(mountpoint), command, ANSWER_TIMEOUT):
        if "error" in reply:
            raise NoAnswerError(f"the daemon on {mountpoint} is an older one; mount again")
        click.echo(progress_line({**reply, "trouble": None}))


@dbxfs.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Mend what can be mended; nothing unsent is lost.")
@click.option("--full", is_flag=True, help="Read all of the cache, not a sample.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(mountpoint: Path, repair: bool, full: bool, as_json: bool) -> None:
    """Hold what is stored for MOUNTPOINT and Dropbox against each other; 1 when they differ."""
    reply: dict[str, Any] = {}
    shown = sys.stderr.isatty()
    for reply in ask(_socket(mountpoint), "check", CHECK_TIMEOUT, repair=repair, full=full):
        if shown:
            said = "" if reply.get("done") else f"checking: {reply.get('checking')}"
            click.echo(f"\r\033[K{said}", err=True, nl=False)
    reply.pop("done", None)
    if "error" in reply:
        raise NoAnswerError(f"the daemon on {mountpoint} is an older one; mount again")
    if as_json:
        click.echo(json.dumps(reply, indent=2))
    else:
        for line in _check_lines(reply):
            click.echo(line)
    if not reply["compared"] or not all(finding["repaired"] for finding in reply["findings"]):
        sys.exit(1)


def _check_lines(reply: dict[str, Any]) -> Iterator[str]:
    for finding in reply["findings"]:
        about = f"{finding['path']}: " if finding["path"] else ""
        yield f"{about}{finding['problem']}"
        yield f"  {'repaired' if finding['repaired'] else finding['remedy']}"
    if reply["more"]:
        yield "There may be more; check again afterwards."
    if not reply["compared"]:
        yield f"Dropbox was left out: {reply['trouble']}"
    elif not reply["findings"]:
        yield "All agrees."
    if reply["pending"]:
        yield f"{progress_line({**reply, 'trouble': None})}; that is in order (see dbxfs status)"


@dbxfs.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--now", is_flag=True, help="Do not wait for uploads; the next mount goes on.")
def umount(mountpoint: Path, now: bool) -> None:
    """Unmount MOUNTPOINT when everything is on Dropbox."""
    unmount(mountpoint, now=now)


def _socket(mountpoint: Path) -> Path:
    socket = socket_of(place(mountpoint))
    if socket is None:
        raise NoAnswerError(f"no dbxfs is known to be mounted on {mountpoint}")
    return socket


for command in (paths.pin, paths.unpin, paths.evict):
    dbxfs.add_command(command)


def main() -> NoReturn:
    """The command's entry point."""
    try:
        dbxfs(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        text = error.format_message()
        print(text if text.startswith("Usage:") else f"dbxfs: {text}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"dbxfs: {what}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except (UsageError, NoAnswerError, DropboxError, ValueError) as error:
        print(f"dbxfs: {error}", file=sys.stderr)
        sys.exit(1)
    except click.Abort:
        print("\ndbxfs: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
