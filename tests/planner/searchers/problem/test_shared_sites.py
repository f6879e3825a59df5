"""Sites that joints share: costs, bounds and additive plans agree with trying every genome."""

from itertools import product

import numpy as np
import pytest

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.cost import Cost, Joint
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.shared_sites import joints_given, promising_levels
from planner.searchers.protocol import Floats

LAYERS, HEADS, WIDTHS = 4, 3, 4
SHARED = (LAYERS, LAYERS + 1)
TOPS = np.array([1] * LAYERS + [HEADS - 1, WIDTHS - 1])


def cost_of(rng: np.random.Generator, limit: float | None) -> Cost:
    """Layers that are kept or dropped, all with as many heads and as wide as the others."""
    joints, total = [], 0.1
    for layer in range(LAYERS):
        for site, count in zip(SHARED, (HEADS, WIDTHS), strict=True):
            kept = np.cumsum(rng.uniform(0.1, 1.0, count))
            joints.append(Joint(sites=(layer, site), table=np.stack([0 * kept, kept])))
            total += kept[-1]
    scaled = [Joint(sites=joint.sites, table=joint.table / total) for joint in joints]
    return Cost(joints=tuple(scaled), fixed=0.1 / total, limit=limit)


def problem(seed: int, costs: int = 1) -> tuple[Domain, list[Floats]]:
    rng = np.random.default_rng(seed)
    limits = [0.55, 0.7][:costs]
    domain = Domain(
        top_levels=TOPS,
        costs=tuple(cost_of(rng, limit) for limit in limits),
        cost_floor=0.0,
        shared=SHARED,
    )
    sensitivities = [
        np.append(np.sort(rng.exponential(size=top))[::-1], 0.0) for top in TOPS.tolist()
    ]
    return domain, sensitivities


def every_genome() -> np.ndarray:
    return np.array(list(product(*(range(top + 1) for top in TOPS))))


def test_a_cost_is_the_sum_of_joints_that_share_sites() -> None:
    domain, _ = problem(0)
    cost = domain.costs[0]
    genome = np.array([1, 0, 1, 1, 1, 2])
    expected = cost.fixed + sum(
        j.table[genome[j.sites[0]], genome[j.sites[1]]] for j in cost.joints
    )
    assert cost.of(genome[None])[0] == pytest.approx(expected)
    assert cost.of(TOPS[None])[0] == pytest.approx(1.0)


@pytest.mark.parametrize("site", range(len(TOPS)))
def test_costs_along_a_site_differ_as_those_of_genomes(site: int) -> None:
    cost = problem(1)[0].costs[0]
    genome = np.array([1, 0, 1, 1, 1, 2])
    rows = np.tile(genome, (TOPS[site] + 1, 1))
    rows[:, site] = np.arange(len(rows))
    np.testing.assert_allclose(np.diff(cost.along(site, genome)), np.diff(cost.of(rows)))


def test_with_shared_levels_given_no_joints_have_a_site_in_common() -> None:
    domain, _ = problem(2)
    given = TOPS.copy()
    given[list(SHARED)] = [1, 2]
    joints = joints_given(domain, given)
    assert [of_cost[0].sites for of_cost in joints] == [(layer,) for layer in range(LAYERS)]
    rows = np.tile(given, (2, 1))
    rows[0, 0] = 0
    dropped, kept = domain.cost(rows)
    assert np.ptp(joints[0][0].table) == pytest.approx(kept - dropped)


@pytest.mark.parametrize("costs", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_the_additive_plan_is_the_best_of_all(seed: int, costs: int) -> None:
    domain, sensitivities = problem(seed, costs)
    limits = [cost.limit for cost in domain.costs]
    genomes = every_genome()
    fits = domain.affords(genomes)
    totals = sum(table[genomes[:, site]] for site, table in enumerate(sensitivities))
    best = additive_best(domain, sensitivities, limits)
    assert domain.affords(best[None])[0]
    found = sum(table[level] for table, level in zip(sensitivities, best, strict=True))
    assert found == pytest.approx(totals[fits].min(), rel=1e-4)


@pytest.mark.parametrize("costs", [1, 2])
def test_no_plan_is_better_than_the_bound_of_its_shared_levels(costs: int) -> None:
    domain, sensitivities = problem(3, costs)
    limits = [cost.limit for cost in domain.costs]
    genomes = every_genome()
    fits = domain.affords(genomes)
    totals = sum(table[genomes[:, site]] for site, table in enumerate(sensitivities))
    bounds = dict[tuple[int, ...], float]()
    for given, bound in promising_levels(domain, sensitivities, limits):
        bounds[tuple(given[list(SHARED)].tolist())] = bound
        alike = fits & (genomes[:, list(SHARED)] == given[list(SHARED)]).all(axis=1)
        assert bound <= totals[alike].min(initial=np.inf) + 1e-9
    assert list(bounds.values()) == sorted(bounds.values())
    for genome in genomes[fits]:  # what cannot fit is left out, and nothing else
        assert tuple(genome[list(SHARED)].tolist()) in bounds


def test_where_nothing_fits_the_smallest_plan_is_returned() -> None:
    domain, sensitivities = problem(4)
    assert additive_best(domain, sensitivities, [0.001]).tolist() == [0] * len(TOPS)


def test_with_no_limit_the_dense_plan_is_best() -> None:
    domain, sensitivities = problem(5)
    assert additive_best(domain, sensitivities, [None]).tolist() == TOPS.tolist()
