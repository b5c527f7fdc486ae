"""What the daemon tells of itself: the state behind `dbxfs status` and progress lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dbxfs.core import refusals

if TYPE_CHECKING:
    from .services import Services

TRIED_AGAIN = "it is tried again every few minutes, and at dbxfs sync"

LISTED = 100
"""Pending entries and errors that are listed one by one."""


async def status(services: Services) -> dict[str, Any]:
    """All that `dbxfs status --json` prints of one mount."""
    entries = await trio.to_thread.run_sync(services.tree.database.count, "inode")
    recovered = await trio.to_thread.run_sync(_names_in, services.folders.recovered)
    pinned = await services.pinner.totals()
    return {
        "mountpoint": str(services.options.mountpoint),
        "account": "demo" if services.options.demo else services.options.account,
        "listing": "complete" if services.changes.complete else "under way",
        "entries": entries - 1,
        "state_dir": str(services.folders.state),
        "cache_dir": str(services.folders.cache),
        **await progress(services),
        "attributes": services.attributes.trouble,
        "errors": errors(services),
        "pinned": {
            "files": pinned.files,
            "size": pinned.size,
            "missing": pinned.missing,
            "trouble": pinned.trouble,
        },
        "recovered": recovered,
    }


def _names_in(folder: Path) -> list[str]:
    """Files that were put aside since no entry is known for them. Blocks."""
    return sorted(map(str, folder.iterdir()))[:LISTED] if folder.is_dir() else []


async def progress(services: Services) -> dict[str, Any]:
    """How much is still to be sent, and whether it can be."""
    backlog = await trio.to_thread.run_sync(services.tree.database.backlog)
    uploads = services.uploader.progress.values()
    trouble = services.feed.trouble or services.replicator.trouble
    return {
        "online": trouble is None,
        "paused": services.switch.paused,
        "trouble": trouble,
        "pending": backlog.changes,
        "held": backlog.held,
        "local": backlog.local,
        "bytes": max(0, backlog.size - sum(upload.sent for upload in uploads)),
        "uploading": _uploading(services),
    }


def _uploading(services: Services) -> dict[str, Any] | None:
    """The largest file that is on its way; of small ones any, as they go in no time."""
    upload = max(services.uploader.progress.values(), key=lambda one: one.size, default=None)
    ino = services.replicator.sending() if upload is None else upload.ino
    inode = None if ino is None else services.tree.find(ino)
    if inode is None:
        return None
    sent, size = (0, inode.size) if upload is None else (upload.sent, upload.size)
    return {"path": services.tree.shown_path(inode.ino), "sent": sent, "size": size}


def errors(services: Services) -> list[dict[str, str]]:
    """What Dropbox refused, with its reason and what can be done about it."""
    held = [row for row in services.journal.rows() if row.error is not None]
    return [
        {
            "path": services.tree.shown_path(row.ino),
            "reason": row.error or "",
            "remedy": known.remedy if (known := refusals.find(row.code)) else TRIED_AGAIN,
        }
        for row in held[:LISTED]
    ]
