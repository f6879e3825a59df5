import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from evaluators.metric import Measurement
from planner.results.front import best_within, front, front_frame, save_front
from planner.runs.records import Evaluation
from planner.settings.budget import Budget
from search_spaces.errors import BudgetError
from tests.problems.toy_search import score_of

DENSE = {"params": 100.0, "kv": 0.0}


def plan(name: str, kl: float, params: float, genome: tuple[int, ...] = (0,)) -> Evaluation:
    return Evaluation(
        genome=genome,
        plan_id=name,
        round=0,
        score=score_of(
            {"agreement": (0.9, 0.01), "kl": (kl, kl / 10), "nll": (math.log(20.0), 0.1)},
            failure="ruined" if math.isnan(kl) else None,
        ),
        costs={"params": params, "kv": 0.0},
    )


PLANS = [
    plan("small", 0.5, 40),
    plan("dominated", 0.6, 60),
    plan("dense", 0.0, 100),
    plan("middle", 0.1, 70),
    plan("ruined", math.nan, 20),
]


def names(plans: list[Evaluation]) -> list[str]:
    return [found.plan_id for found in plans]


def test_the_front_holds_nondominated_plans_most_expensive_first() -> None:
    assert names(front(PLANS, ("params",))) == ["dense", "middle", "small"]
    assert front([], ("params",)) == []


def test_of_equal_plans_the_same_one_is_on_the_front_whichever_landed_first() -> None:
    twins = [plan("b", 0.1, 50, (2,)), plan("a", 0.1, 50, (1,))]
    assert names(front(twins, ("params",))) == ["a"] == names(front(twins[::-1], ("params",)))


def test_a_second_cost_widens_the_front() -> None:
    lean = replace(plan("lean", 0.6, 60), costs={"params": 60.0, "kv": -1.0})
    assert "lean" not in names(front([*PLANS, lean], ("params",)))
    assert "lean" in names(front([*PLANS, lean], ("params", "kv")))


def test_the_table_shows_errors_shares_and_perplexity() -> None:
    rescored = replace(
        PLANS[0],
        fresh={"kl": Measurement(value=0.7, standard_error=0.02)},
        holdout={"nll": Measurement(value=math.log(30.0))},
    )
    frame = front_frame(front([*PLANS[1:], rescored], ("params",)), DENSE)
    assert list(frame.columns[:8]) == [
        "plan_id",
        "kl",
        "kl_se",
        "nll",
        "nll_se",
        "perplexity",
        "agreement",
        "agreement_se",
    ]
    small = frame.set_index("plan_id").loc["small"]
    assert small["perplexity"] == pytest.approx(20)
    assert small["holdout_perplexity"] == pytest.approx(30)
    assert small["kl_se"] == pytest.approx(0.05)
    assert (small["fresh_kl"], small["fresh_kl_se"]) == (0.7, 0.02)
    assert small["optimism"] == pytest.approx(small["kl"] - 0.7)
    assert frame["optimism"].isna().sum() == 2
    assert (small["params"], small["params_x"], small["kv_x"]) == (40, 0.4, 0)
    assert frame["holdout_nll"].isna().sum() == 2


def test_the_saved_table_reads_back(tmp_path: Path) -> None:
    frame = front_frame(front(PLANS, ("params",)), DENSE)
    save_front(frame, tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "front.csv"), frame)


@pytest.mark.parametrize(
    ("budget", "chosen"),
    [
        ("params<=0.7x", "middle"),
        ("params<=0.69x", "small"),
        ("params<=1x", "dense"),
        ("kl<=0.2", "middle"),
        ("kl<=9", "small"),
        ("params<=0.9x,kl<=0.2", "middle"),
        ("params<=50,kl<=0.5", "small"),
    ],
)
def test_the_best_plan_within_a_budget(budget: str, chosen: str) -> None:
    assert best_within(PLANS, Budget.parse(budget), DENSE, ("params",)).plan_id == chosen


def test_a_budget_on_kl_alone_takes_the_least_of_the_cost_that_the_run_minimised() -> None:
    lean = replace(plan("lean", 0.1, 90), costs={"params": 90.0, "kv": -1.0})
    small = Budget.parse("kl<=0.2")
    assert best_within([*PLANS, lean], small, DENSE, ("params",)).plan_id == "middle"
    assert best_within([*PLANS, lean], small, DENSE, ("kv", "params")).plan_id == "lean"
    # equally cheap in the first cost: the next decides before KL does
    assert best_within(PLANS, small, DENSE, ("kv", "params")).plan_id == "middle"


def test_nothing_within_a_budget_says_what_comes_nearest() -> None:
    with pytest.raises(BudgetError) as caught:
        best_within(PLANS, Budget.parse("params<=0.35x,kl<=0.5"), DENSE, ("params",))
    assert "params 0.4x (40), kl 0.5;" in str(caught.value)
    assert "--resume" in str(caught.value)
    with pytest.raises(BudgetError, match="got none"):
        best_within([], Budget.parse("params<=0.5x"), DENSE, ("params",))
