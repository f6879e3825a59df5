"""Damped least squares for the first columns of a matrix, all widths from one factor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights
from search_spaces.statistics import check_tokens

DAMPING = 0.01
"""Of the mean of the Gram matrix's diagonal."""
RAISES = 3
"""How often the damping is made ten times larger before the matrix is given up."""
_ROUNDING = 1e-9
"""Of an error: less than this is no difference."""


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """For each width: ``V`` that minimises ``E‖t − V x_S‖² + λ‖V − C_S‖²``.

    With ``H = E[x xᵀ] + λI = L Lᵀ`` it is ``V = (E[t x_Sᵀ] + λ C_S) H_SS⁻¹``. ``S`` are the first
    columns, and the factor of a leading block is the leading block of the factor: one
    factorisation and one forward substitution serve all widths, each of which then takes one
    backward substitution. All in float64.
    """

    gram: Tensor
    """``E[x xᵀ]``, ``(columns, columns)``"""
    cross: Tensor
    """``E[t xᵀ]``, ``(rows, columns)``"""
    centred: bool
    """Whether ``C`` are the dense weights, or 0."""
    damping: float = DAMPING
    """λ as a share of the mean of the Gram matrix's diagonal."""

    def compensate(
        self, weight: Tensor, kept: Sequence[int], tokens: int, asker: str
    ) -> Iterator[CompensatedWeights]:
        """Repair a matrix at several widths; where that would make it worse, leave it.

        Args:
            weight: Of the dense model, ``(rows, columns)``.
            kept: For each width the number of columns that stay, ascending.
            tokens: That the statistics were taken over.
            asker: Name of the method, for messages.

        Raises:
            DataError: Where there are far too few tokens.
        """
        check_tokens(tokens, weight.shape[1], asker)
        if not kept:
            return
        widest = kept[-1]
        dense = weight[:, :widest].double()
        gram = self.gram[:widest, :widest].to(dense)
        cross = self.cross[:, :widest].to(dense)
        # of all columns, so that a width asked for alone is what it is among others
        mean = float(self.gram.diagonal().double().mean())
        found = _factored(gram, cross, mean, self.damping)
        if isinstance(found, str):
            yield from (
                CompensatedWeights(weight=weight[:, :count], fallback=found) for count in kept
            )
            return
        factor, damping, notice = found
        right = cross + damping * dense if self.centred else cross
        half = torch.linalg.solve_triangular(factor, right.T, upper=False)  # (widest, rows)
        energies = dense.T @ dense * gram
        for count in kept:
            upper = factor[:count, :count].T
            fitted = torch.linalg.solve_triangular(upper, half[:count], upper=True).T
            plain, target = dense[:, :count], cross[:, :count]
            # both errors less E‖t‖²; by V H = right, E‖V x‖² takes no product of matrices
            before = energies[:count, :count].sum() - 2 * (plain * target).sum()
            moved = (fitted * right[:, :count]).sum() - damping * fitted.square().sum()
            after = moved - 2 * (fitted * target).sum()
            if not after <= before + _ROUNDING * before.abs():
                why = f"the damped fit of {count} inputs has a larger error than the dense weights"
                yield CompensatedWeights(weight=weight[:, :count], fallback=why)
                continue
            if tokens < count and not notice:
                notice = (
                    f"{tokens} tokens cannot tell {count} inputs apart, so that {asker} leans on "
                    "damping; raise `--calibration_windows`"
                )
            yield CompensatedWeights(weight=fitted.float().contiguous(), notice=notice)


def _factored(
    gram: Tensor, cross: Tensor, mean: float, share: float
) -> tuple[Tensor, float, str] | str:
    """Give the Cholesky factor of the damped matrix, the damping and a notice; or why not."""
    if not (gram.isfinite().all() and cross.isfinite().all()):
        return "its statistics are not finite, so that it keeps its dense weights"
    if mean <= 0:
        return "its inputs are all zero, so that it keeps its dense weights"
    for raised in range(RAISES + 1):
        percent = 100 * share * 10**raised
        damping = percent / 100 * mean
        damped = gram.clone()
        damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            return (
                factor,
                damping,
                f"its Gram matrix took damping of {percent:g} %" if raised else "",
            )
    return (
        f"its inputs' Gram matrix is not positive definite with damping of {percent:g} %, "
        "so that it keeps its dense weights"
    )
