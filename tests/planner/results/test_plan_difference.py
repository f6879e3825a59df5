"""Two plans side by side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluators.metric import Measurement, searched_names
from evaluators.scoring.score import estimate
from planner.results.plan_difference import plan_difference
from planner.run import Run
from planner.runs.metadata import RunMetadata
from search_spaces.errors import RunError
from search_spaces.models.identity import SourceIdentity
from tests.problems.toy_run import (
    FRONT,
    PARTIAL,
    RUINED,
    WASTEFUL,
    write_toy_run,
)
from tests.problems.toy_search import evaluation


@pytest.fixture
def run(toy_copy: Run) -> Run:
    return toy_copy


def by_window(*kls: float) -> dict[str, Measurement]:
    return dict.fromkeys(searched_names(), estimate(np.array(kls)))


def test_held_out_text_decides_where_it_scored_both(run: Run) -> None:
    difference = plan_difference(run.plan(FRONT[2]), run.plan(FRONT[1]))
    assert difference.text == "held-out text"
    assert difference.advantage.value == pytest.approx(0.7)
    assert difference.is_significant
    assert not difference.is_paired  # nothing says on which windows
    assert difference.sentence == (
        "plan plan-31313131 is significantly better than plan-11111111: its KL on held-out text "
        "is 0.700 ± 0.028 lower (unpaired t test at 2.5 %)"
    )


def test_fresh_text_decides_without_held_out_text_and_search_text_without_both(run: Run) -> None:
    run.record(replace(evaluation(WASTEFUL), fresh=run.landed()[0].fresh))
    plans = [run.plan(evaluation(WASTEFUL).plan_id), run.plan(FRONT[1])]
    assert plan_difference(*plans).text == "fresh text"
    plans = [run.plan(evaluation(PARTIAL).plan_id), run.plan(FRONT[1])]
    assert plan_difference(*plans).text == "the search text"


def test_the_same_windows_are_compared_in_pairs(run: Run) -> None:
    """Windows that are hard for both plans hide nothing."""
    run.record_rescore(FRONT[1], "holdout", by_window(0.1, 0.5, 0.9))
    run.record_rescore(FRONT[2], "holdout", by_window(0.21, 0.6, 1.01))
    difference = plan_difference(run.plan(FRONT[1]), run.plan(FRONT[2]))
    assert difference.is_paired
    assert difference.is_significant
    assert difference.advantage.value == pytest.approx(-0.32 / 3)
    assert difference.sentence.startswith("plan plan-31313131 is significantly better")
    assert "(paired t test at 2.5 %)" in difference.sentence


def test_windows_of_other_text_make_no_pairs(run: Run, tmp_path: Path) -> None:
    for plan, kls in ((FRONT[1], (0.1, 0.5, 0.9)), (FRONT[2], (0.21, 0.6, 1.01))):
        run.record_rescore(plan, "holdout", by_window(*kls))
    with write_toy_run(tmp_path / "other") as other:
        other.record_rescore(FRONT[2], "holdout", by_window(0.21, 0.6, 1.01))
        assert plan_difference(run.plan(FRONT[1]), other.plan(FRONT[2])).is_paired
        other.record_metadata(RunMetadata(text_digest="another"))
        difference = plan_difference(run.plan(FRONT[1]), other.plan(FRONT[2]))
    assert not difference.is_paired
    assert not difference.is_significant
    assert "is not significantly better" in difference.sentence


def test_plans_of_two_models_are_not_compared(run: Run, tmp_path: Path) -> None:
    with write_toy_run(tmp_path / "other") as other:
        stranger = SourceIdentity(architecture="Toy", fingerprint="xyz", params=1000, checksum="2")
        other.record_metadata(RunMetadata(model=stranger))
        with pytest.raises(RunError, match="two plans must be of one model"):
            plan_difference(run.plan(FRONT[1]), other.plan(FRONT[1]))


def test_a_plan_without_quality_is_compared_with_none(run: Run) -> None:
    difference = plan_difference(run.plan(FRONT[0]), run.plan(evaluation(RUINED).plan_id))
    assert difference.text is None
    assert not difference.is_significant
    assert difference.sentence.startswith("no text scored both plans")
    assert difference.strips


def test_a_plan_is_no_better_than_itself(run: Run) -> None:
    plan = run.plan(FRONT[1])
    difference = plan_difference(plan, plan)
    assert not difference.is_significant
    assert difference.strips == ()
    assert difference.sentence == "on held-out text both plans have the same KL"


def test_strips_show_what_the_second_keeps_more(run: Run) -> None:
    difference = plan_difference(run.plan(FRONT[0]), run.plan(evaluation(WASTEFUL).plan_id))
    units, drops = difference.strips
    assert [cell.text for cell in units.cells] == ["−100", *[""] * 7]
    assert units.cells[0].note == "3 of 3 channels kept → dropped, with all 3 channels"
    assert [cell.share for cell in drops.cells] == [-1.0, *[0.0] * 7]
    opposite = plan_difference(run.plan(evaluation(WASTEFUL).plan_id), run.plan(FRONT[0]))
    assert [cell.text for cell in opposite.strips[0].cells] == ["+100", *[""] * 7]
