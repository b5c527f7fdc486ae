"""Noticing the older program of this name.

The Python package index has another `dbxfs`, which cannot live in one environment with this one:
both install a package `dbxfs` and a command of that name. In an environment of its own it does no
harm, but it may be the one that a shell finds.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path


def older_version() -> str | None:
    """The version of the older program, where it is installed beside this one."""
    try:
        return metadata.version("dbxfs")
    except metadata.PackageNotFoundError:
        return None


def older_on_path(path: str | None = None) -> tuple[str, str] | None:
    """The command and version of the older program, where `dbxfs` on the PATH is that one.

    `path`: searched instead of $PATH.
    """
    found = shutil.which("dbxfs", path=path)
    if found is None:
        return None
    # A script lies in PREFIX/bin, what it belongs to in PREFIX/lib/pythonX.Y/….
    prefix = Path(os.path.realpath(found)).parent.parent
    for packages in ("site-packages", "dist-packages"):
        for info in prefix.glob(f"lib/python*/{packages}/dbxfs-[0-9]*.*-info"):
            return found, info.name.split("-")[1].removesuffix(".dist").removesuffix(".egg")
    return None


def warn_of_older_program() -> None:
    """Say so on stderr when it is there."""
    version = older_version()
    if version is not None:
        print(
            f"dbxfs: another program of this name, dbxfs {version} from the Python package index, "
            "is installed in this environment and shares its files with this one; remove it "
            "(pip uninstall dbxfs) and install this one again, or keep them in separate "
            "environments",
            file=sys.stderr,
        )
        return
    elsewhere = older_on_path()
    if elsewhere is not None:
        command, version = elsewhere
        print(
            f"dbxfs: {command} is another program of this name, dbxfs {version}; this one's "
            f"commands are in {Path(sys.argv[0]).absolute().parent}",
            file=sys.stderr,
        )
