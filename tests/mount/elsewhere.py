"""Edits made elsewhere for the model test: exact about what each of them writes over or deletes.

The daemon is stopped while the account is read and changed, or one of its commits could come
between the two. What was on its way is waited for: the tree must be the same twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from dbxfs.core.names import fold
from tests.mount.model import Ledger
from tests.mount.mounted import Mounted

ON_ITS_WAY = 0.003
"""Seconds that the server has to answer what it was sent."""


class Elsewhere:
    """Another client of the account."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted
        self._server = mounted.server
        self._tree: dict[str, str | None] = {}
        self.touched: set[str] = set()
        """Folded names that were edited since both sides agreed."""

    @property
    def reachable(self) -> bool:
        """Whether the server runs."""
        try:
            return bool(self._server.pid)
        except RuntimeError:
            return False

    def __enter__(self) -> Elsewhere:
        self._signal(signal.SIGSTOP)
        before = None
        while before != (now := self._server.tree()):
            before = now
            time.sleep(ON_ITS_WAY)
        self._tree = {entry["path"]: entry["content_hash"] for entry in now}
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """The daemon goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._mounted.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._mounted.pid, number)

    # ---- Between enter and exit; an edit that cannot be made is not, and gives False ----

    def pick(self, pick: int, *, folders: bool | None = None) -> str | None:
        """Something that is there."""
        paths = [p for p, h in self._tree.items() if folders is None or (h is None) == folders]
        return sorted(paths)[pick % len(paths)] if paths else None

    def place(self, pick: int, name: str) -> str:
        """A name in a folder that is there."""
        folder = "" if pick % 2 else self.pick(pick // 2, folders=True) or ""
        return f"{folder}/{name}" if folder.count("/") < 4 else f"/{name}"

    def _find(self, path: str) -> str | None:
        return next((there for there in self._tree if fold(there) == fold(path)), None)

    def _below(self, path: str) -> list[str]:
        return [p for p in self._tree if fold(p).startswith(fold(path) + "/")]

    def _touch(self, *paths: str) -> None:
        self.touched |= {fold(path.rpartition("/")[2]) for path in paths}

    def write(self, path: str, content: bytes, ledger: Ledger) -> bool:
        """A file is made or changed; nothing happens where a folder is, or a file above."""
        there = self._find(path)
        above = self._find(path.rpartition("/")[0])
        if (there is not None and self._tree[there] is None) or (above and self._tree[above]):
            return False
        if there is not None:
            ledger.forgive([ledger.known(str(self._tree[there]))])
        self._server.edit([{"op": "write", "path": path, "text": content.decode()}])
        ledger.accept({content}, f"written elsewhere to {path}")
        self._touch(path)
        return True

    def mkdir(self, path: str) -> bool:
        """A folder is made, unless something is there."""
        if self._find(path) is not None:
            return False
        self._server.edit([{"op": "mkdir", "path": path}])
        self._touch(path)
        return True

    def delete(self, path: str, ledger: Ledger) -> None:
        """Something is deleted with all that is in it."""
        gone = [path, *self._below(path)]
        hashes = [content_hash for p in gone if (content_hash := self._tree[p]) is not None]
        ledger.forgive([ledger.known(content_hash) for content_hash in hashes])
        self._server.edit([{"op": "delete", "path": path}])
        self._touch(*gone)

    def move(self, source: str, target: str) -> bool:
        """Something is moved, unless something is there or it would be into itself.

        A change of case alone is left out: Dropbox does not report it.
        """
        if fold(target).startswith(fold(source) + "/") or self._find(target) is not None:
            return False
        self._server.edit([{"op": "move", "from": source, "to": target}])
        self._touch(source, target, *self._below(source))
        return True
