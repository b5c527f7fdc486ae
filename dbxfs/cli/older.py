"""Noticing the older program of this name.

The Python package index has another `dbxfs`, which cannot live in one environment with this one:
both install a package `dbxfs` and a command of that name.
"""

from __future__ import annotations

import sys
from importlib import metadata


def older_version() -> str | None:
    """The version of the older program, where it is installed beside this one."""
    try:
        return metadata.version("dbxfs")
    except metadata.PackageNotFoundError:
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
