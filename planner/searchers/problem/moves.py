"""How searchers make genomes: tilted over the sites, gathered for a start, mutated."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import as_genome

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

_WAVE_COUNT = 4
_EVEN_SHARE = 0.25
_MOST_TRANSFERS = 3
_REPAID_SHARE = 0.8
"""How often a transfer keeps the cost: in the others the cost moves too."""
_ALIKE = 1e-12
"""Costs that differ by so little are one."""


def site_kinds(domain: Domain) -> NDArray[np.int_]:
    """Number the kind of each site, ``(sites,)``: those that prune and cost alike are one."""
    spans = [[round(float(t[-1] - t[0]), 9) for t in cost.tables] for cost in domain.costs]
    names = np.unique(domain.kinds or [""] * len(domain.top_levels), return_inverse=True)[1]
    keys = np.stack([domain.top_levels, *spans, names], axis=1)
    _, kinds = np.unique(keys, axis=0, return_inverse=True)
    return np.asarray(kinds.ravel())


def uneven_tilt(domain: Domain, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a random tilt: smooth over depth, plus a weight for each kind of site, ``(sites,)``.

    A tilt is what sites keep beyond the common share. Sites are in order of depth; `site_kinds`
    numbers their kinds.
    """
    sites = len(domain.top_levels)
    depth = np.linspace(0.0, 1.0, sites)
    waves = np.arange(_WAVE_COUNT)
    # slow waves weigh more, as neighbours in depth tend to matter alike
    heights = rng.normal(size=_WAVE_COUNT) / (1.0 + waves)
    phases = rng.uniform(0.0, np.pi, size=_WAVE_COUNT)
    profile = heights @ np.cos(np.pi * np.outer(waves, depth) + phases[:, None])
    kinds = site_kinds(domain)
    weights = rng.normal(size=int(kinds.max()) + 1)[kinds]
    tilt: NDArray[np.float64] = rng.uniform(0.0, 0.5) * (profile + weights)
    return tilt


def starting_genomes(domain: Domain, count: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return dense, even and uneven genomes and the prior's, spread over the cost range.

    Returns:
        At most ``count`` distinct genomes, ``(genomes, sites)``, the dense one first.
    """
    genomes: dict[Genome, None] = {as_genome(domain.top_levels): None}
    even_count = max(1, round(_EVEN_SHARE * (count - 1)))
    for target in np.linspace(
        domain.cost_floor, domain.cost_ceiling, even_count, endpoint=domain.only_budget
    ):
        genomes.setdefault(as_genome(domain.even(float(target))))
    # the attempts are stratified over the cost range and bounded, for a small domain may lack
    # that many plans
    for attempt in range(4 * count):
        if len(genomes) >= count:
            break
        stratum = attempt % max(1, count - even_count - 1)
        share = (stratum + rng.random()) / max(1, count - even_count - 1)
        target = domain.cost_floor + (domain.cost_ceiling - domain.cost_floor) * share
        genomes.setdefault(as_genome(_uneven(domain, target, attempt, rng)))
    return np.array(list(genomes)[:count], dtype=np.int_)


def _uneven(
    domain: Domain, target: float, attempt: int, rng: np.random.Generator
) -> NDArray[np.int_]:
    """Return an uneven plan: by the prior where there is one, each second time varied."""
    if not domain.sensitivity_tables:
        return domain.tilted(target, uneven_tilt(domain, rng))
    tilt = uneven_tilt(domain, rng) if attempt % 2 else np.zeros(len(domain.top_levels))
    return domain.by_prior(target, tilt)


def mutate(
    domain: Domain, genomes: NDArray[np.int_], rng: np.random.Generator
) -> NDArray[np.int_]:
    """Mutate genomes by one to three transfers each.

    Args:
        domain: Levels and costs.
        genomes: ``(genomes, sites)``; left as they are.
        rng: Source of all chance.

    Returns:
        ``(genomes, sites)``.
    """
    mutants = genomes.copy()
    transfer_counts = rng.integers(1, _MOST_TRANSFERS + 1, size=len(mutants))
    for turn in range(_MOST_TRANSFERS):
        rows = np.flatnonzero(transfer_counts > turn)
        mutants[rows] = transfer(domain, mutants[rows], rng)
    return mutants


def transfer(
    domain: Domain, genomes: NDArray[np.int_], rng: np.random.Generator
) -> NDArray[np.int_]:
    """Change one site of each genome, and mostly repay its cost at another.

    One time in five nothing is repaid, so that the cost moves too.

    Args:
        domain: Levels and costs.
        genomes: ``(genomes, sites)``; left as they are.
        rng: Source of all chance.

    Returns:
        ``(genomes, sites)``.
    """
    count, sites = genomes.shape
    rows = np.arange(count)
    top = domain.top_levels
    first, second = rng.integers(sites, size=(2, count))
    steps = 1 + np.abs(rng.normal(0, top[first] / 4)).astype(np.int_)
    level = np.asarray(genomes[rows, first])
    up = (level == 0) | ((level < top[first]) & (rng.random(count) < 0.5))
    changed = genomes.copy()
    changed[rows, first] = np.clip(np.where(up, level + steps, level - steps), 0, top[first])
    owed = domain.cost(genomes) - domain.cost(changed)
    repaid = (rng.random(count) < _REPAID_SHARE) & (second != first)
    for row in rows[repaid]:
        site = int(second[row])
        table = domain.costs[0].along(site, changed[row])
        changed[row, site] = repaying_level(table, int(changed[row, site]), float(owed[row]))
    return changed


def repaying_level(table: NDArray[np.float64], level: int, owed: float) -> int:
    """Return the level whose cost comes nearest to repaying a debt, the highest of equals.

    Args:
        table: Cost of each level, ``(levels,)``.
        level: The site's level, which stays where no other comes nearer.
        owed: Change of cost that is due.

    >>> repaying_level(np.array([0.0, 0.2, 0.2, 0.4]), level=3, owed=-0.25)
    2
    """
    gaps = np.abs(table - (table[level] + owed))
    nearest = gaps.min()
    if gaps[level] <= nearest + _ALIKE:
        return level
    chosen = int(np.argmin(gaps))
    return int(np.flatnonzero(table <= table[chosen] + _ALIKE)[-1])
