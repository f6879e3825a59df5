from dataclasses import replace

import numpy as np
import pytest

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats
from tests.problems.costs import joined
from tests.problems.toy_search import all_genomes, domain_of_two_costs, paired_domain


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
    assert (space.all_costs(found) <= np.array([0.6, 0.5]) + 1e-9).all()
    only_first = additive_best(space, sensitivities, [0.6, None])
    assert space.all_costs(only_first)[1] > 0.5


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
        assert (space.all_costs(genome) <= np.array(allowed) + 1e-9).all()
        return sum(float(own[level]) for own, level in zip(sensitivities, genome, strict=True))

    of_all = sensitivity()
    monkeypatch.setattr("planner.searchers.problem.additive._MOST_CHOICES", 0)
    assert sensitivity() == pytest.approx(of_all, rel=3e-4)
    monkeypatch.setattr(
        "planner.searchers.problem.additive._CORE_PER_OWNER", 1
    )  # too few: it has to grow
    assert sensitivity() == pytest.approx(of_all, rel=3e-4)
