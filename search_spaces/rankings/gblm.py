"""Wanda's measure of a weight, and the size of its gradient beside it."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.rankings.units import by_unit
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock

ALPHA = 100.0
"""How much gradients count beside activations, as published."""


class GBLM:
    """A weight counts by its size times that of its input and of its gradient.

    ``|W_ij| · (‖X_j‖ + 100 · ‖G_ij‖)``, squared and added up over the weights through which a unit
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
        self, block: SubBlock, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = block.projections[-1]
        weight = weights[output.path]
        inputs = statistics["input_second_moment", output.path].to(weight).sqrt()  # (columns,)
        slopes = statistics["gradient_second_moment", output.path].to(weight).sqrt()
        return by_unit(output, (weight * (inputs + ALPHA * slopes)).square().sum(dim=0))
