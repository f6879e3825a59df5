"""Kept columns of a matrix by damped least squares, all widths from one Cholesky factor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.linalg import DAMPING, DampedFactor, damped_factor, leading_solutions
from search_spaces.pruned_weights.compensation import RidgeName
from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights
from search_spaces.statistics import MatrixStatistics, StatisticName, check_tokens

RAISES = 3
"""How often the damping is made ten times larger before the dense weights are kept."""
_ROUNDING = 1e-9
"""Of an error: less than this is no difference."""


@dataclass(frozen=True, kw_only=True)
class RidgeCompensation:
    """For each width the ``V`` that minimises ``E‖t − V x_S‖² + λ‖V − C_S‖²``.

    ``S`` are the first columns, ``t`` the outputs aimed at, and ``C`` the dense weights or 0.

    With ``H = E[x xᵀ] + λI = L Lᵀ`` it is ``V = (E[t x_Sᵀ] + λ C_S) H_SS⁻¹``. The factor of a
    leading block is the leading block of the factor, and so is its inverse: one factorisation
    serves all widths, and each adds to the last one's fit what its further columns give. All in
    float64. Where the fit would be worse than the dense weights, these are kept; with `centred`
    it never is.
    """

    name: RidgeName
    """For messages."""
    gram: StatisticName
    """The statistic ``E[x xᵀ]``, ``(columns, columns)``."""
    cross: StatisticName | None
    """The statistic ``E[t xᵀ]``, ``(rows, columns)``; None: the outputs aimed at are the dense
    ones, and it is ``W E[x xᵀ]``."""
    centred: bool
    """Whether ``C`` are the dense weights, or 0."""
    damping: float
    """λ as a share of the mean diagonal of ``E[x xᵀ]``."""
    adds_bias: bool = False

    @property
    def statistics(self) -> frozenset[StatisticName]:
        return frozenset({self.gram} if self.cross is None else {self.gram, self.cross})

    def compensate(
        self, weight: Tensor, kept: Sequence[int], statistics: MatrixStatistics
    ) -> Iterator[CompensatedWeights]:
        check_tokens(statistics.tokens, weight.shape[1], self.name)
        if not kept:
            return
        widest = kept[-1]
        dense = weight.double()
        gram = statistics[self.gram].to(weight.device)
        # of all columns, so that a width alone comes out as it does among others
        mean = float(gram.diagonal().double().mean())
        cross = (
            dense @ gram[:, :widest].double()
            if self.cross is None
            else statistics[self.cross].to(dense)[:, :widest]
        )
        factor = self._factor(gram[:widest, :widest], cross, mean)
        if isinstance(factor, str):
            for count in kept:
                yield CompensatedWeights(weight=weight[:, :count], fallback=factor)
            return
        notice = ""
        if factor.raises:
            notice = f"its Gram matrix took damping of {self._percent(factor.raises):g} %"
        fits = self._fits(dense[:, :widest], kept, cross, factor)
        for count, (fitted, is_better) in zip(kept, fits, strict=True):
            if not is_better:
                reason = (
                    f"the damped fit of {count} inputs has a larger error than the dense weights"
                )
                yield CompensatedWeights(weight=weight[:, :count], fallback=reason)
                continue
            if statistics.tokens < count and not notice:
                notice = (
                    f"{statistics.tokens} tokens cannot tell {count} inputs apart, so that "
                    f"{self.name} leans on damping; raise `--calibration_windows`"
                )
            yield CompensatedWeights(weight=fitted.float().contiguous(), notice=notice)

    def _factor(self, gram: Tensor, cross: Tensor, mean: float) -> DampedFactor | str:
        """Return the factor of the damped matrix, or why there is none."""
        if not (gram.isfinite().all() and cross.isfinite().all()):
            return "its statistics are not finite, so that it keeps its dense weights"
        if mean <= 0:
            return "its inputs are all zero, so that it keeps its dense weights"
        factor = damped_factor(gram.double(), self.damping, mean, raises=RAISES)
        return factor or (
            "its inputs' Gram matrix is not positive definite with damping of "
            f"{self._percent(RAISES):g} %, so that it keeps its dense weights"
        )

    def _percent(self, raises: int) -> float:
        return 100 * self.damping * float(10**raises)

    def _fits(
        self, dense: Tensor, kept: Sequence[int], cross: Tensor, factor: DampedFactor
    ) -> Iterator[tuple[Tensor, bool]]:
        """Fit the kept columns, ``(rows, kept)``, and compare with the dense ones, at each width.

        Args:
            dense: Columns of the dense model, as many as the widest keeps.
            kept: For each width the number of columns kept, ascending.
            cross: ``E[t xᵀ]`` of these columns.
            factor: Of their damped second moments.
        """
        damping = factor.damping
        right = cross + damping * dense if self.centred else cross
        half = torch.linalg.solve_triangular(factor.lower, right.T, upper=False).T
        passed = torch.zeros_like(half)
        for block, fitted in leading_solutions(half, factor.lower, kept):
            if self.centred:  # it minimises what the dense weights are one choice for
                yield fitted, True
                continue
            first = slice(block.stop)
            plain, target = dense[:, first], cross[:, first]
            passed[:, first] += plain[:, block] @ factor.lower[block, first]  # W_S L_SS
            # both errors less E‖t‖²: E‖W_S x‖² by H = L Lᵀ, and E‖V x‖² by V H = right
            before = passed.square().sum() - damping * plain.square().sum()
            after = (fitted * right[:, first]).sum() - damping * fitted.square().sum()
            before -= 2 * (plain * target).sum()
            after -= 2 * (fitted * target).sum()
            yield fitted, bool(after <= before + _ROUNDING * before.abs())


RIDGE: Mapping[RidgeName, RidgeCompensation] = {
    # W' = W G_:S (G_SS + λI)⁻¹ with G = E[x xᵀ], which minimises E‖W x − W' x_S‖² + λ‖W'‖²: what
    # the removed inputs share with the kept ones is handed to these. Kurtic, Frantar & Alistarh,
    # 2023, "ZipLM: Inference-Aware Structured Pruning of Language Models" (the optimal update for
    # removed structures); Tang et al., 2025, "DarwinLM: Evolutionary Structured Pruning of Large
    # Language Models" (a store of such weights)
    "least_squares": RidgeCompensation(
        name="least_squares", gram="gram", cross=None, centred=False, damping=DAMPING
    ),
    # W'_S = W_S + W_R H_RS H_SS⁻¹ for removed columns R with H = G + λI, which minimises
    # E‖W x − W' x_S‖² + λ‖W' − W_S‖²: damping pulls towards the dense weights and not, as above,
    # towards zero, so that the error never exceeds that of the dense weights. Hassibi & Stork,
    # 1992, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon" (equation 5, for
    # many weights at once). Ten times the damping of the others: such a pull costs little by
    # itself, and with a few thousand tokens less of the fit is chance (SmolLM2-135M without 20 %
    # of its channels: KL 0.200 on other text, against 0.217 at 0.01)
    "obs": RidgeCompensation(name="obs", gram="gram", cross=None, centred=True, damping=0.1),
    # W' = (E[t x_Sᵀ] + λ W_S) (E[x_S x_Sᵀ] + λI)⁻¹, where x are inputs of the output projection in
    # a pruned model, and t would take that model's hidden states to the dense model's: the fit
    # compensates for this component and for what those below it lost. It minimises
    # E‖t − W' x_S‖² + λ‖W' − W_S‖²; where the pruned model is the dense one it is `obs`. Park,
    # Choi & Kang, 2024, "Accurate Retraining-free Pruning for Pretrained Encoder-based Language
    # Models" (knowledge-preserving tuning of sub-layers). Different here: decoders, a damping that
    # pulls towards the dense weights, and one pruned model for all widths
    "tuning": RidgeCompensation(
        name="tuning",
        gram="student_gram",
        cross="teacher_cross",
        centred=True,
        damping=DAMPING,
    ),
}
