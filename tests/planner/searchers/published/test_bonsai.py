from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from planner.searchers.published.bonsai import Bonsai, ridge
from tests.problems.plays import best_within, droppable, layered, play, quadratic, two_costs
from tests.problems.toy_search import domain, kl


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_sites_that_do_not_matter(seed: int) -> None:
    space = droppable([0.04] * 20, 0.6)
    weights = np.full(20, 1.0)
    idle = np.random.default_rng(seed).choice(20, size=10, replace=False)
    weights[idle] = 0.01
    asked = play(Bonsai(space, 32, seed), space, quadratic(weights, space))
    plan = best_within(asked, space, quadratic(weights, space), 0.6)
    assert set(np.flatnonzero(plan == 0)) == set(idle)


def test_it_goes_down_in_equal_parts_and_scores_the_plan_after_each() -> None:
    space = droppable([0.025] * 32, 0.6, limit=0.6, only_budget=True)
    asked = play(Bonsai(space, 16, 0, iterations=4), space, quadratic(np.arange(32.0), space))
    assert asked[0][0].tolist() == [1] * 32
    # sixteen sites are dropped, four an iteration; a sub-model lacks as many as the next plan
    assert [space.cost(batch[1:]).tolist() for batch in asked[:4]] == [
        pytest.approx([1.0 - 0.1 * (i + 1)] * (len(asked[i]) - 1)) for i in range(4)
    ]
    assert [float(space.cost(batch[0])) for batch in asked] == pytest.approx(
        [1.0, 0.9, 0.8, 0.7, 0.6]
    )
    # each goes on from the plan before
    assert all((later <= batch[0]).all() for batch, later in pairwise(asked))


def test_it_does_better_than_its_prior_and_than_none() -> None:
    space = layered(12, 0.55, limit=0.55)
    rng = np.random.default_rng(3)
    weights = rng.lognormal(sigma=1.5, size=24)
    expected = weights * rng.lognormal(sigma=1.0, size=24)
    tables = tuple(
        sensitivity * np.linspace(1, 0, top + 1) ** 2
        for sensitivity, top in zip(expected, space.top_levels, strict=True)
    )
    informed = replace(space, sensitivity_tables=tables)
    sensitivity = quadratic(weights, space)

    def found(seed: int) -> float:
        asked = play(Bonsai(informed, 32, seed), informed, sensitivity)
        return float(sensitivity(best_within(asked, space, sensitivity, 0.55)[None])[0])

    by_prior = informed.by_prior(0.55, np.zeros(24))
    mean = np.mean([found(seed) for seed in range(3)])
    assert mean < sensitivity(by_prior[None])[0]
    assert mean < sensitivity(space.uniform_within()[None])[0]


def test_it_ends_within_the_budget_in_two_costs() -> None:
    space = two_costs(limits=(0.75, 0.5), only_budget=True)
    asked = play(Bonsai(space, 8, 0), space, quadratic(np.array([1.0, 2.0, 3.0, 4.0]), space))
    assert space.affords(np.concatenate(asked)).any()


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (play(Bonsai(domain(), 8, seed), domain(), kl) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert np.concatenate(first).tolist() != np.concatenate(other).tolist()


def test_ridge_finds_a_linear_rule_and_tells_noise_from_it() -> None:
    rng = np.random.default_rng(0)
    features = rng.random((40, 5))
    truth = np.array([-3.0, 0.0, 1.0, 0.0, -0.5])
    assert ridge(features, features @ truth + 7.0) == pytest.approx(truth, abs=1e-3)
    noises = rng.normal(size=(20, 40))
    plain = [np.linalg.lstsq(features - features.mean(axis=0), n, rcond=None)[0] for n in noises]
    shrunk = [ridge(features, noise) for noise in noises]
    assert np.linalg.norm(shrunk, axis=1).mean() < 0.5 * np.linalg.norm(plain, axis=1).mean()
    wide = rng.random((10, 30))
    assert np.isfinite(ridge(wide, wide[:, 0])).all()


def test_ridge_gives_nothing_to_what_does_not_vary() -> None:
    assert ridge(np.ones((4, 3)), np.arange(4.0)).tolist() == [0.0, 0.0, 0.0]
    features = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]])
    assert ridge(features, np.array([2.0, 1.0, 0.0])) == pytest.approx([0.0, -2.0], abs=1e-3)
    assert ridge(np.ones((1, 2)), np.ones(1)).tolist() == [0.0, 0.0]
