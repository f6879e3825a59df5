"""What a search says of its best plan while it runs."""

from dataclasses import replace

import pytest

from planner.results.front import best_within
from planner.searching.best_so_far import BestSoFar
from planner.settings.budget import Budget
from tests.problems.toy_search import DENSE, PROBLEM, all_genomes, evaluation, score_of

WHOLE, SMALL, SMALLER = (evaluation((level,) * 8) for level in (3, 1, 0))


def followed(budget: str) -> BestSoFar:
    return BestSoFar(PROBLEM.within(Budget.parse(budget)))


def test_without_a_budget_nothing_is_asked() -> None:
    best = BestSoFar(PROBLEM)
    best.add(SMALL)
    assert str(best) == ""


def test_until_a_plan_is_within_the_budget_the_nearest_is_told() -> None:
    best = followed("params<=0.4x")
    assert str(best) == ""
    best.add(WHOLE)
    assert str(best) == "none within params<=0.4x yet: nearest params 1x (1.0K)"
    best.add(SMALL)
    nearest = str(best)
    assert nearest == "none within params<=0.4x yet: nearest params 0.467x (467)"
    best.add(WHOLE)
    assert str(best) == nearest
    best.add(SMALLER)
    kl = SMALLER.quality["kl"]
    assert str(best) == f"KL {kl} within params<=0.4x"
    best.add(SMALL)
    assert str(best).startswith(f"KL {kl}")


def test_only_what_is_missed_is_told_of_the_nearest() -> None:
    best = followed("params<=0.5x,kl<=0.1")
    best.add(SMALL)
    assert str(best).startswith("none within params<=0.5x,kl<=0.1 yet: nearest kl ")


def test_a_failed_plan_is_none() -> None:
    best = followed("params<=0.4x")
    best.add(replace(SMALLER, score=score_of({"kl": (0.0, 0.0)}, failure="ruined")))
    assert str(best) == ""


@pytest.mark.parametrize("budget", ["params<=0.7x", "params<=0.8x,kl<=1", "kl<=0.8"])
def test_it_ends_at_the_plan_that_the_run_answers_with(budget: str) -> None:
    plans = [evaluation(tuple(genome)) for genome in all_genomes()[::997].tolist()]
    best = followed(budget)
    for plan in plans:
        best.add(plan)
    expected = best_within(plans, Budget.parse(budget), DENSE, ("params",))
    assert f"KL {expected.quality['kl']} within {budget}" in str(best)
    if budget.startswith("kl"):
        assert str(best).startswith(f"params {expected.costs['params'] / 1000:.3f}x at KL")
