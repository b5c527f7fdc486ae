"""Whether mount and server hold the same tree: paths, kinds, sizes and content hashes.

The local side is read through the kernel and whatever it has cached, as a program would.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from dbxfs.core.content_hash import ContentHasher, content_hash
from tests.embedded import Embedded

Shape = tuple[str, int | None, str | None]
"""Kind, size, content hash; the last two None for folders."""


def local_tree(root: Path) -> dict[str, Shape]:
    """What programs see below `root`, by path."""
    found: dict[str, Shape] = {}

    def walk(folder: Path, prefix: str) -> None:
        with os.scandir(folder) as entries:
            for entry in list(entries):
                path = f"{prefix}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    found[path] = ("folder", None, None)
                    walk(folder / entry.name, path)
                else:
                    size = entry.stat(follow_symlinks=False).st_size
                    if entry.is_symlink():
                        digest = content_hash(os.fsencode(os.readlink(entry.path)))
                    else:
                        digest = hash_of(folder / entry.name)
                    found[path] = ("file", size, digest)

    walk(root, "")
    return found


def remote_tree(server: Embedded) -> dict[str, Shape]:
    """What the server holds, by path."""
    return {
        entry["path"]: (entry["kind"], entry["size"], entry["content_hash"])
        for entry in server.tree()
    }


def hash_of(path: Path) -> str:
    """The content hash of a file, read from its beginning to its end."""
    hasher = ContentHasher()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1024 * 1024):
            hasher.update(chunk)
    return hasher.hexdigest()


def difference(local: dict[str, Shape], remote: dict[str, Shape]) -> list[str]:
    """What is not the same on both sides, a line each; composed and decomposed names are."""
    here = {unicodedata.normalize("NFC", path): shape for path, shape in local.items()}
    there = {unicodedata.normalize("NFC", path): shape for path, shape in remote.items()}
    return [
        f"{path}: in the mount {here.get(path)}, on the server {there.get(path)}"
        for path in sorted(here.keys() | there.keys())
        if here.get(path) != there.get(path)
    ]
