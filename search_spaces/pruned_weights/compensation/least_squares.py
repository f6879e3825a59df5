"""The kept weights that give the dense output best, in the sense of least squares."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights
from search_spaces.pruned_weights.compensation.ridge import DAMPING, Ridge
from search_spaces.statistics import MatrixStatistics, StatisticName


class LeastSquares:
    """``W' = W G_{:S} (G_SS + λI)⁻¹`` for the kept columns ``S``, with ``G = E[x xᵀ]``.

    It minimises ``E‖W x − W' x_S‖² + λ‖W'‖²``: what the removed inputs share with the kept ones is
    handed to these. One factor serves all widths, see `Ridge`.

    Args:
        damping: λ as a share of the mean of ``G``'s diagonal.

    References:
        Kurtic, Frantar & Alistarh, 2023, "ZipLM: Inference-Aware Structured Pruning of Language
        Models" (the optimal update for removed structures); Tang et al., 2025, "DarwinLM:
        Evolutionary Structured Pruning of Large Language Models" (a store of such levels).
    """

    statistics: frozenset[StatisticName] = frozenset({"gram"})
    adds_bias = False

    def __init__(self, damping: float = DAMPING) -> None:
        self.damping = damping

    def compensate(
        self, weight: Tensor, kept: Sequence[int], statistics: MatrixStatistics
    ) -> Iterator[CompensatedWeights]:
        gram = statistics["gram"].to(weight.device).double()
        cross = weight.double() @ gram
        ridge = Ridge(gram=gram, cross=cross, centred=False, damping=self.damping)
        return ridge.compensate(weight, kept, statistics.tokens, "least_squares")
