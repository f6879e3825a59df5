"""No criterion at all: the baseline that every importance must beat."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.importance.random_scores import random_scores
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class RandomOrder:
    """A unit counts by a random number, seeded by the name of its component: always the same."""

    statistics: frozenset[StatisticName] = frozenset()
    comparable = False

    def importance(
        self,
        component: Component,
        weights: Mapping[str, Tensor],
        statistics: Statistics,  # noqa: ARG002
    ) -> Tensor:
        scores = random_scores(component, component.unit_count)
        return scores.to(weights[component.projections[-1].path].device)
