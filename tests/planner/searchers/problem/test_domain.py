from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.searchers.problem.domain import Domain, step_rates
from planner.searchers.problem.moves import uneven_tilt
from tests.problems.costs import joined, summed, with_sparsity
from tests.problems.plays import alternating_domain, domain_with_prior
from tests.problems.toy_search import paired_domain

seeds = st.integers(0, 10_000)


def test_costs_add_up_by_hand() -> None:
    small = Domain(
        top_levels=np.array([2, 1]),
        costs=(summed((np.array([0.0, 0.1, 0.4]), np.array([0.05, 0.35])), fixed=0.25),),
        cost_floor=0.3,
    )
    genomes = np.array([[2, 1], [0, 0], [1, 1]])
    assert small.cost(genomes) == pytest.approx([1.0, 0.3, 0.7])
    assert small.cost(genomes[1]) == pytest.approx(0.3)


def formatted_domain(limit: float | None = None) -> Domain:
    """Widths of 0.2 each, and the format of each, which halves what is kept of it."""
    shares = np.arange(9) / 8
    table = with_sparsity(0.2 * shares, np.array([-0.1, 0.0]), shares)
    pairs = (((site, site + 1), table) for site in range(0, 8, 2))
    return Domain(
        top_levels=np.array([8, 1] * 4),
        costs=(joined(*pairs, fixed=0.2, limit=limit),),
        cost_floor=0.2,
        kinds=("mlp", "format") * 4,
    )


@given(st.floats(0.2, 0.999))
def test_a_uniform_plan_has_one_number_format_and_only_then_narrower_sites(target: float) -> None:
    space = formatted_domain(limit=target)
    shared, topped_up = space.uniform(target), space.uniform_within()
    for genome in (shared, topped_up):
        assert (genome[1::2] == 0).all()
        assert float(space.cost(genome)) <= target + 1e-11
        assert np.ptp(genome[::2]) <= 1
        # 0.6 is the cost of all widths in the lower format
        assert (genome[::2] == 8).all() == (target >= 0.6 - 1e-11)
    assert float(space.cost(topped_up)) > min(target, 0.6) - 0.1 / 8 - 1e-11
    assert space.uniform(1.0).tolist() == space.top_levels.tolist()
    # searches start where there is something to raise
    assert len(set(space.even(0.8)[1::2].tolist())) == 2


def test_formats_are_lowered_alike_in_bits_whatever_each_ladder_lacks() -> None:
    long, short = [2.6, 3.4, 4.5, 5.5, 6.6, 8.5, 16.0], [4.5, 5.5, 8.5, 16.0]
    tables = [0.5 * np.array(bits) / 16 for bits in (long, short)]
    space = Domain(
        top_levels=np.array([6, 3]),
        costs=(summed(tuple(tables), fixed=0.0),),
        cost_floor=0.2,
        kinds=("format", "format"),
    )
    found = {tuple(space.uniform(target).tolist()) for target in np.linspace(0.2, 1.0, 200)}
    bits = sorted((long[one], short[other]) for one, other in found)
    # what the short one lacks it has in the next that it can hold
    together = [(4.5, 4.5), (5.5, 5.5), (6.6, 5.5), (8.5, 8.5), (16.0, 16.0)]
    assert bits == [(2.6, 4.5), (3.4, 4.5), *together]


def test_a_format_that_costs_nothing_stays() -> None:
    shares = np.arange(9) / 8
    space = replace(
        formatted_domain(), costs=(summed((0.2 * shares, np.zeros(2)) * 4, fixed=0.2),)
    )
    assert (space.uniform(0.5)[1::2] == 1).all()


@given(st.floats(0.2, 1.0))
def test_without_formats_even_plans_are_the_uniform_ones(target: float) -> None:
    for space in (alternating_domain(), paired_domain(limit=target)):
        assert space.uniform(target).tolist() == space.even(target).tolist()
        assert space.uniform_within().tolist() == space.even_within().tolist()


def test_uniform_plans_run_from_nothing_to_dense() -> None:
    assert (alternating_domain().uniform(1.0) == alternating_domain().top_levels).all()
    assert (alternating_domain().uniform(0.25) == 0).all()
    assert (alternating_domain().uniform(0.0) == 0).all()


@given(st.floats(0.25, 1.0))
def test_a_uniform_plan_keeps_the_same_share_everywhere_within_its_cost(target: float) -> None:
    space = alternating_domain()
    genome = space.uniform(target)
    cost = float(space.cost(genome))
    assert cost <= target + 1e-11
    coarsest_step = max(float(np.diff(table).max()) for table in space.cost_tables)
    assert cost > target - coarsest_step - 1e-9 or (genome == space.top_levels).all()
    # all sites lie within one level of one share
    shares = np.stack([genome - 1, genome + 1]) / space.top_levels
    assert shares[0].max() <= shares[1].min() + 1e-9


@given(seeds, st.floats(0.3, 1.0))
def test_a_tilted_plan_stays_in_bounds_and_within_its_cost(seed: int, target: float) -> None:
    space = alternating_domain()
    tilt = uneven_tilt(space, np.random.default_rng(seed))
    genome = space.tilted(target, tilt)
    assert (genome >= 0).all()
    assert (genome <= space.top_levels).all()
    assert float(space.cost(genome)) <= target + 1e-11


def test_a_tilt_favours_the_sites_it_raises() -> None:
    space = alternating_domain()
    tilt = np.where(np.arange(12) < 6, 0.4, -0.4)
    shares = space.tilted(0.6, tilt) / space.top_levels
    assert shares[:6].min() > shares[6:].max()


@given(seeds, st.floats(0.15, 1.0))
def test_no_plan_of_pairs_passes_its_cost_and_the_next_step_would(
    seed: int, target: float
) -> None:
    space = paired_domain()
    tilt = uneven_tilt(space, np.random.default_rng(seed))
    informed = replace(space, sensitivity_tables=(np.array([1.0, 0.5, 0.3, 0.0]),) * 8)
    plans = [space.uniform(target), space.tilted(target, tilt), informed.by_prior(target, tilt)]
    costs = space.cost(np.array(plans))
    assert (costs <= max(target, 0.2) + 1e-11).all()
    # the largest step: a width whose weights are dense
    assert (costs >= min(target, 1.0) - 0.2 / 3 - 0.12).all()


def test_the_uniform_plan_within_a_budget_of_pairs_leaves_no_room() -> None:
    space = paired_domain(limit=0.55)
    levels = space.uniform_within()
    assert space.affords(levels[None])[0]
    raised = np.minimum(levels + np.eye(8, dtype=np.int_), space.top_levels)
    assert not space.affords(raised[(raised != levels).any(axis=1)]).any()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (1.0, [2, 2, 2]),
        (0.8, [1, 2, 2]),
        (0.6, [1, 1, 2]),
        (0.4, [1, 0, 2]),
        (0.2, [0, 0, 2]),
    ],
)
def test_the_prior_prunes_the_least_sensitive_for_their_cost(
    target: float, expected: list[int]
) -> None:
    assert domain_with_prior().by_prior(target, np.zeros(3)).tolist() == expected


def test_a_tilt_of_the_prior_keeps_a_site() -> None:
    assert domain_with_prior().by_prior(0.6, np.array([5.0, 0.0, 0.0])).tolist() == [2, 0, 2]


def test_the_prior_passes_levels_of_equal_cost_at_once() -> None:
    """From dense to the lowest of three that cost alike, and never on one between."""
    cost = summed((np.array([0.0, 0.2, 0.2, 0.2, 0.4]),) * 2, fixed=0.2)
    sensitivity = np.array([0.9, 0.4, 0.3, 0.2, 0.0])
    space = Domain(
        top_levels=np.array([4, 4]),
        costs=(cost,),
        cost_floor=0.2,
        sensitivity_tables=(sensitivity, 2 * sensitivity),
    )
    plans = [space.by_prior(target, np.zeros(2)).tolist() for target in (1.0, 0.8, 0.6, 0.4, 0.2)]
    assert plans == [[4, 4], [3, 4], [3, 3], [0, 3], [0, 0]]


def test_steps_that_save_nothing_are_one_with_the_next_that_does() -> None:
    rates = step_rates(np.array([0.1, 0.2, 0.1, 0.3]), np.array([0.1, 0.0, 0.0, 0.1]))
    assert rates == pytest.approx([1.0, 6.0, 6.0, 6.0])
    # no cheaper than what must go before it, and never where nothing is saved any more
    rates = step_rates(np.array([0.5, 0.1, 0.1]), np.array([0.1, 0.1, 0.0]))
    assert rates == pytest.approx([5.0, 5.0, np.inf])
    assert step_rates(np.empty(0), np.empty(0)).shape == (0,)
