"""What was measured, what must be reached, and the table that shows both.

A figure is one piece of work done by one contender: a set of measures by name, all in base units
(seconds, bytes, counts, bytes a second). A bound says what a measure must reach, either as a number
or relative to what another contender needed in the same run. The table has one row for each
contender and one for the bounds, in the columns of the measures that they speak of; it is Markdown,
so that it can be read in a terminal and pasted into a page.

Rejected: one row for each measure. It is longer than a screen, and a contender's figures for one
piece of work belong side by side: few seconds bought with many bytes are no success.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

OURS = "dbxfs"
RCLONE = "rclone"
BARE = "bare FUSE"

MIB = 1024 * 1024
MEMORY_LIMIT = 250 * MIB
COUNTED = ("requests", "sent", "received")
"""Measures that grow until a work is over."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One contender's figures for one piece of work.

    `measures` by name: `seconds` (the program's), `arrived` (seconds from the start until Dropbox
    had all), `lag` (the same from the program's end), `requests`, `feed` (requests that only keep
    it up to date), `sent` and `received` (bytes of bodies), `rate` (bytes a second), `cpu`
    (seconds), `cpu_per_mb`, `peak` (bytes), and what only one work has. `routes`: how often each
    route was called, the feed's and those that the work does not count among them. `over`: the
    limit in seconds that was reached. `failed`: why there is no figure.
    """

    work: str
    contender: str
    measures: dict[str, float] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    over: float | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a measure must reach: at most, or with `least` at least, `value`.

    With `versus`, `value` is a factor on the same measure of that contender in this run, at the
    same work or at the one that `work` names.
    """

    measure: str
    value: float
    least: bool = False
    versus: str = ""
    work: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """A row of the table: its name for --json, what people call it, and its bounds."""

    name: str
    title: str
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bound was kept; None when that cannot be said."""

    bound: Bound
    limit: float | None
    kept: bool | None


def judge(work: Work, figures: Iterable[Figure]) -> list[Verdict]:
    """What became of the bounds of `work`, the memory's among them."""
    done = {(figure.work, figure.contender): figure for figure in figures}
    ours = done.get((work.name, OURS))
    verdicts = []
    for bound in (*work.bounds, Bound("peak", MEMORY_LIMIT)):
        limit: float | None = bound.value
        if bound.versus:
            other = done.get((bound.work or work.name, bound.versus))
            theirs = other.measures.get(bound.measure) if other else None
            limit = None if theirs is None else theirs * bound.value
        verdicts.append(Verdict(bound, limit, _kept(bound, limit, ours)))
    return verdicts


def _kept(bound: Bound, limit: float | None, ours: Figure | None) -> bool | None:
    if ours is None:
        return None
    value = ours.measures.get(bound.measure)
    unfinished = ours.over is not None or bool(ours.failed)
    if value is None:
        return False if unfinished and bound.measure != "peak" else None
    if limit is None:
        return None
    if bound.least:
        return value >= limit
    # A count of what was given up would have grown.
    return value <= limit and not (unfinished and bound.measure in COUNTED)


# ---- The table ----


def seconds(value: float) -> str:
    """0.0312 → "31 ms"."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.1f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"


def amount(value: float) -> str:
    """Bytes in KiB or MiB."""
    if value >= 100 * MIB:
        return f"{value / MIB:.0f} MiB"
    if value >= MIB:
        return f"{value / MIB:.1f} MiB"
    return f"{value / 1024:.0f} KiB" if value >= 10240 or not value else f"{value / 1024:.1f} KiB"


def rate(value: float) -> str:
    """Bytes a second in MB/s or GB/s."""
    if value >= 1e9:
        return f"{value / 1e9:.1f} GB/s"
    return f"{value / 1e6:.0f} MB/s" if value >= 9.95e6 else f"{value / 1e6:.1f} MB/s"


def plain(value: float) -> str:
    """A count, or a ratio with two digits."""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("seconds", "time", seconds),
    ("arrived", "Dropbox has all", seconds),
    ("lag", "later", seconds),
    ("requests", "requests", plain),
    ("feed", "+ feed", plain),
    ("sent", "sent", amount),
    ("received", "received", amount),
    ("rate", "rate", rate),
    ("cpu", "CPU", seconds),
    ("cpu_per_mb", "CPU/MB", seconds),
    ("peak", "memory", amount),
)
EXTRA: dict[str, tuple[str, Callable[[float], str]]] = {
    "fairness": ("fastest/slowest", plain),
    "each_requests": ("requests each", plain),
    "each_received": ("most bytes for one", amount),
    "each_seconds": ("slowest one", seconds),
    "median_seconds": ("median", seconds),
    "mount_seconds": ("mounting", seconds),
    "operations": ("operations", plain),
    "p99": ("p99", seconds),
    "crawled": ("crawled after", seconds),
    "paged": ("2000 changes after", seconds),
    "runs": ("times", plain),
}
"""Measures that few works have; they stand in the last column with their names."""


def table(works: Sequence[Work], figures: Sequence[Figure], judged: bool = True) -> str:
    """The table as Markdown. Without `judged` the bounds are left out."""
    heads = ["work", "", *(head for _, head, _ in COLUMNS), "also"]
    rows = [heads, ["---"] * len(heads)]
    for work in works:
        done = [figure for figure in figures if figure.work == work.name]
        title = work.title
        for figure in done:
            rows.append([title, figure.contender, *_cells(figure)])
            title = ""
        if done and judged and work.bounds:
            rows.append(["", "*must reach*", *_bound_cells(judge(work, figures))])
    return _aligned(rows)


def _cells(figure: Figure) -> list[str]:
    cells = [
        show(figure.measures[name]) if name in figure.measures else "" for name, _, show in COLUMNS
    ]
    if figure.over is not None:
        unfinished = 1 if "seconds" in figure.measures else 0
        cells[unfinished] = f"> {figure.over:g} s"
    also = [
        f"{title} {show(figure.measures[name])}"
        for name, (title, show) in EXTRA.items()
        if name in figure.measures
    ]
    return [*cells, "; ".join([*also, *([figure.failed] if figure.failed else [])])]


def _bound_cells(verdicts: list[Verdict]) -> list[str]:
    shown: dict[str, list[str]] = {}
    for verdict in verdicts:
        bound = verdict.bound
        show = next((show for name, _, show in COLUMNS if name == bound.measure), None)
        show = show or EXTRA[bound.measure][1]
        if verdict.limit is not None:
            limit = show(verdict.limit)
        else:
            limit = f"“{bound.work}”" if bound.work else bound.versus
            limit = limit if bound.value == 1 else f"{bound.value:g} × {limit}"
        mark = {True: " ✓", False: " ✗", None: ""}[verdict.kept]
        text = f"{'≥' if bound.least else '≤'} {limit}{mark}"
        shown.setdefault(bound.measure, []).append(text)
    also = [
        f"{EXTRA[name][0]} {', '.join(texts)}" for name, texts in shown.items() if name in EXTRA
    ]
    return [*(", ".join(shown.get(name, [])) for name, _, _ in COLUMNS), "; ".join(also)]


def routes(works: Sequence[Work], figures: Sequence[Figure]) -> str:
    """The requests by route, a line for each figure that has any."""
    lines = []
    for work in works:
        for figure in figures:
            if figure.work == work.name and figure.routes:
                most_first = sorted(figure.routes.items(), key=lambda item: (-item[1], item[0]))
                calls = ", ".join(f"{route} {count}" for route, count in most_first)
                lines.append(f"{work.name}, {figure.contender}: {calls}")
    return "\n".join(lines)


def _aligned(rows: list[list[str]]) -> str:
    used = [index for index in range(len(rows[0])) if any(row[index] for row in rows[2:])]
    if not used:
        return ""
    widths = [max(_width(row[index]) for row in rows) for index in used]
    lines = []
    for row in rows:
        cells = [
            "-" * width if row[index] == "---" else row[index] + " " * (width - _width(row[index]))
            for index, width in zip(used, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(letter) else 1 for letter in text)
