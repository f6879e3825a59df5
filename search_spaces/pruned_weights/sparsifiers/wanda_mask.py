"""Wanda: zeros where the product of weight and input is small."""

from torch import Tensor

from search_spaces.pruned_weights.sparsifiers.masks import zeros_by_row
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class Wanda:
    """A weight counts by its size times that of its input, compared within each output.

    ``|W_ij| · ‖X_j‖``, the norm over the tokens; here its root mean square, which orders the same.

    References:
        Sun, Liu, Bair & Kolter, 2024, "A Simple and Effective Pruning Approach for Large
        Language Models" (equation 1, algorithm 1).
    """

    statistics: frozenset[StatisticName] = frozenset({"input_second_moment"})

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        scores = weight.abs() * statistics["input_second_moment"].sqrt()
        return weight.masked_fill(zeros_by_row(scores, pattern), 0.0)
