"""How searchers make genomes: tilted over the sites, gathered for a start, moved by transfers."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from search_spaces.space.space import Genome

_ATTEMPTS_PER_GENOME = 10
_WAVE_COUNT = 4
_UNIFORM_SHARE = 0.25
_NET_CHANGE_SHARE = 0.2
_STEP_SPREAD = 0.25
# a uniform plan of a cost lies up to one step below it
_FLOOR_SLACK = 0.9
# costs that differ by so little are one
_ALIKE = 1e-12


def as_genome(levels: NDArray[np.int_]) -> Genome:
    """A row of levels as the tuple that sets and stores hold."""
    return tuple(int(level) for level in levels)


def worth_a_look(genomes: NDArray[np.int_], domain: Domain) -> NDArray[np.bool_]:
    """Tell which genomes are not far below the lowest cost of interest, ``(genomes,)``."""
    return np.asarray(domain.cost(genomes) >= _FLOOR_SLACK * domain.cost_floor)


def draw_new(
    draw: Callable[[], NDArray[np.int_]], count: int, seen: set[Genome]
) -> NDArray[np.int_]:
    """Draw until ``count`` genomes are new, or none has been for long; add them to ``seen``.

    Returns:
        ``(genomes, sites)``, fewer than ``count`` where the domain runs out.
    """
    found: list[Genome] = []
    levels = draw()
    for _ in range(_ATTEMPTS_PER_GENOME * count):
        genome = as_genome(levels)
        if genome not in seen:
            seen.add(genome)
            found.append(genome)
        if len(found) == count:
            break
        levels = draw()
    return np.array(found, dtype=np.int_).reshape(-1, len(levels))


def site_kinds(domain: Domain) -> NDArray[np.int_]:
    """Number the kind of each site, ``(sites,)``: those that cut and cost alike are one."""
    spans = [[round(float(t[-1] - t[0]), 9) for t in cost.tables] for cost in domain.costs]
    names = np.unique(domain.kinds or [""] * len(domain.top_levels), return_inverse=True)[1]
    keys = np.stack([domain.top_levels, *spans, names], axis=1)
    _, kinds = np.unique(keys, axis=0, return_inverse=True)
    return np.asarray(kinds.ravel())


def uneven_tilt(domain: Domain, rng: np.random.Generator) -> NDArray[np.float64]:
    """What sites keep beyond the common share: smooth over depth, plus a weight for each kind.

    Sites are in order of depth; `site_kinds` tells their kinds.
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
    """The dense genome, uniform plans, guessed and uneven ones, spread over the cost range.

    Returns:
        At most ``count`` distinct genomes, ``(genomes, sites)``, the dense one first.
    """
    found: dict[Genome, None] = {as_genome(domain.top_levels): None}
    uniform_count = max(1, round(_UNIFORM_SHARE * (count - 1)))
    for target in np.linspace(
        domain.cost_floor, domain.cost_ceiling, uniform_count, endpoint=domain.only_budget
    ):
        found.setdefault(as_genome(domain.uniform(float(target))))
    # the attempts are stratified over the cost range and bounded, for a small domain may lack
    # that many plans
    for attempt in range(4 * count):
        if len(found) >= count:
            break
        stratum = attempt % max(1, count - uniform_count - 1)
        share = (stratum + rng.random()) / max(1, count - uniform_count - 1)
        target = domain.cost_floor + (domain.cost_ceiling - domain.cost_floor) * share
        found.setdefault(as_genome(_uneven(domain, target, attempt, rng)))
    return np.array(list(found)[:count], dtype=np.int_)


def _uneven(
    domain: Domain, target: float, attempt: int, rng: np.random.Generator
) -> NDArray[np.int_]:
    """A plan that cuts unevenly: by the guess where there is one, each second time varied."""
    if not domain.sensitivity_tables:
        return domain.tilted(target, uneven_tilt(domain, rng))
    tilt = uneven_tilt(domain, rng) if attempt % 2 else np.zeros(len(domain.top_levels))
    return domain.guessed(target, tilt)


def transferred(
    levels: NDArray[np.int_], domain: Domain, rng: np.random.Generator
) -> NDArray[np.int_]:
    """Move levels between sites: change one, then repay others until the cost is about back.

    One time in five nothing is repaid, so that the cost moves too.

    Args:
        levels: One genome, ``(sites,)``; left as it is.
        domain: Levels and costs.
        rng: Where chance comes from.
    """
    moved = levels.copy()
    first = int(rng.integers(len(levels)))
    top = int(domain.top_levels[first])
    step = 1 + int(abs(rng.normal(0.0, _STEP_SPREAD)) * top)
    direction = 1 if rng.random() < 0.5 else -1
    if not 0 <= moved[first] + direction <= top:
        direction = -direction
    moved[first] = np.clip(moved[first] + direction * step, 0, top)
    if rng.random() < _NET_CHANGE_SHARE:
        return moved
    cost = domain.costs[0]
    table = cost.along(first, moved)
    owed = float(table[levels[first]] - table[moved[first]])
    for site in rng.permutation(len(levels)):
        if site != first:
            table = cost.along(int(site), moved)
            before, moved[site] = moved[site], repaying(table, int(moved[site]), owed)
            owed -= float(table[moved[site]] - table[before])
    return moved


def repaying(table: NDArray[np.float64], level: int, owed: float) -> int:
    """Give the level that comes nearest to repaying a debt, of those that cost alike the highest.

    Args:
        table: Cost of each level, ``(levels,)``.
        level: Where the site stands, and stays where no other level comes nearer.
        owed: Change of cost that is wanted.
    """
    gaps = np.abs(table - (table[level] + owed))
    nearest = gaps.min()
    if gaps[level] <= nearest + _ALIKE:
        return level
    chosen = int(np.argmin(gaps))
    return int(np.flatnonzero(table <= table[chosen] + _ALIKE)[-1])
