"""Sites that must be chosen together, because what they cost does not add up."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from planner.searchers.domain import Domain
from planner.searchers.protocol import Floats, Genomes


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Sites whose costs hang together; between groups costs add up."""

    sites: tuple[int, ...]
    levels: Genomes
    """Every choice of a level for each of these sites, ``(choices, sites)``."""
    savings: Floats
    """What each choice changes of each cost from the dense model on, ``(choices, costs)``."""


@lru_cache(maxsize=4)
def site_groups(domain: Domain) -> tuple[Group, ...]:
    """Part the sites of a domain into groups: each alone, but for those that share a pair."""
    return tuple(_group(domain, sites) for sites in _parted(domain))


def _parted(domain: Domain) -> list[tuple[int, ...]]:
    """The sites of each group, in the order of the first."""
    head = np.arange(len(domain.top_levels))
    for cost in domain.costs:
        for pair in cost.pairs:
            first, second = sorted((head[pair.width], head[pair.sparsity]))
            head[head == second] = first
    return [tuple(np.flatnonzero(head == first).tolist()) for first in np.unique(head)]


def _group(domain: Domain, sites: tuple[int, ...]) -> Group:
    levels = np.array(
        list(product(*(range(int(domain.top_levels[site]) + 1) for site in sites))), dtype=np.int_
    )
    genomes = np.tile(domain.top_levels, (len(levels), 1))
    genomes[:, sites] = levels
    savings = domain.prices(genomes) - domain.prices(domain.top_levels[None])
    return Group(sites=sites, levels=levels, savings=savings)
