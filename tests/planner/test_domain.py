import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.searchers.domain import Cost, Domain
from planner.searchers.moves import starting_genomes, transferred, uneven_tilt
from planner.searchers.uniform import van_der_corput

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
    assert (histogram >= 3).all()


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
