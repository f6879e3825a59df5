"""What each level of each site does to the model with all else dense."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Answer, Ask, Floats, Genomes, Text


def site_sensitivities(
    domain: Domain, text: Text, most_levels: int
) -> Generator[Ask, Answer, tuple[Floats, ...]]:
    """Measure the sensitivities of all sites, as cheaply as the text allows.

    Those of number formats come from one backward pass, all others from scores of single sites.

    Args:
        domain: Sites and levels.
        text: What plans are scored on.
        most_levels: As `single_sites` takes it.

    Yields:
        What to ask; the answers are sent back.

    Returns:
        For each site a table ``(levels,)``: KL with that level alone, not increasing, 0 at the
        top.
    """
    estimated = domain.in_formats if text.gradients else np.zeros_like(domain.in_formats)
    singles = single_sites(domain, most_levels, ~estimated)
    answer = yield Ask(genomes=singles, rungs=1, racing=False)
    tables = sensitivity_tables(domain, singles, answer.objectives[:, 0])
    if not estimated.any():
        return tables
    answer = yield Ask(genomes=domain.top_levels[None], gradients=True)
    if np.isfinite(answer.gradients[0]).all():
        others = tuple(map(_not_increasing, domain.by_site(answer.gradients[0])))
    else:  # such as in a format of too small a range: scores will do
        singles = single_sites(domain, most_levels, estimated)
        answer = yield Ask(genomes=singles, rungs=1, racing=False)
        others = sensitivity_tables(domain, singles, answer.objectives[:, 0])
    return tuple(
        other if is_estimated else table
        for table, other, is_estimated in zip(tables, others, estimated, strict=True)
    )


def single_sites(
    domain: Domain, most_levels: int, chosen: NDArray[np.bool_] | None = None
) -> Genomes:
    """Return the dense genome, and for each site some genomes that lower it alone.

    Args:
        domain: Sites and levels.
        most_levels: Levels scored of each site, the lowest one included; the others of a site that
            has more are interpolated. Those that cost as little as the lowest one come on top, for
            they are a choice of another kind.
        chosen: Which sites, ``(sites,)``; None: all.

    Returns:
        ``(genomes, sites)``, the dense one first, then site by site with ascending levels.
    """
    rows = [domain.top_levels]
    for site in range(len(domain.top_levels)) if chosen is None else np.flatnonzero(chosen):
        top = domain.top_levels[site]
        costs = domain.cost_tables[site]
        least = np.flatnonzero((costs == costs[0]) & (costs < costs[-1]))[1:]
        spread = np.linspace(0, top, min(top, most_levels), endpoint=False).round()
        for level in np.union1d(spread, least).astype(np.int_):
            row = domain.top_levels.copy()
            row[site] = level
            rows.append(row)
    return np.array(rows)


def sensitivity_tables(domain: Domain, genomes: Genomes, kls: Floats) -> tuple[Floats, ...]:
    """Turn the scores of a single-site pass into a sensitivity table for each site.

    Args:
        domain: Sites and levels.
        genomes: As `single_sites` returns them, ``(genomes, sites)``.
        kls: Their KL, ``(genomes,)``.

    Returns:
        For each site ``(levels,)``: KL with that level alone, not increasing, 0 at the top. Levels
        that were not scored lie between their neighbours where the domain's sensitivity prior, or
        else what they keep, lies between theirs: only its shape inside a site is used.
    """
    tables = []
    lowered = genomes != domain.top_levels
    for site, top in enumerate(domain.top_levels):
        rows = lowered[:, site]
        levels = np.append(genomes[rows, site], top)
        sensitivities = np.append(kls[rows], 0.0)
        order = np.argsort(-levels)
        places = _places(domain, site)
        table = np.interp(places, places[levels[order]], sensitivities[order])
        table[levels] = sensitivities  # of several at one place, too
        tables.append(_not_increasing(table))
    return tuple(tables)


def _not_increasing(table: Floats) -> Floats:
    """Take for noise what looks better for keeping less: a level holds all that those below do."""
    return np.asarray(np.maximum.accumulate(np.maximum(table, 0.0)[::-1])[::-1])


def _places(domain: Domain, site: int) -> Floats:
    """Place the levels of a site from 1 (nothing kept) to 0 (dense), ``(levels,)``."""
    top = int(domain.top_levels[site])
    prior = domain.sensitivity_tables[site] if domain.sensitivity_tables else np.zeros(top + 1)
    return prior / prior[0] if prior[0] > 0 else 1.0 - np.arange(top + 1) / top
