"""How large a unit's activation is, whatever the output projection makes of it."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class Activation:
    """A unit counts by its mean activation at the input of the output projection.

    A channel by its mean size, ``mean |X_j|``; a head by its root mean square norm,
    ``√ mean Σ_j X_j²``, over the tokens. No weight counts.

    References:
        Muralidharan et al., 2024, "Compact Language Models via Pruning and Knowledge Distillation"
        (Minitron; the width criteria of MLPs and heads). There the mean over a batch is varied;
        over tokens, it is that of sizes and of norms.
    """

    statistics: frozenset[StatisticName] = frozenset({"input_magnitude", "input_second_moment"})
    comparable = False

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = component.projections[-1]
        weight = weights[output.path]
        if component.kind == "mlp":
            return output.summed(statistics["input_magnitude", output.path].to(weight))
        return output.summed(statistics["input_second_moment", output.path].to(weight)).sqrt()
