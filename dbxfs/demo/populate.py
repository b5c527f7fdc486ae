"""Content made by code: a pleasant example tree, many small files, documents."""

from __future__ import annotations

import struct
import zlib
from math import cos, pi, sin

from dbxfs.demo.account import Account
from dbxfs.demo.database import HOME
from dbxfs.demo.names import fold, name_of
from dbxfs.demo.tree import Content, Node

DISTINCT = 1000
"""Different contents among many small files: files of the same number share theirs."""


def make_many(account: Account, display: str, folders: int, files: int, size: int) -> None:
    """`folders` folders of `files` files of `size` bytes below a physical path, quickly.

    Existing entries of those names are replaced.
    """
    now = int(account.now())
    hashes = [
        account.contents.keep_bytes(_filler(number, size)) for number in range(min(files, DISTINCT))
    ]
    tree = account.tree
    with tree.change():
        if tree.get(fold(display)) is None:
            tree.make_parents(display)
            tree.make_folder(display)
        for number in range(folders):
            folder = f"{display}/folder-{number:04d}"
            existing = tree.get(fold(folder))
            if existing:
                tree.remove(existing)
            key = tree.make_folder(folder).key
            first = tree.seq + 1
            tree.insert_many(
                [
                    Node(
                        f"{key}/file-{index:05d}.txt",
                        key,
                        f"file-{index:05d}.txt",
                        f"{folder}/file-{index:05d}.txt",
                        0,
                        first + index,
                        first + index,
                        size,
                        hashes[index % DISTINCT],
                        now,
                        now,
                        "",
                    )
                    for index in range(files)
                ]
            )
            tree.used += files * size


def _filler(number: int, size: int) -> bytes:
    line = f"This is file number {number:05d} of many.\n".encode()
    return (line * (size // len(line) + 1))[:size]


def make_document(account: Account, display: str, text: str | None = None) -> Node:
    """A document that cannot be downloaded, only exported; within a change."""
    if text is None:
        text = f"# {name_of(display)}\n\nAn example of a cloud document.\n"
    data = text.encode()
    content = Content(account.contents.keep_bytes(data), len(data), int(account.now()), "markdown")
    existing = account.tree.get(fold(display))
    if existing is not None and not existing.folder:
        return account.tree.replace_content(existing, content)
    account.tree.make_parents(display)
    return account.tree.make_file(display, content)


# the example tree


README = """# Welcome

This is a Dropbox that lives on this machine only. Copy something in, edit it, rename it,
remove it; nothing here can be lost that matters.

- notes/     short texts to edit
- photos/    pictures, drawn by a program
- projects/  folders within folders
"""

NOTES = {
    "groceries.txt": "bread\nolive oil\ntomatoes\nbasil\n",
    "Ideas.md": "# Ideas\n\n1. Walk the whole coast\n2. Learn to bake rye bread\n",
    "Überraschung.txt": "Names may hold any letters.\n",
    "journal/2024-01-01.md": "# 1 January\n\nIt snowed.\n",
    "journal/2024-01-02.md": "# 2 January\n\nIt still snows.\n",
}

PROJECTS = {
    "garden/plan.md": "# Garden\n\nBeans on the south side.\n",
    "garden/beds/north.csv": "bed,plant\n1,leek\n2,kale\n",
    "garden/beds/south.csv": "bed,plant\n1,beans\n2,tomatoes\n",
    "boat/parts.csv": "part,count\nplank,24\nscrew,300\n",
    "boat/drawings/README.txt": "The drawings will go here.\n",
}


def make_example(account: Account) -> None:
    """Fills the home with the example tree, if there is nothing in it yet."""
    if account.tree.children(account.home.key, "", 1):
        return
    files = {"README.md": README.encode()}
    files |= {f"notes/{name}": text.encode() for name, text in NOTES.items()}
    files |= {f"projects/{name}": text.encode() for name, text in PROJECTS.items()}
    files |= {f"photos/wave {n}.png": _png(192, 128, n) for n in range(1, 5)}
    files["photos/star.svg"] = _svg().encode()
    with account.tree.change():
        for name, data in files.items():
            display = f"{HOME}/{name}"
            content = Content(account.contents.keep_bytes(data), len(data), int(account.now()))
            account.tree.make_parents(display)
            account.tree.make_file(display, content)
        account.tree.make_folder(f"{HOME}/photos/albums")


def _png(width: int, height: int, waves: int) -> bytes:
    """A picture of interfering waves, 8 bit RGB (PNG specification, sections 5 and 11)."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            value = sin(x * waves / 17) + cos(y * waves / 11)
            shade = int((value + 2) * 63)
            rows += bytes((shade, (shade + 40 * waves) % 256, 255 - shade))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(rows), 1))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _svg() -> str:
    points = " ".join(
        f"{50 + r * sin(i * pi / 5):.1f},{50 - r * cos(i * pi / 5):.1f}"
        for i, r in enumerate([45, 18] * 5)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">'
        f'<polygon points="{points}" fill="gold"/></svg>\n'
    )
