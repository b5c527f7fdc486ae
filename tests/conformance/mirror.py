"""A local copy of a listing, kept by the rules that the SDK documents for `list_folder`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dropbox import files


class Mirror:
    """Entries by `path_lower`, changed only by what the feed says.

    The rules ("Starts returning the contents of a folder…", `files_list_folder`): a file replaces
    what is at its path with all children, a folder replaces it but leaves the children, missing
    parents are created, a deletion removes the path and all below it.
    """

    def __init__(self, root: str) -> None:
        """`root` is the folder that is listed; it is no entry of its own mirror."""
        self.root = root.lower()
        self.entries: dict[str, Any] = {}

    def apply(self, entries: Iterable[Any]) -> None:
        """Takes entries over in the order in which the feed gave them."""
        for entry in entries:
            path = entry.path_lower
            if path == self.root:
                continue
            assert path.startswith(f"{self.root}/"), f"{path} is not below {self.root}"
            if not isinstance(entry, files.FolderMetadata):
                below = [key for key in self.entries if f"{key}/".startswith(f"{path}/")]
                for key in below:
                    del self.entries[key]
            if not isinstance(entry, files.DeletedMetadata):
                self._add_parents(path)
                self.entries[path] = entry

    def _add_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent != self.root and parent not in self.entries:
            self.entries[parent] = None
            parent = parent.rpartition("/")[0]

    def content(self) -> dict[str, tuple[str, str, str]]:
        """For each path its name, id and rev ("" for a folder), to be compared."""
        return {path: describe(entry) for path, entry in self.entries.items()}


def describe(entry: Any) -> tuple[str, str, str]:
    """What two descriptions of one entry must agree on: name, id, rev."""
    if entry is None:
        return "", "", ""
    return entry.name, entry.id, getattr(entry, "rev", "")
