"""What a unit leaves behind once all others have done their best to make up for it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.linalg import damped_inverse, dead_inputs
from search_spaces.statistics import StatisticName, Statistics, check_tokens
from search_spaces.structure.components import Component

STEPS = 96
"""In which all units go: those of a step are chosen together and removed at once."""


class OBS:
    """Units go one after another, the cheapest first, and the others are updated each time.

    With ``W`` the output projection, ``H`` the damped second moments of its inputs and ``S`` the
    columns of a unit, its removal costs ``tr(W_S · (H⁻¹_SS)⁻¹ · W_Sᵀ)``: the squared error of the
    output, in the mean over tokens, that is left after the best update of all other columns,
    ``W −= W_S · (H⁻¹_SS)⁻¹ · H⁻¹_S:``. The importance of a unit is the error of all that went
    until it was gone.

    References:
        Hassibi & Stork, 1992 (Optimal Brain Surgeon); Kurtić, Frantar & Alistarh, 2023, "ZipLM:
        Inference-Aware Structured Pruning of Language Models" (structures; Algorithm 1).
    """

    statistics: frozenset[StatisticName] = frozenset({"gram"})
    comparable = False

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = component.projections[-1]
        check_tokens(int(statistics["tokens", ""]), len(output.units), "the ranking `obs`")
        order = torch.from_numpy(output.by_unit).to(weights[output.path].device).flatten()
        # the columns of a unit lie together
        columns = weights[output.path].double().t()[order].contiguous()
        gram = statistics["gram", output.path].to(columns.device)[order][:, order]
        columns[dead_inputs(gram)] = 0.0  # what is never put in costs nothing
        return _removal_costs(columns, damped_inverse(gram), component.unit_count)


def _removal_costs(columns: Tensor, inverse: Tensor, unit_count: int) -> Tensor:
    """Remove all units and give the error by which each was gone, ``(units,)``.

    Args:
        columns: Of the matrix, unit by unit, ``(columns, rows)``; used up.
        inverse: Of the damped second moments, ``(columns, columns)``; used up.
        unit_count: Units.
    """
    size = len(columns) // unit_count
    left = torch.arange(unit_count, device=columns.device)
    costs = columns.new_zeros(unit_count)
    spent = columns.new_zeros(())
    at_once = max(1, unit_count // STEPS)
    while len(left):
        alone = _unit_errors(columns, inverse, size)
        cheapest = torch.argsort(alone, stable=True)[:at_once]
        gone = _positions(cheapest, size)
        factor = torch.linalg.cholesky(inverse[gone][:, gone])
        half = torch.linalg.solve_triangular(factor, columns[gone], upper=False)
        reach = torch.linalg.solve_triangular(factor, inverse[gone], upper=False)
        # removed together they cost other than the sum of each alone: shared out by that
        shares = alone[cheapest].cumsum(0)
        shares = shares / shares[-1].clamp(min=torch.finfo(shares.dtype).tiny)
        together = half.square().sum()
        costs[left[cheapest]] = spent + together * shares
        spent = spent + together
        columns.addmm_(reach.t(), half, alpha=-1)
        inverse.addmm_(reach.t(), reach, alpha=-1)
        left, columns, inverse = _closed_up(left, columns, inverse, cheapest)
    return costs


def _unit_errors(columns: Tensor, inverse: Tensor, size: int) -> Tensor:
    """Give what the removal of each unit alone costs, ``(units,)``."""
    if size == 1:  # as below, without a factorisation for each number
        alone: Tensor = torch.linalg.vector_norm(columns, dim=1).square() / inverse.diagonal()
        return alone
    units = len(columns) // size
    each = torch.arange(units, device=columns.device)
    own = inverse.view(units, size, units, size)[each, :, each]  # (units, size, size)
    factors = torch.linalg.cholesky(own)
    half: Tensor = torch.linalg.solve_triangular(
        factors, columns.view(units, size, -1), upper=False
    )
    return half.square().sum(dim=(1, 2))


def _closed_up(
    left: Tensor, columns: Tensor, inverse: Tensor, gone: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Give views without some units: the last ones take their places, so that little is copied."""
    size, stay = len(columns) // len(left), len(left) - len(gone)
    is_gone = torch.zeros(len(left), dtype=torch.bool, device=left.device)
    is_gone[gone] = True
    free = is_gone[:stay].nonzero().flatten()
    last = (~is_gone[stay:]).nonzero().flatten() + stay
    to, of, end = _positions(free, size), _positions(last, size), stay * size
    left[free] = left[last]
    columns[to] = columns[of]
    inverse[to] = inverse[of]
    inverse[:, to] = inverse[:, of]
    return left[:stay], columns[:end], inverse[:end, :end]


def _positions(units: Tensor, size: int) -> Tensor:
    """Give the positions of the columns of some units."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()
