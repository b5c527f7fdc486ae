"""How far a mount has come with sending: lines for people, and a bar on a terminal.

The daemon tells what is left; the rate and the time follow from how that changes, which the bar
works out. Nothing is drawn where standard error is no terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Reply = dict[str, Any]


class Meter:
    """A bar that follows the daemon's replies."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=0)
        self._total = 0

    @property
    def visible(self) -> bool:
        """Whether somebody sees it."""
        return not self._progress.disable

    def show(self, reply: Reply) -> None:
        """The daemon has told how much is left."""
        left = int(reply.get("bytes", 0))
        self._total = max(self._total, left)
        self._progress.update(
            self._task,
            description=progress_line(reply),
            total=self._total,
            completed=self._total - left,
        )


@contextlib.contextmanager
def meter() -> Iterator[Meter]:
    """A bar on standard error, gone when it is over."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield Meter(progress)


def progress_line(reply: Reply) -> str:
    """One line that says how much is left."""
    pending, errors = reply.get("pending", 0), reply.get("held", 0)
    line = f"{pending} change{'' if pending == 1 else 's'} left"
    if errors:
        line += f", {errors} refused"
    if reply.get("trouble"):
        line += f" (offline: {reply['trouble']})"
    match reply.get("uploading"):
        case {"path": path, "sent": int(sent), "size": int(size)} if size:
            line += f", {path} {100 * sent // size}% of {size / 1e6:.1f} MB"
    return line


def refused_line(error: dict[str, str]) -> str:
    """One line for what Dropbox has not taken."""
    return f"not on Dropbox: {error['path']}: {error['reason']}; {error['remedy']}"
