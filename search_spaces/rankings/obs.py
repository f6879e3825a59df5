"""What a unit leaves behind once all others have done their best to make up for it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.rankings.gram import damped_inverse
from search_spaces.statistics import StatisticName, Statistics, check_tokens
from search_spaces.structure.sub_block import SubBlock

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
        self, block: SubBlock, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = block.projections[-1]
        columns = len(output.units)
        check_tokens(int(statistics["tokens", ""]), columns, "the ranking `obs`")
        order = torch.from_numpy(output.by_unit).to(weights[output.path].device).flatten()
        weight = weights[output.path].double()[:, order]  # the columns of a unit lie together
        gram = statistics["gram", output.path].to(weight)[order][:, order]
        return _removal_costs(weight, damped_inverse(gram), block.unit_count)


def _removal_costs(weight: Tensor, inverse: Tensor, unit_count: int) -> Tensor:
    """Remove all units and give the error by which each was gone, ``(units,)``."""
    size = weight.shape[1] // unit_count
    left = torch.arange(unit_count, device=weight.device)
    costs = weight.new_zeros(unit_count)
    spent = weight.new_zeros(())
    at_once = max(1, unit_count // STEPS)
    while len(left):
        alone = _unit_errors(weight, inverse, size)
        cheapest = torch.argsort(alone, stable=True)[:at_once]
        gone = _columns(cheapest, size)
        stays = torch.ones(len(left), dtype=torch.bool, device=left.device)
        stays[cheapest] = False
        kept = _columns(stays.nonzero().flatten(), size)
        factor = torch.linalg.cholesky(inverse[gone][:, gone])
        half = torch.linalg.solve_triangular(factor, weight[:, gone].t(), upper=False)
        # removed together they cost other than the sum of each alone: shared out by that
        shares = alone[cheapest].cumsum(0)
        shares = shares / shares[-1].clamp(min=torch.finfo(shares.dtype).tiny)
        together = half.square().sum()
        costs[left[cheapest]] = spent + together * shares
        spent = spent + together
        reach = torch.linalg.solve_triangular(factor, inverse[gone][:, kept], upper=False)
        weight = weight[:, kept].addmm_(half.t(), reach, alpha=-1)
        inverse = inverse[kept][:, kept].addmm_(reach.t(), reach, alpha=-1)
        left = left[stays]
    return costs


def _unit_errors(weight: Tensor, inverse: Tensor, size: int) -> Tensor:
    """Give what the removal of each unit alone costs, ``(units,)``."""
    units = weight.shape[1] // size
    each = torch.arange(units, device=weight.device)
    own = inverse.view(units, size, units, size)[each, :, each]  # (units, size, size)
    columns = weight.t().view(units, size, -1)  # (units, size, rows)
    factors = torch.linalg.cholesky(own)
    half: Tensor = torch.linalg.solve_triangular(factors, columns, upper=False)
    return half.square().sum(dim=(1, 2))


def _columns(units: Tensor, size: int) -> Tensor:
    """Give the positions of the columns of some units."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()
