"""A bias instead of what the removed columns add on average."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights
from search_spaces.statistics import MatrixStatistics, StatisticName


class Bias:
    """The output keeps its mean: ``b = W_R E[x_R]`` for the removed columns ``R``.

    The weights stay as they are, so that what varies in the removed inputs is lost.

    References:
        An, Zhao, Yu, Tang & Wang, 2024, "Fluctuation-based Adaptive Structured Pruning for Large
        Language Models" (baseline bias compensation).
    """

    statistics: frozenset[StatisticName] = frozenset({"input_mean"})
    adds_bias = True

    def compensate(
        self, weight: Tensor, kept: Sequence[int], statistics: MatrixStatistics
    ) -> Iterator[CompensatedWeights]:
        dense = weight.double()
        mean = statistics["input_mean"].to(dense)  # (columns,)
        for count in kept:
            bias = (dense[:, count:] @ mean[count:]).float()
            if bias.isfinite().all():
                yield CompensatedWeights(weight=weight[:, :count], bias=bias)
            else:
                yield CompensatedWeights(
                    weight=weight[:, :count],
                    # costs and file layouts count on a bias at every narrow width
                    bias=torch.zeros_like(bias),
                    notice="the means of its inputs are not finite, so that its bias is zero; "
                    "load the model in float32",
                )
