"""What the daemon answers to commands about one path: its status, pinning, evicting.

The commands name an inode: they have looked the path up in the mount itself, so a folder that was
not listed yet is, and every spelling of a name is understood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbxfs.fs import xattrs
from dbxfs.store.inode import Inode

if TYPE_CHECKING:
    from .services import Services

Answer = dict[str, Any]


async def answer(services: Services, command: str, ino: int) -> Answer:
    """Carry out `status`, `pin`, `unpin` or `evict`; the answer has `refused` where it cannot."""
    inode = services.tree.find(ino)
    if inode is None:
        return {"refused": "it is no longer there"}
    match command:
        case "status":
            return await _status(services, inode)
        case "pin":
            try:
                await services.holdings.check_room(ino)
                services.pins.add(ino)
            except OSError as error:
                return {"refused": error.strerror}
            return await _held(services, inode)
        case "unpin":
            return _unpin(services, inode)
        case _:
            freed = await services.holdings.evict(ino)
            return {"path": services.tree.shown_path(ino), "freed": freed}


async def _status(services: Services, inode: Inode) -> Answer:
    held = await _held(services, inode)
    known = xattrs.values(services.context, inode)
    named = ("state", "error", "rev", "id", "content_hash")
    return {**held, **{name: known.get(name) for name in named}}


async def _held(services: Services, inode: Inode) -> Answer:
    """How much is here of the file or tree. Online documents have no bytes to keep."""
    held = await services.holdings.measure(inode.ino)
    return {
        "path": services.tree.shown_path(inode.ino) or "/",
        "kind": "folder" if inode.is_folder else "file" if inode.downloadable else "document",
        "files": held.files,
        "size": held.size,
        "cached_bytes": held.cached,
        "cached": held.percent if inode.downloadable else None,
        "pinned": services.pins.covers(inode.ino),
    }


def _unpin(services: Services, inode: Inode) -> Answer:
    removed = services.pins.remove_below(inode.ino)
    holder = services.pins.holder(inode.ino)
    if holder is not None:
        above = services.tree.shown_path(holder) or "/"
        return {"refused": f"it is pinned with the folder {above}; unpin that"}
    return {"path": services.tree.shown_path(inode.ino) or "/", "removed": removed}
