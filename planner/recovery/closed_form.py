"""Updates of a weight matrix in closed form, by ridge regression towards what it is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.linalg import damped_factor
from search_spaces.statistics import MatrixStatistics

RIDGES = (0.3, 1.0, 3.0)
"""Pulls towards the weights as they are, as shares of the mean square of the inputs, of which the
one is taken that does best on text kept apart: how much is noise depends on the tokens there are
for a matrix, and on what was fitted to them before. Weaker ones do better still on the matrix
alone, there too, and worse for the whole model."""
_FIRST_SIZE = 3.0
"""Of the inputs of first tokens, in those of others: what held-out KL was best at, of 0 to 10."""
_BLOCKS = 4
"""Of columns, of which each is multiplied with those from itself on alone."""
_RAISES = 3
_STEPS = 40
"""Of conjugate gradients: the residual is below a thousandth by then, and the ridge bounds what is
left of it."""


@dataclass
class Sums:
    """Sums over tokens of what a matrix reads, and of what its output lacks."""

    gram: Tensor
    """``x xᵀ``, ``(columns, columns)`` in float32; above its diagonal blocks it is not filled."""
    cross: Tensor
    """``r xᵀ``, ``(rows, columns)`` in float32."""
    tokens: int = 0

    @classmethod
    def of(cls, matrix: Tensor) -> "Sums":
        """Return the sums over no tokens at a matrix ``(rows, columns)``."""
        rows, columns = matrix.shape
        empty = matrix.new_zeros(0, dtype=torch.float32)
        return cls(empty.new_zeros(columns, columns), empty.new_zeros(rows, columns))

    def add(self, inputs: Tensor, residuals: Tensor) -> None:
        """Add tokens: inputs ``(tokens, columns)``, and what is missing ``(tokens, rows)``."""
        x = inputs.float()
        width = -(-x.shape[1] // _BLOCKS)
        for first in range(0, x.shape[1], width):  # the lower triangle says all
            block = slice(first, first + width)
            self.gram[first:, block].addmm_(x[:, first:].T, x[:, block])
        self.cross.addmm_(residuals.float().T, x)
        self.tokens += len(x)

    def change_by(self, update: Tensor) -> float:
        """Return by how much a change of the matrix changes the sum of squares that is missing.

        ``Σ‖r − D x‖² − Σ‖r‖² = tr(D x xᵀ Dᵀ) − 2 tr(D x rᵀ)``
        """
        gram = _symmetric(self.gram)
        return float(((update @ gram - 2 * self.cross) * update).sum())

    @property
    def statistics(self) -> MatrixStatistics:
        """The second moments of the inputs, as a quantiser reads them."""
        gram = _symmetric(self.gram) / max(1, self.tokens)
        return MatrixStatistics(
            tokens=self.tokens, values={"gram": gram, "input_second_moment": gram.diagonal()}
        )

    @property
    def energy(self) -> float:
        """Mean of the Gram matrix's diagonal."""
        return float(self.gram.diagonal().mean())


def first_tokens_held(inputs: Tensor, missing: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens to fit to, of which the first of a window are asked to stay as they are.

    What they give is far from the others' and must not move with them; at their own size they
    would decide alone, and are scaled down.

    Args:
        inputs: ``(..., columns)``.
        missing: From the outputs, ``(..., rows)``.
        is_first: Whether a token is one of the first, ``(...)``.

    Returns:
        Inputs ``(tokens, columns)`` and what is missing ``(tokens, rows)``; none where all tokens
        are first ones.
    """
    others, firsts = inputs[~is_first].float(), inputs[is_first].float()
    if not others.numel():
        return others, missing[~is_first]
    sizes = firsts.square().mean(dim=-1, keepdim=True).sqrt()
    usual = others.square().mean().sqrt()
    scale = (_FIRST_SIZE * usual / sizes.clamp(min=1e-12)).clamp(max=1.0)
    stay = missing.new_zeros(len(firsts), missing.shape[-1])
    return torch.cat([others, firsts * scale]), torch.cat([missing[~is_first], stay])


def ridge_update(
    sums: Sums,
    mask: Tensor | None = None,
    *,
    energy: float = 0.0,
    apart: Sums | None = None,
) -> Tensor | None:
    """Return what to add to a matrix so that its output comes nearest to what was asked.

    The change ``D`` minimises ``E‖r − D x‖² + λ‖D‖²``: the ridge pulls towards the weights as they
    are.

    Args:
        sums: At the matrix.
        mask: Which of its weights may change, ``(rows, columns)``; None: all.
        energy: What the ridge is relative to, if that is more than the sums' own: what inputs of
            other matrices have that read more tokens.
        apart: Sums over other tokens, which choose among the `RIDGES`; None: the first is taken.

    Returns:
        ``(rows, columns)`` in float32; None: the inputs say nothing, or are not finite, or none of
        the changes lowers what is missing on the tokens apart.
    """
    mean = max(sums.energy, energy)
    if not (mean > 0 and bool(torch.isfinite(sums.cross).all())):
        return None
    best, lowest = None, 0.0
    for ridge in RIDGES if apart is not None and apart.tokens else RIDGES[:1]:
        update = _solved(sums, mask, ridge, mean)
        change = -1.0 if update is None or apart is None else apart.change_by(update)
        if update is not None and change < lowest:
            best, lowest = update, change
    return best


def _solved(sums: Sums, mask: Tensor | None, ridge: float, mean: float) -> Tensor | None:
    if mask is not None:
        return _masked_update(sums, mask, ridge * mean)
    factor = damped_factor(sums.gram.double(), ridge, mean, raises=_RAISES)
    if factor is None:
        return None
    return torch.cholesky_solve(sums.cross.double().T, factor.lower).T.float()


def _symmetric(gram: Tensor) -> Tensor:
    """Return a Gram matrix of which the lower triangle is filled."""
    lower = gram.tril(-1)
    return lower + lower.T + gram.diagonal().diag()


def _masked_update(sums: Sums, mask: Tensor, ridge: float) -> Tensor:
    """Solve for the kept weights of each row, whose supports differ, all rows at once.

    Conjugate gradients on the normal equations of each row, restricted to its support, with the
    diagonal as preconditioner: Hestenes & Stiefel, 1952; Meng et al., 2024, "ALPS" (equation 12)
    refine sparse layers in the same way.
    """
    kept, gram = mask.to(sums.cross), _symmetric(sums.gram)
    scale = sums.gram.diagonal() + ridge
    update = torch.zeros_like(sums.cross)
    residual = sums.cross * kept
    preconditioned = residual / scale
    direction = preconditioned
    power = (residual * preconditioned).sum(dim=1, keepdim=True)
    for _ in range(_STEPS):
        applied = (direction @ gram + ridge * direction) * kept
        length = power / (direction * applied).sum(dim=1, keepdim=True).clamp(min=1e-30)
        update = update + length * direction
        residual = residual - length * applied
        preconditioned = residual / scale
        before, power = power, (residual * preconditioned).sum(dim=1, keepdim=True)
        direction = preconditioned + power / before.clamp(min=1e-30) * direction
    return update
