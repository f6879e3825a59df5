import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.searchers.problem.moves import repaying_level, starting_genomes, transfer
from tests.problems.plays import alternating_domain, domain_with_prior
from tests.problems.toy_search import paired_domain

seeds = st.integers(0, 10_000)


@settings(max_examples=20)
@given(seeds)
def test_a_start_is_distinct_dense_first_and_spread_over_the_range(seed: int) -> None:
    space = alternating_domain()
    genomes = starting_genomes(space, 32, np.random.default_rng(seed))
    assert (genomes[0] == space.top_levels).all()
    assert len(np.unique(genomes, axis=0)) == len(genomes) == 32
    costs = space.cost(genomes)
    histogram, _ = np.histogram(costs, bins=[0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01])
    assert (histogram >= 2).all()


def test_a_start_with_a_prior_holds_the_plans_by_it() -> None:
    genomes = starting_genomes(domain_with_prior(), 12, np.random.default_rng(0)).tolist()
    assert [1, 1, 2] in genomes
    assert [1, 2, 2] in genomes


@given(seeds)
def test_a_transfer_moves_levels_and_mostly_keeps_the_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = alternating_domain()
    before = np.tile(space.uniform(0.7), (100, 1))
    unchanged = before.copy()
    after = transfer(space, before, rng)
    assert (before == unchanged).all()
    assert ((after >= 0) & (after <= space.top_levels)).all()
    finest_step = min(float(np.diff(table).min()) for table in space.cost_tables)
    changes = np.abs(space.cost(after) - space.cost(before))
    assert (changes <= finest_step).sum() >= 50
    assert (changes > 1e-9).sum() >= 4


@given(seeds)
def test_a_transfer_between_pairs_mostly_keeps_the_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = paired_domain()
    before = np.tile(rng.integers(1, 3, size=8), (40, 1))
    after = transfer(space, before, rng)
    assert ((after >= 0) & (after <= 3)).all()
    assert np.median(np.abs(space.cost(after) - space.cost(before))) <= 0.04


def test_a_debt_is_repaid_by_the_nearest_level_and_the_highest_of_equals() -> None:
    table = np.array([0.0, 0.2, 0.2, 0.2, 0.4])
    assert repaying_level(table, 4, -0.2) == 3
    assert repaying_level(table, 0, 0.25) == 3
    assert repaying_level(table, 1, 0.05) == 1
    assert repaying_level(table, 2, 0.0) == 2
