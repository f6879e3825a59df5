"""Random zeros: the baseline that every sparsifier must beat."""

import torch
from torch import Tensor

from search_spaces.pruned_weights.sparsifiers.masks import zeros_by_matrix
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class RandomOrder:
    """A weight counts by a random number, the same for matrices of one shape.

    Args:
        seed: Of the numbers.
    """

    statistics: frozenset[StatisticName] = frozenset()

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def sparsified(
        self,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,  # noqa: ARG002
    ) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed)  # on the CPU: one order everywhere
        scores = torch.rand(weight.shape, generator=generator).to(weight.device)
        return weight.masked_fill(zeros_by_matrix(scores, pattern), 0.0)
