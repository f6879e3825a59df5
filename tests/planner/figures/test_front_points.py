"""The plans of a run as points."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from planner.figures import front_points
from planner.figures.front_points import FrontPoints
from planner.results.front import front
from planner.run import Run
from planner.runs.metadata import RunMetadata
from planner.runs.records import Evaluation
from tests.problems.toy_run import FRONT, PARTIAL, RUINED, WASTEFUL, toy_evaluations
from tests.problems.toy_search import DENSE, SETTINGS, evaluation, rescored


def test_each_plan_has_its_kind(points: FrontPoints) -> None:
    kinds = dict(zip(points.frame["plan_id"], points.frame["kind"], strict=True))
    assert kinds == {
        **dict.fromkeys(FRONT, "front"),
        evaluation(WASTEFUL).plan_id: "dominated",
        evaluation(PARTIAL).plan_id: "partial",
        evaluation(RUINED).plan_id: "failed",
    }
    assert points.knee == FRONT[1]
    assert points.baselines == {"uniform": evaluation(WASTEFUL).plan_id}


def test_a_plan_under_the_pointer_says_what_it_costs(points: FrontPoints) -> None:
    (row,) = points.rows_of_plans([FRONT[1]])
    lines = points.notes[int(row)].split("<br>")
    assert lines == [
        "<b>plan-31313131 · toy</b>",
        "parameters: 600 · 0.600×",
        "weights on disk: 1.2 kB · 0.600×",
        "bits a weight: 9.6 · 0.600×",
        "multiply–accumulates a token: 540/token · 0.600×",
        "cache a token: 38 B/token · 0.600×",
        "KL, search: 0.147 ± 0.010 (s.e.)",
        "KL, fresh: 0.200 ± 0.010 (s.e.)",
        "KL, held-out: 0.300 ± 0.020 (s.e.)",
    ]


def test_nothing_is_read_again_unless_something_landed(toy_copy: Run) -> None:
    points = FrontPoints.of(toy_copy, "toy")
    assert points.updated(toy_copy) is points
    better = replace(evaluation((3, 0, 3, 0, 3, 0, 3, 0)), plan_id="better")
    toy_copy.record(better)
    toy_copy.record(evaluation(PARTIAL))  # scored on the rest of the windows
    toy_copy.record_rescore(FRONT[2], "holdout", rescored(2.0, 0.1))
    updated = points.updated(toy_copy)
    fresh = FrontPoints.of(toy_copy, "toy")
    pd.testing.assert_frame_equal(
        updated.frame.set_index("plan_id").sort_index(),
        fresh.frame.set_index("plan_id").sort_index(),
        check_like=True,
    )
    assert (updated.revision, updated.knee) == (fresh.revision, fresh.knee)
    kinds = updated.frame.set_index("plan_id")["kind"]
    assert kinds["better"] == "front"
    assert kinds[evaluation(PARTIAL).plan_id] != "partial"


def test_what_lands_while_it_is_read_is_seen_the_next_time(
    toy_copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = replace(evaluation((3, 0, 3, 0, 3, 0, 3, 0)), plan_id="late")

    def slow_front(*arguments: Any) -> list[Evaluation]:
        toy_copy.record(late)
        toy_copy.landed()  # as another thread of the page may ask meanwhile
        return front(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(front_points, "front", slow_front)
        points = FrontPoints.of(toy_copy, "toy")
    assert "late" not in set(points.frame["plan_id"])
    assert "late" in set(points.updated(toy_copy).frame["plan_id"])


def test_a_baseline_that_is_named_later_is_seen(toy_copy: Run) -> None:
    points = FrontPoints.of(toy_copy, "toy")
    named = {"uniform": FRONT[2], "additive": FRONT[1]}
    toy_copy.record_metadata(RunMetadata(baselines=named))
    assert points.updated(toy_copy).baselines == named


def test_a_run_that_scored_nothing_yet_has_no_points(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", SETTINGS) as run:
        run.record_metadata(RunMetadata(dense=DENSE, cost_names=("params",)))
        points = FrontPoints.of(run, "new")
        assert len(points.frame) == 0
        assert points.knee is None
        assert {"plan_id", "kind", "kl", "kl_se", "params", "params_x"} <= {*points.frame}
        run.record(toy_evaluations()[1])
        assert [*points.updated(run).frame["kind"]] == ["front"]


def test_what_was_not_measured_is_no_number(points: FrontPoints) -> None:
    assert all(math.isnan(value) for value in points.values("latency"))


def test_an_id_of_an_edited_run_is_no_markup(toy_copy: Run) -> None:
    strange = replace(evaluation((3, 0, 3, 0, 3, 0, 3, 0)), plan_id="<b>%{x}")
    toy_copy.record(strange)
    points = FrontPoints.of(toy_copy, "toy")
    (row,) = points.rows_of_plans(["<b>%{x}"])
    assert list(points.customdata[row]) == ["toy", "&lt;b&gt;&#37;&#123;x}"]
    assert points.notes[int(row)].startswith("<b>&lt;b&gt;&#37;&#123;x} · toy</b>")
