"""Magnitude pruning: zeros where weights are small."""

from torch import Tensor

from search_spaces.pruned_weights.sparsifiers.masks import zeros_by_matrix
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class Magnitude:
    """A weight counts by its size, ``|W_ij|``, compared across the whole matrix.

    References:
        Han, Pool, Tran & Dally, 2015, "Learning both Weights and Connections for Efficient
        Neural Networks".
    """

    statistics: frozenset[StatisticName] = frozenset()

    def sparsified(
        self,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,  # noqa: ARG002
    ) -> Tensor:
        return weight.masked_fill(zeros_by_matrix(weight.abs(), pattern), 0.0)
