"""Activation-weighted magnitude, summed over each unit's weights."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class Wanda:
    """A weight counts by its size times the size of what it multiplies.

    A unit's importance is the sum of squares over the weights through which it reaches the hidden
    states: the energy that it adds there. Squares keep a head of few large weights.

    References:
        Sun, Liu, Bair & Kolter, 2024, "A Simple and Effective Pruning Approach for Large
        Language Models" (equation 1: ``|W_ij| · ‖X_j‖``), here squared and summed over structures.
    """

    statistics: frozenset[StatisticName] = frozenset({"input_second_moment"})
    comparable = False

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        return component.output_energy(weights, statistics).squeeze(1)
