"""Pruner-Zero: zeros by a score whose formula was itself searched for."""

import torch
from torch import Tensor

from search_spaces.pruned_weights.sparsifiers.masks import zeros_by_row
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class PrunerZero:
    """A weight counts by its square times its gradient's place between the extremes.

    ``|W_ij| · |W_ij| · (|G_ij| − min |G|) / (max |G| − min |G|)``, the extremes over the matrix.
    ``|G|`` is the root of the gradient's second moment over the windows: the method's own code
    takes their l2 norm, of which it is a multiple. Weights are compared within each output. Where
    all gradients are equal, they count as 1.

    References:
        Dong, Li, Tang, Liu, Pan, Wang & Chu, 2024, "Pruner-Zero: Evolving Symbolic Pruning Metric
        from Scratch for Large Language Models" (the metric found, section 4).
    """

    statistics: frozenset[StatisticName] = frozenset({"gradient_second_moment"})

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        gradients = statistics["gradient_second_moment"].sqrt()  # (rows, columns)
        least, most = gradients.aminmax()
        shares = (gradients - least) / (most - least)
        scores = weight.square() * torch.where(most > least, shares, 1.0)
        return weight.masked_fill(zeros_by_row(scores, pattern), 0.0)
