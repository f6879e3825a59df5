"""How much a unit's output fluctuates: a bias can compensate for what is steady."""

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class FLAP:
    """A column counts by the variance of its input times its squared norm.

    The columns of a unit are added up, ``Σ_j Var(X_j) · ‖W_:j‖²`` (WIFV, weighted input feature
    variance), and the units of a component standardised to mean 0 and deviation 1, so that layers,
    and attentions and MLPs, compare. (The paper standardises columns and then takes a head's mean:
    the same order inside of a component.) Where all units are alike, each counts 0.

    References:
        An, Zhao, Yu, Tang & Wang, 2024, "Fluctuation-based Adaptive Structured Pruning for Large
        Language Models" (the metric, and its standardisation across layers).
    """

    statistics: frozenset[StatisticName] = frozenset({"input_mean", "input_second_moment"})
    comparable = True

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = component.projections[-1]
        weight = weights[output.path]
        mean = statistics["input_mean", output.path].to(weight).double()
        second = statistics["input_second_moment", output.path].to(weight).double()
        variance = (second - mean.square()).clamp(min=0)  # (columns,)
        unit_variance = output.summed(weight.double().square().sum(dim=0) * variance)
        centred = unit_variance - unit_variance.mean()
        deviation = centred.square().mean().sqrt()
        # units that are alike differ by rounding alone
        alike = deviation <= 1e-9 * unit_variance.abs().max()
        return torch.zeros_like(unit_variance) if alike else centred / deviation
