"""Other zeros for a sparse matrix, without training."""

import torch
from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName

_CYCLES = 50
_TINY = 1e-12


class DSnoT:
    """In each row a zero and a weight change places while the expected error falls.

    The expected error of output ``i`` is ``ε_i = Σ_j (W_ij − Ŵ_ij) E[X_j]``. In each cycle

    - the zero grows back to ``W_ij`` that has the largest ``sign(ε_i) W_ij E[X_j] / Var[X_j]``,
      of those that take off ``ε_i`` no more than there is;
    - of the weights whose loss lowers the error too, ``sign(ε_i) Ŵ_ij E[X_j] < 0``, the one with
      the least ``|Ŵ_ij| · ‖X_j‖`` becomes zero (N:M: of the same group).

    A row whose error would not fall is done: where the paper stops at a fixed size of the error,
    which depends on the scale of the inputs, this does not.

    References:
        Zhang, Zhao, Lin, Sun, Yao, Han, Tanner, Liu & Ji, 2024, "Dynamic Sparse No Training:
        Training-Free Fine-tuning for Sparse LLMs" (equations 2 to 5; at most 50 cycles).
    """

    statistics: frozenset[StatisticName] = frozenset({"input_mean", "input_second_moment"})

    def refined(
        self,
        sparse: Tensor,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,
    ) -> Tensor:
        pattern.check_fits(weight.shape[1], "weight")
        mean, second = statistics["input_mean"], statistics["input_second_moment"]
        spread = (second - mean.square()).clamp(min=0.0) + _TINY
        refined, rows = sparse.clone(), torch.arange(len(sparse), device=sparse.device)
        errors = ((weight - sparse) * mean).sum(dim=1)
        for _ in range(_CYCLES):
            now, signed = refined[rows], mean * errors[rows].sign()[:, None]
            gains = weight[rows] * signed
            can_grow = (now == 0) & (gains > 0) & (gains <= errors[rows].abs()[:, None])
            growing = (gains / spread).where(can_grow, -torch.inf)
            can_go = now * signed < 0
            going = (now.abs() * second.sqrt()).where(can_go, torch.inf)
            grown, gone, possible = _swaps(growing, going, pattern)
            after = (
                errors[rows]
                - weight[rows, grown] * mean[grown]
                + now.gather(1, gone[:, None])[:, 0] * mean[gone]
            )
            possible &= after.abs() < errors[rows].abs()
            rows, grown, gone = rows[possible], grown[possible], gone[possible]
            if not len(rows):
                break
            refined[rows, grown], refined[rows, gone] = weight[rows, grown], 0.0
            errors[rows] = after[possible]
        return refined


def _swaps(
    growing: Tensor, going: Tensor, pattern: SparsityPattern
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick in each row the column that grows, the one that goes, and tell whether there are both.

    Args:
        growing: The highest grows, minus infinity cannot, ``(rows, columns)``.
        going: The lowest goes, infinity cannot, ``(rows, columns)``.
        pattern: With groups, both columns are of the same one.
    """
    if pattern.group:
        width = pattern.group
        partners = going.view(len(going), -1, width).amin(dim=2).isinf()  # (rows, groups)
        growing = growing.masked_fill(partners.repeat_interleave(width, dim=1), -torch.inf)
        grown = growing.argmax(dim=1)
        columns = torch.arange(growing.shape[1], device=growing.device)
        elsewhere = columns // width != (grown // width)[:, None]
        going = going.masked_fill(elsewhere, torch.inf)
    grown, gone = growing.argmax(dim=1), going.argmin(dim=1)
    found = (
        growing.gather(1, grown[:, None]).isfinite() & going.gather(1, gone[:, None]).isfinite()
    )
    return grown, gone, found[:, 0]
