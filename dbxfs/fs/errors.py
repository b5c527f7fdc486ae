"""From what went wrong to the errno that says it truthfully: the one table.

Handlers raise what the store and the API raise; `errnos` turns it into `FUSEError` at the edge.
What a program is expected to meet (ENOENT, EEXIST…) is not logged; trouble with Dropbox is, and
whatever nobody foresaw is logged with its traceback and becomes EIO.
"""

from __future__ import annotations

import errno
import functools
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3

from dbxfs.api.errors import (
    AccessDenied,
    DropboxError,
    EndpointError,
    Unauthorized,
    Unreachable,
)
from dbxfs.core import refusals
from dbxfs.store.tree import TreeError
from dbxfs.sync.fetcher import DamagedContentError
from dbxfs.sync.replicator import NotSentError

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from .context import Context


class _Handlers(Protocol):
    @property
    def context(self) -> Context:
        """What they work with."""


H = TypeVar("H", bound=_Handlers)
P = ParamSpec("P")
T = TypeVar("T")


def errno_of(error: BaseException) -> int:
    """The errno for a failure."""
    match error:
        case TreeError():
            return error.errno or errno.EIO
        case Unreachable():
            return errno.ENETUNREACH
        case Unauthorized() | AccessDenied():
            return errno.EACCES
        case EndpointError() if "not_found" in error.tags:
            return errno.ENOENT
        case EndpointError() if error.has("retry_error"):
            return errno.EAGAIN
        case EndpointError() if error.has("non_exportable"):
            return errno.EOPNOTSUPP
        case EndpointError() if known := refusals.find(refusals.code_of(error.tags)):
            return known.errno
        case NotSentError() if known := refusals.find(error.code):
            return known.errno
        case NotSentError() if error.offline:
            return errno.ENETUNREACH
        case OSError() if error.errno:
            return error.errno
        case sqlite3.Error() if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return errno.ENOSPC
        case _:
            return errno.EIO


def errnos(
    handler: Callable[Concatenate[H, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Wrap a request handler: every failure becomes a `FUSEError`. Background work gives way."""

    @functools.wraps(handler)
    async def wrapped(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.context.programs.asked()
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged there
            raise _told(handler.__name__, error) from None
        finally:
            self.context.programs.answered()

    return wrapped


def uncounted_errnos(
    handler: Callable[Concatenate[H, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """As `errnos`, for what programs have not asked: background work goes on."""

    @functools.wraps(handler)
    async def wrapped(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged there
            raise _told(handler.__name__, error) from None

    return wrapped


def _told(request: str, error: Exception) -> pyfuse3.FUSEError:
    """What the kernel is told of a failure; the log is told more."""
    match error:
        case TreeError():
            pass
        case DropboxError() | DamagedContentError() | NotSentError() | OSError() | sqlite3.Error():
            log.warning("%s failed: %s", request, error)
        case _:
            log.error("%s failed", request, exc_info=error)
            return pyfuse3.FUSEError(errno.EIO)
    return pyfuse3.FUSEError(errno_of(error))
