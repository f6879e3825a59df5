"""The change of NLL, to first order, where a unit's weights are removed one by one."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class Taylor:
    """A weight counts by its size times its gradient; a unit by all of its weights.

    Of LLM-Pruner's criteria it is that of single elements, to first order, summed over the
    group: ``Σ |w · ∂L/∂w|`` over the rows and columns of a unit in all projections, with the
    gradient of the mean over the windows.

    References:
        Ma, Fang & Wang, 2023, "LLM-Pruner: On the Structural Pruning of Large Language Models"
        (element-wise importance without its second-order term, and aggregation by sum).
    """

    statistics: frozenset[StatisticName] = frozenset({"gradient"})
    comparable = True  # all are nats

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        changes = []
        for projection in component.projections:
            weight = weights[projection.path]
            change = (weight * statistics["gradient", projection.path].to(weight)).abs()
            changes.append(projection.summed(change.sum(projection.free_axis)))
        return sum(changes[1:], start=changes[0])
