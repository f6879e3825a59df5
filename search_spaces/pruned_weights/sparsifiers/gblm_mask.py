"""GBLM-Pruner: zeros where the product of weight and input, and the gradient, are small."""

from torch import Tensor

from search_spaces.pruned_weights.sparsifiers.masks import zeros_by_row
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName

# The published 100 weighs gradients' norms over 128 windows against inputs' norms over the 2,048
# tokens of one; for roots of means that is 100 · √(128 / 2048).
_GRADIENT_WEIGHT = 25.0


class GblmPruner:
    """A weight counts by its size times its input's and gradient's, within each output.

    ``|W_ij| · (‖X_j‖ + a ‖G_ij‖)``: the norms of the inputs over the tokens and of the gradients
    of NLL over the windows, here as root mean squares.

    Args:
        gradient_weight: ``a``, for root mean squares.

    References:
        Das, Sun, Ma & Shen, 2023, "Beyond Size: How Gradients Shape Pruning Decisions in Large
        Language Models" (section 3; GBLM-Pruner with the l2 norm, a = 100).
    """

    statistics: frozenset[StatisticName] = frozenset(
        {"input_second_moment", "gradient_second_moment"}
    )

    def __init__(self, gradient_weight: float = _GRADIENT_WEIGHT) -> None:
        self._gradient_weight = gradient_weight

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        inputs = statistics["input_second_moment"].sqrt()  # (columns,)
        gradients = statistics["gradient_second_moment"].sqrt()  # (rows, columns)
        scores = weight.abs() * (inputs + self._gradient_weight * gradients)
        return weight.masked_fill(zeros_by_row(scores, pattern), 0.0)
