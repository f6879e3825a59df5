from dataclasses import replace

import numpy as np
import pytest

from planner.searchers.problem.additive import additive_best
from planner.searchers.published.one_shot import OneShot
from tests.problems.plays import play, quadratic, two_costs
from tests.problems.toy_search import domain, kl, paired_domain

SENSITIVITIES = tuple(
    weight * np.array([1.0, 0.5, 0.2, 0.0]) for weight in (8, 1, 4, 0.5, 2, 0.3, 6, 1.5)
)


def test_it_proposes_the_best_by_the_prior_for_the_budget_and_for_others_and_then_nothing() -> (
    None
):
    space = replace(domain(cost_floor=0.3), sensitivity_tables=SENSITIVITIES)
    (asked,) = play(OneShot(space, 6), space, kl)
    assert asked[0].tolist() == additive_best(space, SENSITIVITIES, [0.5]).tolist()
    assert (space.cost(asked[1:]) <= np.linspace(1.0, 0.3, 7)[1:] + 1e-9).all()
    # six budgets, of which one may be the asked one
    assert len(asked) in (6, 7)
    assert len(np.unique(asked, axis=0)) == len(asked)


def test_for_one_budget_it_proposes_one_plan() -> None:
    space = replace(domain(cost_floor=0.45, only_budget=True), sensitivity_tables=SENSITIVITIES)
    (asked,) = play(OneShot(space, 6), space, kl)
    assert asked.tolist() == [additive_best(space, SENSITIVITIES, [0.5]).tolist()]


def test_a_tilt_overrides_sensitivities_and_its_plans_are_within_each_budget() -> None:
    tilt = np.where(np.arange(8) < 4, 0.2, -0.2)
    space = replace(paired_domain(limit=0.6), sensitivity_tables=SENSITIVITIES, tilt=tilt)
    (asked,) = play(OneShot(space, 5), space, kl)
    assert space.affords(asked[:1])[0]
    assert asked[0].tolist() == space.tilted(0.6, tilt).tolist()
    assert asked[0][:4].mean() > asked[0][4:].mean()


@pytest.mark.parametrize("prior", [False, True])
def test_several_limits_are_kept_at_once(prior: bool) -> None:
    space = two_costs(limits=(0.75, 0.5), only_budget=True)
    if prior:
        space = replace(space, sensitivity_tables=(np.array([1.0, 0.4, 0.0]),) * 4)
    ((plan,),) = play(OneShot(space, 4), space, quadratic(np.ones(4), space))
    assert space.affords(plan[None])[0]
    if prior:
        assert sorted(plan[:2].tolist()) == [1, 2]
        assert sorted(plan[2:].tolist()) in ([1, 1], [0, 2])


def test_without_a_prior_all_sites_keep_the_same_share() -> None:
    space = domain(only_budget=True)
    (asked,) = play(OneShot(space, 4), space, kl)
    assert asked.tolist() == [space.uniform(0.5).tolist()]
