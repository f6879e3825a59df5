"""ADMM: new weights for a given mask."""

import torch
from torch import Tensor

from search_spaces.linalg import DAMPING, damped_cholesky
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName, check_tokens

_PENALTY = 1.0  # for inputs of norm 1
_TINY = 1e-8


class Admm:
    """The kept weights move until the outputs are nearest to the dense ones.

    Minimises ``‖(W − Ŵ) X‖²`` over matrices with the zeros of the sparse one by the alternating
    direction method of multipliers. With inputs scaled to norm 1, ``H`` their Gram matrix damped,
    and ``M`` the mask:

        ``Z ← M ⊙ (Ŵ + U)``, ``U ← U + Ŵ − Z``, ``Ŵ ← (W H + r (Z − U)) (H + r I)⁻¹``

    from ``Ŵ = W`` and ``U = 0``. A row with no smaller error than in the sparse matrix stays as it
    is there. The inverse for the last Gram matrix is kept: it is known by the tensor itself.

    Args:
        iterations: How often the three steps are taken.

    References:
        Boža, 2024, "Fast and Effective Weight Update for Pruned Large Language Models"
        (section 3; r = 1, 20 iterations).
    """

    statistics: frozenset[StatisticName] = frozenset({"gram"})

    def __init__(self, iterations: int = 20) -> None:
        self._iterations = iterations
        self._last: tuple[Tensor, Tensor] | None = None

    def refined(
        self,
        sparse: Tensor,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,
    ) -> Tensor:
        pattern.check_fits(weight.shape[1], "weight")
        check_tokens(statistics.tokens, weight.shape[1], "ADMM")
        gram = statistics["gram"]
        norms = _norms(gram)
        kept = sparse != 0
        dense = moving = weight * norms
        inverse = self._inverse(gram)  # (columns, columns)
        # (W H) (H + rI)⁻¹ = W − r W (H + rI)⁻¹
        target = dense.addmm(dense, inverse, alpha=-_PENALTY)
        dual = torch.zeros_like(dense)
        for _ in range(self._iterations):
            both = moving + dual
            masked = both * kept
            dual = both - masked
            moving = torch.addmm(target, masked - dual, inverse, alpha=_PENALTY)
        refined = (moving + dual) * kept / norms
        better = _errors(weight - refined, gram) < _errors(weight - sparse, gram)
        return torch.where(better[:, None], refined, sparse)

    def _inverse(self, gram: Tensor) -> Tensor:
        """Return ``(H + r I)⁻¹`` in float32, ``(columns, columns)``."""
        last = self._last
        if last is None or last[0] is not gram:
            norms = _norms(gram).double()
            scaled = gram.double() / norms / norms[:, None]
            factor = damped_cholesky(scaled, _PENALTY + DAMPING, "ADMM")
            last = self._last = (gram, torch.cholesky_inverse(factor).float())
        return last[1]


def _norms(gram: Tensor) -> Tensor:
    """Return the norm of each input, 1 for one that is always zero, ``(columns,)``."""
    norms = gram.diagonal().clamp(min=0.0).sqrt()
    return norms.where(norms > _TINY * norms.max(), 1.0)


def _errors(missing: Tensor, gram: Tensor) -> Tensor:
    """Return the mean squared error of each output, ``(rows,)``, of ``(rows, columns)``."""
    return (missing @ gram).mul_(missing).sum(dim=1)
