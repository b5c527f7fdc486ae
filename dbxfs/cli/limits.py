"""What the daemon asks of the system for itself.

Every file that a program writes is a descriptor here, and so is every one that is being sent, a
thousand in a batch; the usual limit is 1024, and anybody may raise his own to what the system
allows. And its memory, which holds the token, must not end in a core file: the limit of size does
not count where cores are piped to a program, so the process is marked as not to be dumped.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource

_PR_SET_DUMPABLE = 4


def set_limits() -> int:
    """No core files, and as many descriptors as may be had; gives how many those are."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
