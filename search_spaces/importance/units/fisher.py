"""The Fisher information of a mask on a unit."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class Fisher:
    """A unit counts by the mean over windows of its mask's squared gradient.

    ``1/N · Σ_n (∂L_n/∂m)²`` at a mask ``m`` of ones: the diagonal of the empirical Fisher matrix,
    twice what the loss rises by to second order where the unit is pruned.

    References:
        Kwon, Kim, Mahoney, Hassoun, Keutzer & Gholami, 2022, "A Fast Post-Training Pruning
        Framework for Transformers" (the diagonal approximation, by which masks are searched).
    """

    statistics: frozenset[StatisticName] = frozenset({"gate_fisher"})
    comparable = True

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = component.projections[-1].path
        return statistics["gate_fisher", output].to(weights[output].device)
