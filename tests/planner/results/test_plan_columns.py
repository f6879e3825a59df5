"""The table of plans, column by column."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from evaluators.metric import METRICS, exponential
from evaluators.scoring.score import Score
from planner.results.front import evaluation_frame
from planner.results.plan_columns import plan_row
from planner.settings.budget import relative_cost
from tests.problems.toy_run import toy_evaluations
from tests.problems.toy_search import DENSE, evaluation

PLANS = 20_000
MOST_SECONDS = 1.5
"""Of processor time, for what takes about 0.4 seconds."""


def test_rows_hold_what_each_score_says() -> None:
    evaluations = toy_evaluations()
    frame = evaluation_frame(evaluations, DENSE)
    assert [*frame["plan_id"]] == [each.plan_id for each in evaluations]
    assert [*frame["windows"]] == [2, 2, 2, 2, 1, 2]
    assert [*frame["failure"]] == ["", "", "", "", "", "ruined"]
    for each, row in zip(evaluations, frame.to_dict("records"), strict=True):
        for name, measured in each.quality.items():
            assert _same(row[name], measured.value)
            assert _same(row[f"{name}_se"], measured.standard_error)
        assert _same(row["perplexity"], exponential(each.quality["nll"].value))
        for name, value in each.costs.items():
            assert row[name] == value
            assert row[f"{name}_x"] == relative_cost(name, value, DENSE)
        for split, scores in (("fresh", each.fresh), ("holdout", each.holdout)):
            expected = scores["kl"].value if scores else math.nan
            assert _same(row[f"{split}_kl"], expected)
        flattery = each.quality["kl"].value - each.fresh["kl"].value if each.fresh else math.nan
        assert _same(row["optimism"], flattery)


def _same(ours: float, theirs: float) -> bool:
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def test_one_row_is_that_of_the_table() -> None:
    (plan,) = toy_evaluations()[1:2]
    row = plan_row(plan, DENSE)
    assert list(row)[:3] == ["plan_id", "kl", "kl_se"]
    assert row["params_x"] == pytest.approx(0.6)
    assert row["holdout_kl"] == 0.3


def test_a_cost_of_nothing_is_no_share_of_anything() -> None:
    assert plan_row(evaluation((3,) * 8), {**DENSE, "kv": 0.0})["kv_x"] == 0.0


def test_nothing_scored_has_all_columns() -> None:
    frame = evaluation_frame([], DENSE)
    assert {"kl", "kl_se", "perplexity", "params", "params_x", "created_at"} <= {*frame}
    assert len(frame) == 0


def test_a_long_run_is_a_table_soon() -> None:
    rng = np.random.default_rng(0)
    plan = evaluation((3,) * 8)
    plans = [
        replace(
            plan,
            plan_id=str(number),
            score=Score(
                by_window=dict.fromkeys(plan.score.by_window, values),
                tokens=1,
                seconds=0.0,
            ),
        )
        for number, values in enumerate(rng.random((PLANS, 16)))
    ]
    before = time.process_time()
    frame = evaluation_frame(plans, DENSE)
    assert time.process_time() - before < MOST_SECONDS
    assert len(frame) == PLANS
    assert METRICS["kl"].lowest <= frame["kl"].min() < frame["kl"].max() < 1
