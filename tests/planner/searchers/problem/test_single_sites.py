import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.single_sites import sensitivity_tables, single_sites
from tests.problems.costs import summed
from tests.problems.plays import every_genome


def space(*, prior: bool = False) -> Domain:
    tables = (np.linspace(0.0, 0.4, 5), np.array([0.0, 0.3]), np.linspace(0.0, 0.2, 3))
    sensitivities = (np.array([1.0, 0.5, 0.2, 0.1, 0.0]), np.array([3.0, 0.0]), np.zeros(3))
    return Domain(
        top_levels=np.array([4, 1, 2]),
        costs=(summed(tables, fixed=0.1),),
        cost_floor=0.1,
        sensitivity_tables=sensitivities if prior else (),
    )


def test_single_sites_are_lowered_one_by_one() -> None:
    found = single_sites(space(), 2).tolist()
    assert found == [[4, 1, 2], [0, 1, 2], [2, 1, 2], [4, 0, 2], [4, 1, 0], [4, 1, 1]]


def test_levels_that_cost_as_little_as_the_lowest_are_scored_too() -> None:
    costs = (np.array([0.0, 0.0, 0.1, 0.2, 0.3, 0.4]), np.zeros(4))
    domain = Domain(
        top_levels=np.array([5, 3]),
        costs=(summed(costs, fixed=0.6),),
        cost_floor=0.1,
        sensitivity_tables=(np.array([1.0, 1.0, 0.4, 0.2, 0.1, 0.0]), np.zeros(4)),
    )
    genomes = single_sites(domain, 1)
    assert genomes.tolist() == [[5, 3], [0, 3], [1, 3], [5, 0]]
    tables = sensitivity_tables(domain, genomes, np.array([0.0, 0.8, 0.5, 0.3]))
    assert tables[0] == pytest.approx([0.8, 0.5, 0.2, 0.1, 0.05, 0.0])


def test_levels_not_scored_lie_on_the_line_between_their_neighbours() -> None:
    genomes = single_sites(space(), 2)
    tables = sensitivity_tables(space(), genomes, np.array([0.0, 0.8, 0.2, 0.5, 0.3, 0.1]))
    assert tables[0] == pytest.approx([0.8, 0.5, 0.2, 0.1, 0.0])
    assert tables[1] == pytest.approx([0.5, 0.0])
    assert tables[2] == pytest.approx([0.3, 0.1, 0.0])


def test_the_prior_gives_the_shape_inside_a_site() -> None:
    genomes = single_sites(space(), 1)
    tables = sensitivity_tables(space(prior=True), genomes, np.array([0.0, 0.8, 0.5, 0.3]))
    assert tables[0] == pytest.approx([0.8, 0.4, 0.16, 0.08, 0.0])
    assert tables[2] == pytest.approx([0.3, 0.15, 0.0])  # no prior: by what is kept


def test_what_looks_better_for_keeping_less_is_noise() -> None:
    genomes = single_sites(space(), 2)
    tables = sensitivity_tables(space(), genomes, np.array([0.0, 0.1, 0.4, 0.5, -0.2, 0.1]))
    assert tables[0] == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.0])
    assert tables[2] == pytest.approx([0.1, 0.1, 0.0])


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 1.0), st.integers(0, 1000))
def test_the_additive_best_is_the_best_by_enumeration(limit: float, seed: int) -> None:
    domain, rng = space(), np.random.default_rng(seed)
    sensitivities = [np.sort(rng.exponential(size=top + 1))[::-1] for top in domain.top_levels]
    every = every_genome(domain)
    sensitivity = sum(table[every[:, site]] for site, table in enumerate(sensitivities))
    best = float(np.where(domain.cost(every) <= limit + 1e-9, sensitivity, np.inf).min())
    found = additive_best(domain, sensitivities, [limit])
    assert domain.cost(found[None])[0] <= limit + 1e-9
    got = sum(float(table[level]) for table, level in zip(sensitivities, found, strict=True))
    assert got <= best * (1 + 1e-3) + 1e-9


def test_where_nothing_fits_the_smallest_is_returned() -> None:
    sensitivities = [np.linspace(1.0, 0.0, top + 1) for top in space().top_levels]
    assert additive_best(space(), sensitivities, [0.05]).tolist() == [0, 0, 0]
