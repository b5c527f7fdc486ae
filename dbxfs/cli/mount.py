"""`mount.dbxfs`: mount an account, as a command and as mount(8)'s helper.

mount(8) calls its helper as `mount.dbxfs SOURCE MOUNTPOINT [-sfnv] -o OPTIONS`; people write
`mount.dbxfs MOUNTPOINT`. In the background the parent waits for the child's word on a pipe and
returns 0 only when the mount has answered; otherwise it prints the reason. Exit codes are those
of mount(8): 1 usage, 32 mount failure.

The child is forked, not started anew, so that no secret has to travel.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import logging.handlers
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

import click

from dbxfs.api.auth import TOKEN_URL, StaticToken
from dbxfs.api.settings import Settings

from .credentials import NoCredentialsError, load_auth
from .folders import Folders, InUseError, NotPrivateError
from .mountinfo import DROPBOX, mounted_type, place
from .older import warn_of_older_program
from .options import MountOptions, UsageError, parse_options, parse_source, split_options
from .umount import unmount_command

USAGE, FAILURE = 1, 32

LOG_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", metavar="[SOURCE] MOUNTPOINT")
@click.argument("mountpoint", required=False, metavar="")
@click.option("-o", "options", multiple=True, metavar="OPT[,OPT…]", help="Mount options.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("-v", "--verbose", is_flag=True, help="Say more in the log.")
@click.option("--demo", is_flag=True, help="Mount the embedded Dropbox; needs no account.")
@click.option("-n", "no_mtab", is_flag=True, hidden=True)
@click.option("-s", "sloppy", is_flag=True, hidden=True)
@click.option("-t", "fs_type", hidden=True)
def mount(
    source: str,
    mountpoint: str | None,
    options: tuple[str, ...],
    foreground: bool,
    verbose: bool,
    demo: bool,
    no_mtab: bool,
    sloppy: bool,
    fs_type: str | None,
) -> None:
    """Mount a Dropbox account on MOUNTPOINT.

    SOURCE is dbxfs:ACCOUNT, dbxfs:ACCOUNT/FOLDER or none, and may be left out.
    """
    if mountpoint is None:
        source, mountpoint = "none", source
    account, folder = parse_source(source)
    base = MountOptions(
        mountpoint=Path(mountpoint),
        account=account,
        folder=folder,
        demo=demo,
        foreground=foreground,
        verbose=verbose,
    )
    parsed = parse_options(base, split_options(options), sloppy=sloppy)
    parsed = replace(parsed, mountpoint=check_mountpoint(parsed.mountpoint))
    warn_of_older_program()
    start(parsed)


def main() -> NoReturn:
    """The command's entry point."""
    try:
        mount(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(FAILURE)
    except (click.ClickException, UsageError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        fail(text, USAGE)
    except FailedError as error:
        fail(str(error), FAILURE)
    sys.exit(0)


def fail(text: str, code: int) -> NoReturn:
    """Say what is wrong and end."""
    print(f"mount.dbxfs: {text}", file=sys.stderr)
    sys.exit(code)


class FailedError(Exception):
    """The mount was not made; `str()` says why."""


def check_mountpoint(path: Path) -> Path:
    """The mount point's real path; raises `FailedError` when nothing can be mounted there."""
    _clear_dead_mount(path)
    try:
        real = path.resolve(strict=True)
        kind = os.stat(real).st_mode
    except FileNotFoundError:
        raise FailedError(f"{path} is not there; make the folder first") from None
    except OSError as error:
        raise FailedError(f"{path}: {error.strerror}") from None
    except RuntimeError:  # what a loop of symbolic links is to pathlib before Python 3.13
        raise FailedError(f"{path}: {os.strerror(errno.ELOOP)}") from None
    if not stat.S_ISDIR(kind):
        raise FailedError(f"{path} is not a folder")
    if mounted_type(real) == DROPBOX:
        raise FailedError(f"a Dropbox is mounted on {path} already")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise FailedError("/dev/fuse cannot be opened; is the fuse module loaded?")
    return real


def _clear_dead_mount(path: Path) -> None:
    """Take away what a daemon that was killed has left at the mount point."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOTCONN and mounted_type(real := place(path)) == DROPBOX:
            subprocess.run([*unmount_command(), real], check=False, capture_output=True)


# ---- Starting ----


def start(options: MountOptions) -> None:
    """Mount in the foreground or in the background; raises `FailedError`."""
    os.umask(0o077)  # what we keep is for nobody else; the kernel brings programs' own modes
    try:
        file = Folders.of(options).log
    except OSError as error:
        raise FailedError(f"{error.filename}: {error.strerror}") from None
    except NotPrivateError as error:
        raise FailedError(str(error)) from None
    if options.foreground:
        logging.basicConfig(level=_level(options), format="%(levelname)s %(name)s: %(message)s")
        _run(options, lambda: log.info("%s answers", options.mountpoint))
        return
    reading, writing = os.pipe()
    daemon = os.fork()
    if daemon:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = _answer(pipe, daemon)
        if answer != "ready":
            raise FailedError(answer or f"the daemon ended without a word; its log is {file}")
        return
    os.close(reading)
    _be_the_daemon(options, os.fdopen(writing, "wb", buffering=0))


def _answer(pipe: TextIO, daemon: int) -> str:
    """The daemon's word; Ctrl-C before it has come ends the daemon, and no mount stays behind."""
    try:
        return pipe.read()
    except KeyboardInterrupt:
        os.kill(daemon, signal.SIGTERM)
        os.waitpid(daemon, 0)
        raise FailedError("interrupted; nothing is mounted") from None


def _be_the_daemon(options: MountOptions, pipe: BinaryIO) -> NoReturn:
    """The child: detached, logging to a file, telling the parent how it went."""
    code = FAILURE
    try:
        os.setsid()
        _log_to_file(options)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.chdir("/")

        def ready() -> None:
            pipe.write(b"ready")
            pipe.close()

        _run(options, ready)
        code = 0
    except FailedError as error:
        log.error("%s", error)  # noqa: TRY400
        _tell(pipe, str(error))
    except BaseException as error:
        log.exception("the daemon failed")
        file = Folders.of(options).log
        _tell(pipe, f"the daemon failed ({type(error).__name__}); its log is {file}")
    finally:
        logging.shutdown()
        os._exit(code)


def _tell(pipe: BinaryIO, text: str) -> None:
    """Tell the parent, if it still waits."""
    if not pipe.closed:
        with contextlib.suppress(OSError):
            pipe.write(text.encode())


def _run(options: MountOptions, ready: Callable[[], None]) -> None:
    # Late: what the daemon needs takes a while to import, and a wrong option need not wait for it.
    from dbxfs.api.errors import DropboxError

    from .daemon import run
    from .serving import MountError

    try:
        with connection(options) as settings:
            run(options, settings, ready)
    except (MountError, InUseError, NoCredentialsError, DropboxError) as error:
        raise FailedError(str(error)) from None
    except OSError as error:
        raise FailedError(f"{error.filename or options.mountpoint}: {error.strerror}") from None
    except ValueError as error:
        raise FailedError(str(error)) from None


def _rates(options: MountOptions) -> dict[str, int | None]:
    return {"upload_rate": options.upload_limit, "download_rate": options.download_limit}


@contextlib.contextmanager
def connection(options: MountOptions) -> Iterator[Settings]:
    """How to reach the account; starts the embedded Dropbox where that is the account."""
    if options.demo:
        with embedded(Folders.of(options).state / "server") as server:
            yield Settings.for_url(server.url, StaticToken(server.token), **_rates(options))
    elif options.api_url is not None:
        auth = load_auth(options.account, f"{options.api_url}/oauth2/token")
        yield Settings.for_url(options.api_url, auth, **_rates(options))
    else:
        yield Settings.for_dropbox(load_auth(options.account, TOKEN_URL), **_rates(options))


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running embedded Dropbox."""

    url: str
    token: str


@contextlib.contextmanager
def embedded(data: Path) -> Iterator[Embedded]:
    """The embedded Dropbox as a child that ends with us, however we end."""
    command = [sys.executable, "-m", "dbxfs.demo", "--data", str(data), "--populate", "--lifeline"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None  # noqa: S101
        assert server.stdin is not None  # noqa: S101
        try:
            line = server.stdout.readline()
            if not line:
                raise FailedError("the embedded Dropbox did not start")
            said = json.loads(line)
            yield Embedded(said["url"], said["token"])
        finally:
            server.stdin.close()


def _log_to_file(options: MountOptions) -> None:
    handler = logging.handlers.RotatingFileHandler(
        Folders.of(options).log, maxBytes=LOG_BYTES, backupCount=1
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=_level(options), handlers=[handler])


def _level(options: MountOptions) -> int:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    return logging.DEBUG if options.verbose else logging.INFO


if __name__ == "__main__":
    main()
