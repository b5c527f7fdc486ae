"""The writing works once more, on a server that refuses some of the calls.

"429": one call in twenty, of any kind, is told to come back in a second. "busy": Dropbox's word for
a namespace that somebody else is writing to, `too_many_write_operations`; the first commit of each
kind is refused in every work, so that each work meets it, and of the others every fourth.

What must be there in the end is the same, to the byte. The time may double: both against what the
undisturbed work must reach and against what it took in this run. The number of requests is shown
and not judged, as refused ones count. rclone is left out: it is to be compared at its best.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tests.bench.figures import OURS, Bound, Work
from tests.bench.groups import Group

HIT = ("copy", "large", "save", "unpack", "rsync")
"""The groups that are run with faults as well."""

COMMITS = (
    "upload",
    "upload_session/finish",
    "upload_session/finish_batch",
    "upload_session/finish_batch_v2",
    "create_folder_v2",
    "create_folder_batch",
    "delete_v2",
    "delete_batch",
    "move_v2",
    "move_batch_v2",
    "copy_v2",
    "copy_batch_v2",
)


def _busy(**when: float) -> list[dict[str, Any]]:
    reason = "too_many_write_operations"
    refusal = {"kind": "error", "status": 429, "reason": reason, "retry_after": 1, **when}
    return [{**refusal, "route": f"files/{route}"} for route in COMMITS]


FAULTS: dict[str, tuple[dict[str, Any], ...]] = {
    "429": ({"kind": "error", "status": 429, "probability": 0.05, "retry_after": 1},),
    "busy": (*_busy(count=1), *_busy(probability=0.25)),
}
TITLES = {"429": "5 % of calls refused", "busy": "namespace busy"}


def groups(others: Iterable[Group]) -> list[Group]:
    """The groups of HIT among `others`, with each kind of faults."""
    found = {group.name: group for group in others}
    return [_disturbed(found[name], variant) for variant in FAULTS for name in HIT]


def _disturbed(group: Group, variant: str) -> Group:
    works = tuple(
        Work(f"{work.name} {variant}", f"{work.title}, {TITLES[variant]}", _doubled(work))
        for work in group.works
    )
    return replace(
        group,
        name=f"{group.name}-{variant}",
        works=works,
        yardstick=False,
        alone=True,
        faults=FAULTS[variant],
        variant=variant,
    )


def _doubled(work: Work) -> tuple[Bound, ...]:
    """The bounds of a work whose time may double."""
    bounds = []
    arrives = False
    for bound in work.bounds:
        if bound.measure in ("seconds", "arrived", "lag"):
            # What it is compared with is measured undisturbed.
            other = work.name if bound.versus else ""
            bounds.append(replace(bound, value=2 * bound.value, work=other))
        elif bound.measure == "rate":
            bounds.append(replace(bound, value=bound.value / 2))
        elif bound.measure != "requests" or bound.value == 0:
            bounds.append(bound)
        arrives = arrives or bound.measure in ("arrived", "lag", "rate")
    if arrives:
        bounds.append(Bound("arrived", 2, versus=OURS, work=work.name))
    return tuple(bounds)
