"""Linear stand-ins: a component gives what dropped ones after it added, as well as it can.

A linear map of what a component adds to the hidden states is folded into its output projection, so
that the model stays one of its class: other weights, no other shapes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.linalg import DAMPING, damped_factor
from search_spaces.pruned_weights.types import LinearWeights
from search_spaces.statistics import LayerStatistics
from search_spaces.structure.components import Component

_RAISES = 3
"""How often the damping is made ten times larger before the map is the identity."""


class StandIns:
    """Fits and folds the maps by which components stand in for those after them.

    With ``M`` what a component adds to the hidden states of each token, and ``D`` what the dropped
    ones after it added in the dense model, the map is ``T = I + (Mᵀ M + λ I)⁻¹ Mᵀ D``, which
    minimises ``‖M T − (M + D)‖² + λ ‖T − I‖²``; the output projection becomes ``Tᵀ W``.

    Args:
        components: Of the model.
        statistics: With ``component_output`` of the dense model.

    References:
        Shopkhoev et al., 2025, "ReplaceMe: Network Simplification via Depth Pruning and
        Transformer Block Linearization" (equation 5). Different here: runs of attentions and MLPs
        and not of layers alone, and damping that pulls towards the identity, at which what is
        dropped is just dropped, and not towards 0.
    """

    def __init__(self, components: Sequence[Component], statistics: LayerStatistics) -> None:
        self._components = components
        self._statistics = statistics

    def folded(self, position: int, count: int, linear: LinearWeights) -> LinearWeights:
        """Return an output projection that stands in for what comes after its component.

        Args:
            position: Of the component.
            count: Components after it that it stands in for.
            linear: Its output projection, in float32.
        """
        change, _ = self._fitted(position, count)
        transposed = change.T.to(linear.weight)  # of T − I, so that no digits are lost to I
        offset = linear.bias
        return LinearWeights(
            linear.weight + transposed @ linear.weight,
            None if offset is None else offset + transposed @ offset,
        )

    def missed(self, position: int) -> float:
        """Return the share of what a component adds that the one before it cannot stand in for.

        From 0 to 1, of the energy; adjusted for what any map would fit by chance.
        """
        return self._fitted(position - 1, 1)[1]

    def _fitted(self, position: int, count: int) -> tuple[Tensor, float]:
        """Return ``T − I`` ``(hidden, hidden)`` in float64, and the share of ``D`` it misses."""
        outputs = self._outputs(position)
        missing = sum(
            (self._outputs(position + ahead) for ahead in range(2, count + 1)),
            self._outputs(position + 1),
        )
        tokens, hidden = outputs.shape
        gram = (outputs.T @ outputs / tokens).double()
        cross = (outputs.T @ missing / tokens).double()
        factor = damped_factor(gram, DAMPING, float(gram.diagonal().mean()), raises=_RAISES)
        if factor is None:
            return torch.zeros_like(gram), 1.0
        change = torch.cholesky_solve(cross, factor.lower)
        energy = float(missing.square().sum(dtype=torch.float64)) / tokens
        explained = float((change * (2 * cross - gram @ change)).sum())
        by_chance = max(1.0 - hidden / tokens, 1 / tokens)
        missed = (1.0 - explained / energy) / by_chance if energy else 0.0
        return change, min(max(missed, 0.0), 1.0)

    def _outputs(self, position: int) -> Tensor:
        """Return what a component adds to the hidden states, ``(tokens, hidden)``."""
        component = self._components[position]
        return self._statistics.of(component.layer)["component_output", component.kind].float()
