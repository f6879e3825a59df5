"""Answers to budgets: the best plan in words, and those that no test tells from it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluators.metric import Measurement, searched_names
from planner.results.answers import answer_of, own_budget, settled_quality
from planner.results.budgets import plan_chooser
from planner.run import Run
from planner.runs.metadata import RunMetadata
from planner.runs.records import Evaluation
from planner.settings.budget import Budget
from search_spaces.errors import BudgetError
from tests.problems.toy_search import DENSE, SETTINGS, evaluation, score_of

BEST = "plan-33333330"


def plan(last: int, share: float, kl: float, holdout: tuple[float, ...] = ()) -> Evaluation:
    """A plan of some cost, with a KL on the search text, and one a window on held-out text."""
    found = replace(
        evaluation((*(3,) * 7, last)),
        costs={name: share * amount for name, amount in DENSE.items()},
        score=score_of({"kl": (kl, 0.01), "nll": (3.0, 0.1), "agreement": (0.9, 0.01)}),
    )
    if not holdout:
        return found
    measured = Measurement(value=float(np.mean(holdout)), standard_error=0.1, by_window=holdout)
    told = {"kl": measured, "nll": Measurement(value=np.log(30.0), standard_error=0.1)}
    return replace(found, holdout={**dict.fromkeys(searched_names(), measured), **told})


PLANS = (
    plan(0, 0.8, 0.10, (1.0, 1.0, 1.0)),
    # differences 0, 0.3, 0.6: t = 1.7, below 4.30 for 2 degrees of freedom
    plan(1, 0.7, 0.20, (1.0, 1.3, 1.6)),
    # differences 1.0, 1.1, 0.9: t = 17
    plan(2, 0.6, 0.30, (2.0, 2.1, 1.9)),
    # as good on held-out text, but dearer and worse where it was chosen: no answer to anything
    plan(3, 0.9, 0.40, (1.0, 1.0, 1.0)),
)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Run]:
    with Run.create(tmp_path / "run", SETTINGS) as run:
        smallest = {name: 0.2 * cost for name, cost in DENSE.items()}
        known = RunMetadata(dense=DENSE, smallest=smallest, cost_names=("params",))
        run.record_metadata(known)
        for each in PLANS:
            run.record(each)
        yield run


def test_plans_are_as_good_if_held_out_text_does_not_tell_them_apart(answering: Run) -> None:
    answer = answer_of(answering, "params<=0.9x")
    assert answer.plan.plan_id == BEST
    assert [each.plan_id for each in answer.equals] == [PLANS[1].plan_id]


def test_without_held_out_text_the_search_text_decides(tmp_path: Path) -> None:
    bare = [replace(each, holdout={}) for each in PLANS]
    near = replace(bare[1], score=score_of(dict.fromkeys(searched_names(), (0.11, 0.3))))
    with Run.create(tmp_path / "run", SETTINGS) as run:
        run.record_metadata(RunMetadata(dense=DENSE, smallest=DENSE, cost_names=("params",)))
        for each in (bare[0], near, bare[2]):
            run.record(each)
        answer = answer_of(run, "params<=1x")
    # differences of `near` 0.01 ± 0.29; of the third plan 0.2 in both windows, without an error
    assert [each.plan_id for each in answer.equals] == [near.plan_id]


def test_an_answer_is_the_best_plan_in_a_sentence(answering: Run) -> None:
    assert answer_of(answering, "params<=0.9x").sentence() == (
        f"plan {BEST}: 0.800× params, KL 1.000 ± 0.100 on held-out text, perplexity 30.00; "
        "1 other plan is not significantly worse"
    )
    told = answer_of(answering, "size<=1300").sentence(["1.42× decode throughput in llama.cpp"])
    assert told.startswith(
        f"plan {PLANS[2].plan_id}: 0.600× size (1.2 kB), 1.42× decode throughput in llama.cpp, KL"
    )
    assert "other plan" not in told


def test_a_budget_on_quality_alone_is_answered_by_the_cheapest_plan(answering: Run) -> None:
    answer = answer_of(answering, "kl<=0.25")
    assert answer.plan.plan_id == PLANS[1].plan_id
    assert answer.equals == ()


def test_an_answer_is_what_the_run_chooses(answering: Run) -> None:
    choose = plan_chooser(answering)
    for budget in ("params<=0.65x", "params<=0.75x,kl<=0.5", "kl<=0.15"):
        answer = answer_of(answering, budget)
        assert answer.plan == choose(Budget.parse(budget))
        assert answer_of(answering, budget, answering.front_plans()) == answer


@pytest.mark.parametrize("budget", ["params<=0.1x", "params<=0.5x", "params<=0.9x,kl<=0.05"])
def test_what_no_plan_meets_is_refused(budget: str, answering: Run) -> None:
    with pytest.raises(BudgetError) as refusal:
        answer_of(answering, budget)
    with pytest.raises(BudgetError, match=f"^{re.escape(str(refusal.value))}$"):
        answer_of(answering, budget, answering.front_plans())


def test_a_run_is_judged_by_its_own_budget_or_at_its_knee(answering: Run, searched: Path) -> None:
    assert own_budget(answering) is None  # the front is straight
    with Run.open(searched) as run:
        assert own_budget(run) == run.settings.budget
    exact = score_of({"kl": (0.0, 0.0), "nll": (3.0, 0.1), "agreement": (1.0, 0.0)})
    answering.record(replace(PLANS[3], costs=DENSE, score=exact))
    answering.record(plan(1, 0.65, 0.05))
    budget = own_budget(answering)
    assert budget is not None
    assert answer_of(answering, budget).plan.plan_id == PLANS[1].plan_id


def test_quality_is_told_of_held_out_text_once_there_is_any() -> None:
    assert settled_quality(PLANS[0])[0] == "held-out"
    assert settled_quality(replace(PLANS[0], holdout={}))[0] == "search"
