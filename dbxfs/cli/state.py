"""The state of a mount on the disk: opened, mended where it is damaged, tidied after a crash."""

from __future__ import annotations

import logging
import sqlite3
import time

from dbxfs.store.database import Database, DatabaseDamagedError, is_damage
from dbxfs.store.recovery import mend_staging, rescue
from dbxfs.store.staging import Staging
from dbxfs.store.tree import Tree

from .folders import Folders
from .options import MountOptions

log = logging.getLogger(__name__)


def open_state(folders: Folders, options: MountOptions) -> tuple[Tree, Staging]:
    """The mount's tree and staging, tidied up; damage that shows only then is treated alike."""
    try:
        return _tidied(_open_database(folders), folders, options)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return _tidied(_rebuilt(folders, error), folders, options)


def _tidied(database: Database, folders: Folders, options: MountOptions) -> tuple[Tree, Staging]:
    try:
        tree = Tree(database, time.time_ns, options.folder)
        staging = Staging(tree, folders.staging)
        _tidy(tree, staging, folders)
    except BaseException:
        database.close()
        raise
    return tree, staging


def _open_database(folders: Folders) -> Database:
    """The mount's database; a damaged one is set aside, and what Dropbox lacks is saved from it."""
    try:
        return Database(folders.database)
    except DatabaseDamagedError as error:
        return _rebuilt(folders, error)


def _rebuilt(folders: Folders, error: Exception) -> Database:
    aside = folders.database.with_name(f"tree.damaged-{time.time_ns()}")
    log.error("the database is damaged (%s); it is kept as %s and rebuilt", error, aside)
    for suffix in ("", "-wal", "-shm"):
        file = folders.database.with_name(folders.database.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    database = Database(folders.database)
    try:
        saved = rescue(aside, database)
        log.warning(
            "%d changes and the content of %d files were saved from it", saved.changes, saved.files
        )
    except (sqlite3.DatabaseError, UnicodeDecodeError) as failure:
        log.error("no changes could be saved from it: %s", failure)  # noqa: TRY400
    return database


def _tidy(tree: Tree, staging: Staging, folders: Folders) -> None:
    """What a daemon that died has left behind: nobody holds anything open now."""
    for path in staging.recover_strays(folders.recovered):
        log.warning("bytes without a place in the tree are kept in %s", path)
    for loss in mend_staging(tree, staging, folders.staging, folders.recovered):
        log.error("after a crash: %s", loss)
    for ino in tree.unused():
        tree.drop_unused(ino)
