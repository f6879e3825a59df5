"""DSnoT: other zeros for a sparse matrix, without training."""

import torch
from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName

_CYCLES = 50
_TINY = 1e-12


class DSnoT:
    """In each row a zero and a weight are swapped while the expected error falls.

    The expected error of output ``i`` is ``ε_i = Σ_j (W_ij − Ŵ_ij) E[X_j]``. In each cycle

    - the zero grows back to ``W_ij`` that has the largest ``sign(ε_i) W_ij E[X_j] / Var[X_j]``,
      of those that lower ``|ε_i|`` without turning its sign;
    - of the weights whose removal lowers the error too, ``sign(ε_i) Ŵ_ij E[X_j] < 0``, the one
      with the least ``|Ŵ_ij| · ‖X_j‖`` becomes zero (N:M: of the same group).

    A row whose error would not fall is done; the paper stops at a fixed size of the error instead,
    which depends on the scale of the inputs.

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
        variance = (second - mean.square()).clamp(min=0.0) + _TINY
        refined, rows = sparse.clone(), torch.arange(len(sparse), device=sparse.device)
        errors = ((weight - sparse) * mean).sum(dim=1)
        for _ in range(_CYCLES):
            current, signed = refined[rows], mean * errors[rows].sign()[:, None]
            reductions = weight[rows] * signed
            can_grow = (
                (current == 0) & (reductions > 0) & (reductions <= errors[rows].abs()[:, None])
            )
            growth = (reductions / variance).where(can_grow, -torch.inf)
            can_prune = current * signed < 0
            cost = (current.abs() * second.sqrt()).where(can_prune, torch.inf)
            grown, pruned, possible = _swaps(growth, cost, pattern)
            after = (
                errors[rows]
                - weight[rows, grown] * mean[grown]
                + current.gather(1, pruned[:, None])[:, 0] * mean[pruned]
            )
            possible &= after.abs() < errors[rows].abs()
            rows, grown, pruned = rows[possible], grown[possible], pruned[possible]
            if not len(rows):
                break
            refined[rows, grown], refined[rows, pruned] = weight[rows, grown], 0.0
            errors[rows] = after[possible]
        return refined


def _swaps(
    growth: Tensor, cost: Tensor, pattern: SparsityPattern
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick in each row the column that grows and the one that is pruned, and mark possible swaps.

    Args:
        growth: The highest grows, minus infinity cannot, ``(rows, columns)``.
        cost: The lowest is pruned, infinity cannot, ``(rows, columns)``.
        pattern: With groups, both columns are of the same one.
    """
    if pattern.group:
        width = pattern.group
        has_no_partner = cost.view(len(cost), -1, width).amin(dim=2).isinf()  # (rows, groups)
        growth = growth.masked_fill(has_no_partner.repeat_interleave(width, dim=1), -torch.inf)
        grown = growth.argmax(dim=1)
        columns = torch.arange(growth.shape[1], device=growth.device)
        elsewhere = columns // width != (grown // width)[:, None]
        cost = cost.masked_fill(elsewhere, torch.inf)
    grown, pruned = growth.argmax(dim=1), cost.argmin(dim=1)
    possible = (
        growth.gather(1, grown[:, None]).isfinite() & cost.gather(1, pruned[:, None]).isfinite()
    )
    return grown, pruned, possible[:, 0]
