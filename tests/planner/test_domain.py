from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.searchers.additive import additive_best
from planner.searchers.domain import Cost, Domain, Pair, step_rates
from planner.searchers.groups import site_groups
from planner.searchers.moves import repaying, starting_genomes, transferred, uneven_tilt
from planner.searchers.uniform import van_der_corput
from tests.planner.toy_search import all_genomes, domain_of_two_costs, paired_domain

seeds = st.integers(0, 10_000)


def domain(sites: int = 12) -> Domain:
    tops = np.array([3, 8] * (sites // 2))
    steps = [np.full(top, 0.75 / sites / top) for top in tops]
    tables = tuple(np.concatenate([[0.0], np.cumsum(step)]) for step in steps)
    return Domain(top_levels=tops, costs=(Cost(tables=tables, fixed=0.25),), cost_floor=0.4)


def test_costs_add_up_by_hand() -> None:
    small = Domain(
        top_levels=np.array([2, 1]),
        costs=(Cost(tables=(np.array([0.0, 0.1, 0.4]), np.array([0.05, 0.35])), fixed=0.25),),
        cost_floor=0.3,
    )
    genomes = np.array([[2, 1], [0, 0], [1, 1]])
    assert small.cost(genomes) == pytest.approx([1.0, 0.3, 0.7])
    assert small.cost(genomes[1]) == pytest.approx(0.3)


def test_uniform_plans_run_from_nothing_to_dense() -> None:
    assert (domain().uniform(1.0) == domain().top_levels).all()
    assert (domain().uniform(0.25) == 0).all()
    assert (domain().uniform(0.0) == 0).all()


@given(st.floats(0.25, 1.0))
def test_a_uniform_plan_keeps_the_same_share_everywhere_within_its_cost(target: float) -> None:
    space = domain()
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
    space = domain()
    tilt = uneven_tilt(space, np.random.default_rng(seed))
    genome = space.tilted(target, tilt)
    assert (genome >= 0).all()
    assert (genome <= space.top_levels).all()
    assert float(space.cost(genome)) <= target + 1e-11


def test_a_tilt_favours_the_sites_it_raises() -> None:
    space = domain()
    tilt = np.where(np.arange(12) < 6, 0.4, -0.4)
    shares = space.tilted(0.6, tilt) / space.top_levels
    assert shares[:6].min() > shares[6:].max()


@settings(max_examples=20)
@given(seeds)
def test_a_start_is_distinct_dense_first_and_spread_over_the_range(seed: int) -> None:
    space = domain()
    genomes = starting_genomes(space, 32, np.random.default_rng(seed))
    assert (genomes[0] == space.top_levels).all()
    assert len(np.unique(genomes, axis=0)) == len(genomes) == 32
    costs = space.cost(genomes)
    histogram, _ = np.histogram(costs, bins=[0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01])
    assert (histogram >= 2).all()


@given(seeds)
def test_a_transfer_moves_levels_and_mostly_keeps_the_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = domain()
    before = space.uniform(0.7)
    kept = before.copy()
    after = [transferred(before, space, rng) for _ in range(50)]
    assert (before == kept).all()
    assert all((genome >= 0).all() and (genome <= space.top_levels).all() for genome in after)
    finest_step = min(float(np.diff(table).min()) for table in space.cost_tables)
    changes = [abs(float(space.cost(genome) - space.cost(before))) for genome in after]
    assert sum(change <= finest_step for change in changes) >= 25
    assert sum(change > 1e-9 for change in changes) >= 2


def test_the_van_der_corput_sequence() -> None:
    assert [van_der_corput(i) for i in range(1, 8)] == [
        1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8,
    ]  # fmt: skip


def guessing() -> Domain:
    """Three sites of two steps; by hand: harm for each cost is 1, 4; 2, 3; and nothing saved."""
    return Domain(
        top_levels=np.array([2, 2, 2]),
        costs=(
            Cost(
                tables=(
                    np.array([0.0, 0.2, 0.4]),
                    np.array([0.0, 0.2, 0.4]),
                    np.array([0.0, 0.0, 0.0]),
                ),
                fixed=0.2,
            ),
        ),
        cost_floor=0.2,
        harm_tables=(
            np.array([1.0, 0.2, 0.0]),
            np.array([1.0, 0.4, 0.0]),
            np.array([0.2, 0.1, 0.0]),
        ),
    )


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
def test_the_guess_drops_the_least_harm_for_its_cost(target: float, expected: list[int]) -> None:
    assert guessing().guessed(target, np.zeros(3)).tolist() == expected


def test_a_tilt_of_the_guess_saves_a_site() -> None:
    assert guessing().guessed(0.6, np.array([5.0, 0.0, 0.0])).tolist() == [2, 0, 2]


def test_a_start_with_a_guess_holds_the_guessed_plans() -> None:
    genomes = starting_genomes(guessing(), 12, np.random.default_rng(0)).tolist()
    assert [1, 1, 2] in genomes
    assert [1, 2, 2] in genomes


def thinned() -> Domain:
    """A layer that stays or goes, an MLP of two steps, and the sparsity of each one's weights.

    Half the layer's cost, 0.4, can be thinned out of it, and all of the MLP's, 0.3.
    """
    cost = Cost(
        tables=(
            np.array([0.0, 0.4]),
            np.array([-0.2, -0.1, 0.0]),
            np.array([0.0, 0.1, 0.3]),
            np.array([-0.3, -0.15, -0.15, 0.0]),
        ),
        fixed=0.3,
        pairs=(
            Pair(width=0, sparsity=1, shares=np.array([0.0, 1.0])),
            Pair(width=2, sparsity=3, shares=np.array([0.0, 1 / 3, 1.0])),
        ),
    )
    return Domain(top_levels=np.array([1, 2, 2, 3]), costs=(cost,), cost_floor=0.4)


def test_what_sparsity_saves_shrinks_with_the_width_by_hand() -> None:
    genomes = np.array(
        [[1, 2, 2, 3], [1, 0, 2, 3], [0, 0, 2, 3], [1, 2, 2, 0], [1, 2, 1, 0], [1, 2, 1, 1],
         [1, 2, 0, 0], [0, 1, 0, 1], [1, 1, 1, 2]]
    )  # fmt: skip
    by_hand = [1.0, 0.8, 0.6, 0.7, 0.7, 0.75, 0.7, 0.3, 0.65]
    assert thinned().cost(genomes) == pytest.approx(by_hand)
    assert float(thinned().cost(genomes[-1])) == pytest.approx(0.65)
    # some of each genome, in any shape
    assert thinned().cost(genomes.reshape(3, 3, 4)).shape == (3, 3)


def test_a_table_along_a_site_has_the_differences_of_whole_genomes() -> None:
    space, rng = thinned(), np.random.default_rng(0)
    for genome in rng.integers(0, space.top_levels + 1, size=(40, 4)):
        for site, top in enumerate(space.top_levels):
            rows = np.tile(genome, (top + 1, 1))
            rows[:, site] = np.arange(top + 1)
            along = space.costs[0].along(site, genome)
            assert along - along[0] == pytest.approx(space.cost(rows) - space.cost(rows[0]))


def test_one_width_may_have_two_sparsities() -> None:
    """A layer with the weights of its attention and of its MLP."""
    cost = Cost(
        tables=(np.array([0.0, 0.8]), np.array([-0.1, 0.0]), np.array([-0.3, 0.0])),
        fixed=0.2,
        pairs=tuple(Pair(width=0, sparsity=s, shares=np.array([0.0, 1.0])) for s in (1, 2)),
    )
    space = Domain(top_levels=np.ones(3, dtype=np.int_), costs=(cost,), cost_floor=0.2)
    genomes = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert space.cost(genomes) == pytest.approx([0.6, 0.2, 0.2, 0.9])
    assert cost.along(0, np.array([1, 0, 0])) == pytest.approx([0.4, 0.8])
    (group,) = site_groups(space)
    assert group.sites == (0, 1, 2)
    assert len(group.levels) == 8


@given(seeds, st.floats(0.15, 1.0))
def test_no_plan_of_pairs_passes_its_cost_and_the_next_step_would(
    seed: int, target: float
) -> None:
    space = paired_domain()
    tilt = uneven_tilt(space, np.random.default_rng(seed))
    guess = replace(space, harm_tables=(np.array([1.0, 0.5, 0.3, 0.0]),) * 8)
    plans = [space.uniform(target), space.tilted(target, tilt), guess.guessed(target, tilt)]
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


@pytest.mark.parametrize("limit", [0.2, 0.35, 0.5, 0.62, 0.81, 1.0])
def test_the_additive_best_of_pairs_is_what_enumeration_finds(limit: float) -> None:
    space, rng = paired_domain(), np.random.default_rng(3)
    harms = [np.sort(rng.random(4))[::-1] - 0.0 for _ in range(8)]
    genomes = all_genomes()
    total = np.sum([harm[levels] for harm, levels in zip(harms, genomes.T, strict=True)], axis=0)
    found = additive_best(space, harms, [limit])
    assert space.cost(found) <= limit + 1e-9
    own = sum(float(harm[level]) for harm, level in zip(harms, found, strict=True))
    assert own == pytest.approx(total[space.cost(genomes) <= limit + 1e-9].min(), rel=2e-4)


def test_the_additive_best_of_pairs_keeps_a_cost_that_does_not_pair() -> None:
    """Zeros make no request faster: the other cost knows of no pair."""
    paired = paired_domain()
    plain = domain_of_two_costs().costs[1]
    space = replace(paired, costs=(*paired.costs, plain))
    harms = [np.array([0.9, 0.5, 0.2, 0.0]) * (1 + site) for site in range(8)]
    found = additive_best(space, harms, [0.6, 0.5])
    assert (space.prices(found) <= np.array([0.6, 0.5]) + 1e-9).all()
    only_first = additive_best(space, harms, [0.6, None])
    assert space.prices(only_first)[1] > 0.5


def test_steps_that_save_nothing_are_one_with_the_next_that_does() -> None:
    rates = step_rates(np.array([0.1, 0.2, 0.1, 0.3]), np.array([0.1, 0.0, 0.0, 0.1]))
    assert rates == pytest.approx([1.0, 6.0, 6.0, 6.0])
    # no cheaper than what must go before it, and never where nothing is saved any more
    rates = step_rates(np.array([0.5, 0.1, 0.1]), np.array([0.1, 0.1, 0.0]))
    assert rates == pytest.approx([5.0, 5.0, np.inf])
    assert step_rates(np.empty(0), np.empty(0)).shape == (0,)


def test_the_guess_passes_levels_of_equal_cost_at_once() -> None:
    """From dense to the lowest of three that cost alike, and never on one between."""
    cost = Cost(tables=(np.array([0.0, 0.2, 0.2, 0.2, 0.4]),) * 2, fixed=0.2)
    harm = np.array([0.9, 0.4, 0.3, 0.2, 0.0])
    space = Domain(
        top_levels=np.array([4, 4]), costs=(cost,), cost_floor=0.2, harm_tables=(harm, 2 * harm)
    )
    plans = [space.guessed(target, np.zeros(2)).tolist() for target in (1.0, 0.8, 0.6, 0.4, 0.2)]
    assert plans == [[4, 4], [3, 4], [3, 3], [0, 3], [0, 0]]


def test_a_debt_is_repaid_by_the_nearest_level_and_the_highest_of_equals() -> None:
    table = np.array([0.0, 0.2, 0.2, 0.2, 0.4])
    assert repaying(table, 4, -0.2) == 3
    assert repaying(table, 0, 0.25) == 3
    assert repaying(table, 1, 0.05) == 1
    assert repaying(table, 2, 0.0) == 2


@given(seeds)
def test_a_transfer_between_pairs_mostly_keeps_the_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = paired_domain()
    before = rng.integers(1, 3, size=8)
    after = np.array([transferred(before, space, rng) for _ in range(40)])
    assert ((after >= 0) & (after <= 3)).all()
    assert np.median(np.abs(space.cost(after) - space.cost(before))) <= 0.04
