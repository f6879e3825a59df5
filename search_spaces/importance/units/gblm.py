"""Wanda's score of a weight, blended with the size of its gradient."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component

# The published 100 weighs gradients' norms over 128 windows against inputs' norms over the 2,048
# tokens of one; for root mean squares that is 100 · √(128 / 2048).
GRADIENT_WEIGHT = 25.0


class GBLM:
    """A weight counts by its size times that of its input and of its gradient.

    ``|W_ij| · (‖X_j‖ + a · ‖G_ij‖)``, squared and added up over the weights through which a unit
    reaches the hidden states, as in Wanda. Both norms are root mean squares here, over tokens and
    over windows, so that more text changes neither's share.

    References:
        Das, Sun, Ma & Shen, 2023, "Beyond Size: How Gradients Shape Pruning Decisions in Large
        Language Models" (the blend of gradients and activations), here squared and summed over
        structures.
    """

    statistics: frozenset[StatisticName] = frozenset(
        {"input_second_moment", "gradient_second_moment"}
    )
    comparable = False

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = component.projections[-1]
        weight = weights[output.path]
        inputs = statistics["input_second_moment", output.path].to(weight).sqrt()  # (columns,)
        slopes = statistics["gradient_second_moment", output.path].to(weight).sqrt()
        return output.summed((weight * (inputs + GRADIENT_WEIGHT * slopes)).square().sum(dim=0))
