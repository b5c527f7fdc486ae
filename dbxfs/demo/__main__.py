"""`python -m dbxfs.demo`: the embedded Dropbox as a process.

Prints one line of JSON once it listens, then serves until SIGTERM or SIGINT, or, with --lifeline,
until its standard input is closed: then it ends with whoever started it, however that ends.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import click
import trio

from dbxfs.demo.account import Account
from dbxfs.demo.app import create_app
from dbxfs.demo.database import UnusableError
from dbxfs.demo.oauth import APP_KEY, demo_tokens
from dbxfs.demo.populate import make_example
from dbxfs.demo.serving import open_listeners, serve


async def _run(account: Account, host: str, port: int, lifeline: bool) -> None:
    listeners, port = await open_listeners(host, port)
    token, refresh_token = demo_tokens(account)
    shown = f"[{host}]" if ":" in host else host
    greeting = {
        "url": f"http://{shown}:{port}",
        "token": token,
        "refresh_token": refresh_token,
        "app_key": APP_KEY,
    }
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, create_app(account), listeners)
            print(json.dumps(greeting), flush=True)
            if lifeline:
                nursery.start_soon(_end_with_stdin, nursery.cancel_scope)
            await anext(aiter(signals))
            nursery.cancel_scope.cancel()


async def _end_with_stdin(scope: trio.CancelScope) -> None:
    reader = partial(os.read, sys.stdin.fileno(), 4096)
    while await trio.to_thread.run_sync(reader, abandon_on_cancel=True):
        pass
    scope.cancel()


@click.command(help=__doc__)
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder of the account."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port; 0 for any that is free.")
@click.option("--populate", is_flag=True, help="Fill an empty account with an example tree.")
@click.option("--lifeline", is_flag=True, help="End when standard input is closed.")
def main(data: Path, host: str, port: int, populate: bool, lifeline: bool) -> None:
    """Serves the account below --data."""
    gc.set_threshold(100_000)  # pages of thousands of entries are garbage soon, but no cycles
    try:
        account = Account(data)
    except (UnusableError, OSError) as error:
        raise click.ClickException(str(error)) from None
    try:
        if populate:
            make_example(account)
        trio.run(_run, account, host, port, lifeline)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error}") from None
    finally:
        account.close()


if __name__ == "__main__":
    main(prog_name="python -m dbxfs.demo")
