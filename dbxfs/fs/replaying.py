"""What is being replayed for watchers, as the handlers see it.

Written by the thread that has it replayed, read by the handlers: single references, replaced as a
whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyfuse3

from .echoes import Operation


@dataclass(slots=True)
class Performance:
    """One operation that is being carried out by the process."""

    operation: Operation
    hidden: bool = False
    """The kernel was told that nothing has the new name."""
    shown: bool = False
    """The kernel was given what has, or had, the old name."""
    answered: bool = False
    """It was granted: the kernel tells the watchers."""


class Replaying:
    """Whose requests change nothing, and what they are for."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self.performance: Performance | None = None

    def done_by(self, pid: int | None) -> None:
        """The process that will carry out operations; None: there is none."""
        self._pid = pid

    def begin(self, operation: Operation) -> Performance:
        """It is about to be told of this one."""
        self.performance = performance = Performance(operation)
        return performance

    def end(self) -> None:
        """It has answered."""
        self.performance = None

    def asks(self, ctx: pyfuse3.RequestContext) -> bool:
        """Whether the request is one of the process's. FUSE tells the thread, which is its only."""
        return self._pid is not None and ctx.pid == self._pid
