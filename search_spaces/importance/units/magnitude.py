"""The size of the weights, whatever their inputs."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class Magnitude:
    """A unit counts by the sum of its squared weights, ``Σ w²``, over all projections.

    References:
        Han, Pool, Tran & Dally, 2015, "Learning both Weights and Connections for Efficient Neural
        Networks" (weights); Fang, Ma, Song, Mi & Wang, 2023, "DepGraph: Towards Any Structural
        Pruning" (the norm of a group of coupled rows and columns).
    """

    statistics: frozenset[StatisticName] = frozenset()
    comparable = False

    def importance(
        self,
        component: Component,
        weights: Mapping[str, Tensor],
        statistics: Statistics,  # noqa: ARG002
    ) -> Tensor:
        squares = [
            p.summed(weights[p.path].square().sum(p.free_axis)) for p in component.projections
        ]
        return sum(squares[1:], start=squares[0])
