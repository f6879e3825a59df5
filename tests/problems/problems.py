"""The toy models: four kinds of sites, ten in all, 57,600 genomes."""

from dataclasses import replace
from functools import cache

import numpy as np

from planner.searchers.problem.cost import Cost
from planner.searchers.protocol import Floats
from tests.problems.costs import summed
from tests.problems.model import ToyModel

TOPS = np.array([1, 3, 2, 4, 1, 3, 2, 4, 1, 1])
"""As if attention that is dropped or kept, or of a few groups, came before each MLP."""
_SENSITIVITY = np.array([0.50, 0.90, 0.06, 0.35, 0.12, 0.28, 0.02, 0.45, 0.30, 0.75])
_POWER = np.array([1.0, 2.0, 1.5, 1.2, 1.0, 2.5, 1.0, 1.6, 1.0, 1.3])
_SHARES = np.array([0.05, 0.12, 0.06, 0.12, 0.05, 0.12, 0.06, 0.12, 0.05, 0.12])
_OTHER_SHARES = np.array([0.14, 0.03, 0.14, 0.03, 0.14, 0.03, 0.14, 0.03, 0.14, 0.05])
_FIXED = 0.13
_CHEAPEST = 0.4


@cache
def additive() -> ToyModel:
    """Sensitivities that simply add up."""
    return ToyModel(
        top_levels=TOPS,
        sensitivity=_SENSITIVITY,
        power=_POWER,
        interactions=np.zeros((len(TOPS), len(TOPS))),
        costs=(_cost(_SHARES),),
        cheapest=_CHEAPEST,
    )


@cache
def pairwise() -> ToyModel:
    """Sites that interact: what looks free alone is not, or is so once another is lost.

    Pairs of sites are redundant: of each either is nearly free to lose, and both are
    dear. Neighbours lost together raise KL by more than the sum; two sites where the second has
    nothing to do once the first is lost do less.
    """
    interactions = np.zeros((len(TOPS), len(TOPS)))
    for first, second, strength in (
        (0, 4, 1.5),
        (1, 5, 2.0),
        (3, 7, 1.8),
        (2, 6, 0.9),
        (4, 8, 1.1),
        (5, 9, 1.2),
        (3, 4, 0.4),
        (7, 8, 0.5),
        (6, 7, -0.25),
    ):
        interactions[first, second] = strength
    return ToyModel(
        top_levels=TOPS,
        sensitivity=np.array([0.06, 0.10, 0.05, 0.09, 0.04, 0.08, 0.30, 0.30, 0.05, 0.12]),
        power=np.array([1.0, 1.4, 1.2, 1.3, 1.0, 1.5, 1.0, 1.0, 1.0, 1.3]),
        interactions=interactions,
        costs=(_cost(_SHARES),),
        cheapest=_CHEAPEST,
    )


@cache
def noisy() -> ToyModel:
    """The pairwise one, where some of the text predicts only roughly the KL on all of it."""
    return replace(pairwise(), noise=0.4)


@cache
def two_costs() -> ToyModel:
    """The pairwise one and a second cost, most of it in sites that hold least of the first."""
    return replace(pairwise(), costs=(_cost(_SHARES), _cost(_OTHER_SHARES)))


def _cost(shares: Floats) -> Cost:
    tables = tuple(s * np.arange(top + 1) / top for s, top in zip(shares, TOPS, strict=True))
    return summed(tables, fixed=_FIXED)
