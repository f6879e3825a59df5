"""Kept weights fitted to the dense model's hidden states from a pruned model's inputs."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights
from search_spaces.pruned_weights.compensation.ridge import DAMPING, Ridge
from search_spaces.statistics import MatrixStatistics, StatisticName


class SubLayerTuning:
    """``W' = (E[t x_Sᵀ] + λ W_S) (E[x_S x_Sᵀ] + λI)⁻¹`` for the kept columns ``S``.

    Here ``x`` is what the output projection gets where a pruned model runs, and ``t`` what would
    take that model's hidden states to the dense model's: the fit makes up for this component and
    for what the components below it lost. It minimises ``E‖t − W' x_S‖² + λ‖W' − W_S‖²``. Where
    the pruned model is the dense one it is `OptimalBrainSurgeon`.

    Args:
        damping: λ as a share of the mean diagonal of ``E[x xᵀ]``.

    References:
        Park, Choi & Kang, 2024, "Accurate Retraining-free Pruning for Pretrained Encoder-based
        Language Models" (knowledge-preserving tuning of sub-layers). Different here: decoders, a
        damping that pulls towards the dense weights, and one pruned model for all widths.
    """

    statistics: frozenset[StatisticName] = frozenset({"student_gram", "teacher_cross"})
    adds_bias = False

    def __init__(self, damping: float = DAMPING) -> None:
        self.damping = damping

    def compensate(
        self, weight: Tensor, kept: Sequence[int], statistics: MatrixStatistics
    ) -> Iterator[CompensatedWeights]:
        ridge = Ridge(
            gram=statistics["student_gram"],
            cross=statistics["teacher_cross"],
            centred=True,
            damping=self.damping,
        )
        return ridge.compensate(weight, kept, statistics.tokens, "tuning")
