"""No criterion at all: the baseline that every importance must beat."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.importance.experts.unrouted import ROUTED, unrouted_last
from search_spaces.importance.random_scores import random_scores
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class RandomExpertOrder:
    """A used expert counts by a random number, seeded by the name of its component."""

    statistics: frozenset[StatisticName] = ROUTED

    def importance(
        self,
        component: Component,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        scores = random_scores(component, component.member_count)
        return unrouted_last(component, scores, statistics)
