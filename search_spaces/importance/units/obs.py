"""The output error that a unit leaves once the others compensate for it as well as they can."""

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.linalg import damped_inverse, dead_inputs
from search_spaces.statistics import StatisticName, Statistics, check_tokens
from search_spaces.structure.components import Component

STEPS = 96
"""In which all units are removed: those of a step are chosen together and removed at once."""
_METHOD = "the importance `obs`"


class OBS:
    """Units are removed one by one, the cheapest first, and the others updated each time.

    With ``W`` the output projection, ``H`` the damped second moments of its inputs and ``S`` the
    columns of a unit, its removal costs ``tr(W_S · (H⁻¹_SS)⁻¹ · W_Sᵀ)``: the squared error of the
    output, in the mean over tokens, that is left after the best update of all other columns,
    ``W −= W_S · (H⁻¹_SS)⁻¹ · H⁻¹_S:``. The importance of a unit is the error of all units removed
    up to and including it.

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
        check_tokens(int(statistics["tokens", ""]), len(output.units), _METHOD)
        order = torch.from_numpy(output.by_unit).to(weights[output.path].device).flatten()
        # the columns of a unit lie together
        columns = weights[output.path].double().t()[order].contiguous()
        gram = statistics["gram", output.path].to(columns.device)[order][:, order]
        columns[dead_inputs(gram)] = 0.0  # an input that is always zero costs nothing
        return _removal_costs(columns, damped_inverse(gram, _METHOD), component.unit_count)


def _removal_costs(columns: Tensor, inverse: Tensor, unit_count: int) -> Tensor:
    """Remove all units and return the error once each is removed, ``(units,)``.

    With ``L Lᵀ = H⁻¹_SS`` of the units of a step, ``half = L⁻¹ W_Sᵀ`` gives their cost
    ``‖half‖²``, and with ``reach = L⁻¹ H⁻¹_S:`` both updates are products: ``W −= halfᵀ · reach``
    and ``H⁻¹ −= reachᵀ · reach``.

    Args:
        columns: Of the matrix, unit by unit, ``(columns, rows)``; overwritten.
        inverse: Of the damped second moments, ``(columns, columns)``; overwritten.
        unit_count: Units.
    """
    size = len(columns) // unit_count
    left = torch.arange(unit_count, device=columns.device)
    costs = columns.new_zeros(unit_count)
    total = columns.new_zeros(())
    at_once = max(1, unit_count // STEPS)
    while len(left):
        errors = _unit_errors(columns, inverse, size)
        cheapest = torch.argsort(errors, stable=True)[:at_once]
        removed = _positions(cheapest, size)
        factor = torch.linalg.cholesky(inverse[removed][:, removed])
        half = torch.linalg.solve_triangular(factor, columns[removed], upper=False)
        reach = torch.linalg.solve_triangular(factor, inverse[removed], upper=False)
        # removed together they cost other than the sum of each alone: shared out by the latter
        shares = errors[cheapest].cumsum(0)
        shares = shares / shares[-1].clamp(min=torch.finfo(shares.dtype).tiny)
        step_error = half.square().sum()
        costs[left[cheapest]] = total + step_error * shares
        total = total + step_error
        columns.addmm_(reach.t(), half, alpha=-1)
        inverse.addmm_(reach.t(), reach, alpha=-1)
        left, columns, inverse = _compacted(left, columns, inverse, cheapest)
    return costs


def _unit_errors(columns: Tensor, inverse: Tensor, size: int) -> Tensor:
    """Return the error of removing each unit alone, ``(units,)``."""
    if size == 1:  # as below, without a factorisation for each number
        errors: Tensor = torch.linalg.vector_norm(columns, dim=1).square() / inverse.diagonal()
        return errors
    units = len(columns) // size
    each = torch.arange(units, device=columns.device)
    blocks = inverse.view(units, size, units, size)[each, :, each]  # (units, size, size)
    factors = torch.linalg.cholesky(blocks)
    half: Tensor = torch.linalg.solve_triangular(
        factors, columns.view(units, size, -1), upper=False
    )
    return half.square().sum(dim=(1, 2))


def _compacted(
    left: Tensor, columns: Tensor, inverse: Tensor, removed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return views without some units; the last ones take their places, so little is copied."""
    size, kept_count = len(columns) // len(left), len(left) - len(removed)
    is_removed = torch.zeros(len(left), dtype=torch.bool, device=left.device)
    is_removed[removed] = True
    free = is_removed[:kept_count].nonzero().flatten()
    last = (~is_removed[kept_count:]).nonzero().flatten() + kept_count
    target, source, end = _positions(free, size), _positions(last, size), kept_count * size
    left[free] = left[last]
    columns[target] = columns[source]
    inverse[target] = inverse[source]
    inverse[:, target] = inverse[:, source]
    return left[:kept_count], columns[:end], inverse[:end, :end]


def _positions(units: Tensor, size: int) -> Tensor:
    """Return the positions of the columns of some units."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()
