from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.searchers.baselines.uniform import van_der_corput
from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain, step_rates
from planner.searchers.problem.moves import (
    repaying_level,
    starting_genomes,
    transfer,
    uneven_tilt,
)
from planner.searchers.protocol import Floats
from tests.problems.costs import joined, summed, thinned
from tests.problems.toy_search import all_genomes, domain_of_two_costs, paired_domain

seeds = st.integers(0, 10_000)


def domain(sites: int = 12) -> Domain:
    tops = np.array([3, 8] * (sites // 2))
    steps = [np.full(top, 0.75 / sites / top) for top in tops]
    tables = tuple(np.concatenate([[0.0], np.cumsum(step)]) for step in steps)
    return Domain(top_levels=tops, costs=(summed(tables, fixed=0.25),), cost_floor=0.4)


def test_costs_add_up_by_hand() -> None:
    small = Domain(
        top_levels=np.array([2, 1]),
        costs=(summed((np.array([0.0, 0.1, 0.4]), np.array([0.05, 0.35])), fixed=0.25),),
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
    before = np.tile(space.uniform(0.7), (100, 1))
    unchanged = before.copy()
    after = transfer(space, before, rng)
    assert (before == unchanged).all()
    assert ((after >= 0) & (after <= space.top_levels)).all()
    finest_step = min(float(np.diff(table).min()) for table in space.cost_tables)
    changes = np.abs(space.cost(after) - space.cost(before))
    assert (changes <= finest_step).sum() >= 50
    assert (changes > 1e-9).sum() >= 4


def test_the_van_der_corput_sequence() -> None:
    assert [van_der_corput(i) for i in range(1, 8)] == [
        1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8,
    ]  # fmt: skip


def with_prior() -> Domain:
    """Three sites of two steps; sensitivity for each cost is 1, 4; 2, 3; and nothing saved."""
    return Domain(
        top_levels=np.array([2, 2, 2]),
        costs=(
            summed(
                (
                    np.array([0.0, 0.2, 0.4]),
                    np.array([0.0, 0.2, 0.4]),
                    np.array([0.0, 0.0, 0.0]),
                ),
                fixed=0.2,
            ),
        ),
        cost_floor=0.2,
        sensitivity_tables=(
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
def test_the_prior_prunes_the_least_sensitive_for_their_cost(
    target: float, expected: list[int]
) -> None:
    assert with_prior().by_prior(target, np.zeros(3)).tolist() == expected


def test_a_tilt_of_the_prior_keeps_a_site() -> None:
    assert with_prior().by_prior(0.6, np.array([5.0, 0.0, 0.0])).tolist() == [2, 0, 2]


def test_a_start_with_a_prior_holds_the_plans_by_it() -> None:
    genomes = starting_genomes(with_prior(), 12, np.random.default_rng(0)).tolist()
    assert [1, 1, 2] in genomes
    assert [1, 2, 2] in genomes


def sparse() -> Domain:
    """A layer that is kept or dropped, an MLP of two steps, and the sparsity of both.

    Sparsity can save half the layer's cost, 0.4, and all of the MLP's, 0.3.
    """
    layer = thinned(np.array([0.0, 0.4]), np.array([-0.2, -0.1, 0.0]), np.array([0.0, 1.0]))
    mlp = thinned(
        np.array([0.0, 0.1, 0.3]),
        np.array([-0.3, -0.15, -0.15, 0.0]),
        np.array([0.0, 1 / 3, 1.0]),
    )
    cost = joined(((0, 1), layer), ((2, 3), mlp), fixed=0.3)
    return Domain(top_levels=np.array([1, 2, 2, 3]), costs=(cost,), cost_floor=0.4)


def test_what_sparsity_saves_shrinks_with_the_width_by_hand() -> None:
    genomes = np.array(
        [[1, 2, 2, 3], [1, 0, 2, 3], [0, 0, 2, 3], [1, 2, 2, 0], [1, 2, 1, 0], [1, 2, 1, 1],
         [1, 2, 0, 0], [0, 1, 0, 1], [1, 1, 1, 2]]
    )  # fmt: skip
    by_hand = [1.0, 0.8, 0.6, 0.7, 0.7, 0.75, 0.7, 0.3, 0.65]
    assert sparse().cost(genomes) == pytest.approx(by_hand)
    assert float(sparse().cost(genomes[-1])) == pytest.approx(0.65)
    # some of each genome, in any shape
    assert sparse().cost(genomes.reshape(3, 3, 4)).shape == (3, 3)


def test_a_table_along_a_site_has_the_differences_of_whole_genomes() -> None:
    space, rng = sparse(), np.random.default_rng(0)
    for genome in rng.integers(0, space.top_levels + 1, size=(40, 4)):
        for site, top in enumerate(space.top_levels):
            rows = np.tile(genome, (top + 1, 1))
            rows[:, site] = np.arange(top + 1)
            along = space.costs[0].along(site, genome)
            assert along - along[0] == pytest.approx(space.cost(rows) - space.cost(rows[0]))


def test_tables_are_those_with_all_else_dense() -> None:
    (cost,) = sparse().costs
    by_hand = [[0.0, 0.4], [0.2, 0.3, 0.4], [0.0, 0.1, 0.3], [0.0, 0.15, 0.15, 0.3]]
    for table, wanted in zip(cost.tables, by_hand, strict=True):
        assert table == pytest.approx(wanted)


def test_a_joint_may_have_any_sites_in_any_order() -> None:
    """A layer with the weights of its attention and of its MLP, and others between these."""
    table = np.zeros((2, 2, 2))
    table[1] = 0.8 - np.array([[0.4, 0.1], [0.3, 0.0]])
    cost = joined(
        ((0, 2, 4), table), ((3,), np.array([0.0, 0.05])), ((1,), np.zeros(2)), fixed=0.2
    )
    space = Domain(top_levels=np.ones(5, dtype=np.int_), costs=(cost,), cost_floor=0.2)
    genomes = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]])
    assert space.cost(genomes) == pytest.approx([0.6, 0.25, 0.2, 0.9])
    assert space.cost(genomes.reshape(2, 2, 5)).shape == (2, 2)
    assert cost.along(0, np.array([1, 0, 0, 0, 1])) == pytest.approx([0.0, 0.7])
    assert cost.along(4, np.array([1, 0, 0, 0, 0])) == pytest.approx([0.4, 0.7])
    assert cost.along(3, np.zeros(5, dtype=np.int_)) == pytest.approx([0.0, 0.05])


def test_each_site_is_in_one_joint_and_all_costs_part_them_alike() -> None:
    one, two = np.zeros(2), np.zeros((2, 2))
    for tables in ([((0, 1), two), ((1,), one)], [((0,), one), ((2,), one)], [((0, 1), one)]):
        with pytest.raises(AssertionError):
            joined(*tables, fixed=1.0)
    costs = joined(((0, 1), two), fixed=1.0), summed((one, one), fixed=1.0)
    with pytest.raises(AssertionError):
        Domain(top_levels=np.ones(2, dtype=np.int_), costs=costs, cost_floor=0.2)


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


@pytest.mark.parametrize("limit", [0.2, 0.35, 0.5, 0.62, 0.81, 1.0])
def test_the_additive_best_of_pairs_is_what_enumeration_finds(limit: float) -> None:
    space, rng = paired_domain(), np.random.default_rng(3)
    sensitivities = [np.sort(rng.random(4))[::-1] - 0.0 for _ in range(8)]
    genomes = all_genomes()
    total = np.sum(
        [
            sensitivity[levels]
            for sensitivity, levels in zip(sensitivities, genomes.T, strict=True)
        ],
        axis=0,
    )
    found = additive_best(space, sensitivities, [limit])
    assert space.cost(found) <= limit + 1e-9
    own = sum(
        float(sensitivity[level]) for sensitivity, level in zip(sensitivities, found, strict=True)
    )
    assert own == pytest.approx(total[space.cost(genomes) <= limit + 1e-9].min(), rel=2e-4)


def test_the_additive_best_of_pairs_keeps_a_cost_that_adds_up() -> None:
    """Zeros make no request faster: the other cost knows of none."""
    paired = paired_domain()
    tables = domain_of_two_costs().cost_tables
    sums = (((s, s + 1), np.add.outer(tables[s], tables[s + 1])) for s in range(0, 8, 2))
    space = replace(paired, costs=(*paired.costs, joined(*sums, fixed=0.2)))
    sensitivities = [np.array([0.9, 0.5, 0.2, 0.0]) * (1 + site) for site in range(8)]
    found = additive_best(space, sensitivities, [0.6, 0.5])
    assert (space.prices(found) <= np.array([0.6, 0.5]) + 1e-9).all()
    only_first = additive_best(space, sensitivities, [0.6, None])
    assert space.prices(only_first)[1] > 0.5


def experts(layers: int, shape: tuple[int, ...]) -> tuple[Domain, list[Floats]]:
    """Layers of experts kept, channels in each and experts that run, and all sensitivities.

    The first cost counts what is kept, the second what runs.
    """
    rng = np.random.default_rng(5)
    kept, channels, run = np.meshgrid(*(np.arange(n) / (n - 1) for n in shape), indexing="ij")
    stored = kept * (1 + 3 * channels) / 4 / layers
    moved = np.where(kept > 0, (1 + 3 * channels) / 4 * (1 + run) / 2, 0.0) / layers
    sites = [tuple(range(start, start + 3)) for start in range(0, 3 * layers, 3)]
    costs = tuple(
        joined(*((place, 0.9 * table) for place in sites), fixed=0.1) for table in (stored, moved)
    )
    tops = np.array(shape * layers) - 1
    sensitivities = [np.sort(rng.random(top + 1))[::-1] ** 2 for top in tops]
    return Domain(top_levels=tops, costs=costs, cost_floor=0.1), [h - h[-1] for h in sensitivities]


@pytest.mark.parametrize(
    "limits", [(0.5, None), (0.5, 0.6), (None, 0.3), (None, None), (0.05, None)]
)
def test_the_additive_best_of_many_choices_is_what_all_of_them_give(
    limits: tuple[float | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core of them is solved, and the gap to the relaxation proves that it is enough."""
    space, sensitivities = experts(4, (17, 8, 4))

    def sensitivity() -> float:
        genome = additive_best(space, sensitivities, limits)
        allowed = [np.inf if limit is None else max(limit, 0.1) for limit in limits]
        assert (space.prices(genome) <= np.array(allowed) + 1e-9).all()
        return sum(float(own[level]) for own, level in zip(sensitivities, genome, strict=True))

    of_all = sensitivity()
    monkeypatch.setattr("planner.searchers.problem.additive._MOST_CHOICES", 0)
    assert sensitivity() == pytest.approx(of_all, rel=3e-4)
    monkeypatch.setattr(
        "planner.searchers.problem.additive._CORE_PER_OWNER", 1
    )  # too few: it has to grow
    assert sensitivity() == pytest.approx(of_all, rel=3e-4)


def test_steps_that_save_nothing_are_one_with_the_next_that_does() -> None:
    rates = step_rates(np.array([0.1, 0.2, 0.1, 0.3]), np.array([0.1, 0.0, 0.0, 0.1]))
    assert rates == pytest.approx([1.0, 6.0, 6.0, 6.0])
    # no cheaper than what must go before it, and never where nothing is saved any more
    rates = step_rates(np.array([0.5, 0.1, 0.1]), np.array([0.1, 0.1, 0.0]))
    assert rates == pytest.approx([5.0, 5.0, np.inf])
    assert step_rates(np.empty(0), np.empty(0)).shape == (0,)


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


def test_a_debt_is_repaid_by_the_nearest_level_and_the_highest_of_equals() -> None:
    table = np.array([0.0, 0.2, 0.2, 0.2, 0.4])
    assert repaying_level(table, 4, -0.2) == 3
    assert repaying_level(table, 0, 0.25) == 3
    assert repaying_level(table, 1, 0.05) == 1
    assert repaying_level(table, 2, 0.0) == 2


@given(seeds)
def test_a_transfer_between_pairs_mostly_keeps_the_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = paired_domain()
    before = np.tile(rng.integers(1, 3, size=8), (40, 1))
    after = transfer(space, before, rng)
    assert ((after >= 0) & (after <= 3)).all()
    assert np.median(np.abs(space.cost(after) - space.cost(before))) <= 0.04
