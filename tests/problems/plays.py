"""Small problems, and searches played out on them without a loop."""

from collections.abc import Callable
from itertools import product

import numpy as np

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Answer, Ask, Floats, Genomes, Searcher
from tests.problems.costs import summed

Kl = Callable[[Genomes], Floats]


def play(searcher: Searcher, space: Domain, kl: Kl, most_rounds: int = 200) -> list[Genomes]:
    """Ask and tell until nothing is left to ask."""
    asked: list[Genomes] = []
    for _ in range(most_rounds):
        ask: Ask = searcher.ask()
        if not len(ask.genomes):
            return asked
        asked.append(ask.genomes)
        objectives = np.column_stack([kl(ask.genomes), space.all_costs(ask.genomes)])
        searcher.tell(ask, Answer(objectives=objectives, seen=np.ones(len(ask.genomes))))
    raise AssertionError("the searcher did not come to an end")


def best_within(asked: list[Genomes], space: Domain, kl: Kl, limit: float) -> Genomes:
    """The genome ``(sites,)`` of lowest KL that was asked and does not cost more."""
    genomes = np.concatenate(asked)
    within = genomes[space.cost(genomes) <= limit + 1e-9]
    return np.asarray(within[np.argmin(kl(within))])


def droppable(shares: list[float], floor: float, **budget: float | bool | None) -> Domain:
    """Sites that are kept or dropped as a whole, and what each costs."""
    limit, only = budget.get("limit"), bool(budget.get("only_budget", False))
    return Domain(
        top_levels=np.ones(len(shares), dtype=np.int_),
        costs=(
            summed(
                tuple(np.array([0.0, share]) for share in shares),
                fixed=1.0 - sum(shares),
                limit=limit,
            ),
        ),
        cost_floor=floor,
        only_budget=only,
    )


def layered(
    layers: int, floor: float, *, limit: float | None = None, width: int = 8, heads: int = 4
) -> Domain:
    """Attention and MLP of each layer in turn; an MLP costs thrice as much."""
    tops = np.array([heads, width] * layers)
    full = np.array([0.2, 0.6] * layers) / layers
    return Domain(
        top_levels=tops,
        costs=(
            summed(
                tuple(
                    share * np.arange(top + 1) / top for share, top in zip(full, tops, strict=True)
                ),
                fixed=0.2,
                limit=limit,
            ),
        ),
        cost_floor=floor,
        only_budget=limit is not None,
        kinds=("attention", "mlp") * layers,
    )


def quadratic(weights: Floats, space: Domain) -> Kl:
    """Additive, and KL rises faster the lower a level is."""

    def kl(genomes: Genomes) -> Floats:
        return np.asarray(((1 - genomes / space.top_levels) ** 2 @ weights), dtype=np.float64)

    return kl


def every_genome(space: Domain) -> Genomes:
    return np.array(list(product(*(range(top + 1) for top in space.top_levels))))


def two_costs(*, limits: tuple[float | None, float | None], only_budget: bool) -> Domain:
    """Four sites of two steps: the first two save the first cost, the last two the second."""
    half, none = np.array([0.0, 0.25, 0.5]), np.zeros(3)
    return Domain(
        top_levels=np.full(4, 2),
        costs=(
            summed((half, half, none, none), fixed=0.0, limit=limits[0]),
            summed((none, none, half, half), fixed=0.0, limit=limits[1]),
        ),
        cost_floor=0.5,
        only_budget=only_budget,
    )


def alternating_domain(sites: int = 12) -> Domain:
    """Sites of three and of eight steps in turn, which all cost the same."""
    tops = np.array([3, 8] * (sites // 2))
    steps = [np.full(top, 0.75 / sites / top) for top in tops]
    tables = tuple(np.concatenate([[0.0], np.cumsum(step)]) for step in steps)
    return Domain(top_levels=tops, costs=(summed(tables, fixed=0.25),), cost_floor=0.4)


def domain_with_prior() -> Domain:
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
