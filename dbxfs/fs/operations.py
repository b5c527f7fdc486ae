"""All request handlers together."""

from __future__ import annotations

from .context import Context
from .replayed import ReplayHandlers


class Operations(ReplayHandlers):
    """The file system that is given to pyfuse3."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
