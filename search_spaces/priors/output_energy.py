"""The energy that the hidden states lose by zeros, and by narrower and fewer experts."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.expert_tensors import matrices_of, output_energy
from search_spaces.structure.experts import Experts

Floats = NDArray[np.float64]

_ROWS_LOOKED_AT = 64
"""Of each matrix, evenly spaced: enough for a share of its energy."""


def lost_shares(weight: Tensor, moment: Tensor, patterns: Sequence[SparsityPattern]) -> Floats:
    """Compute the share of a matrix's output energy that each pattern removes, ``(patterns,)``.

    >>> import torch
    >>> half = SparsityPattern(percent=50)
    >>> lost_shares(torch.tensor([[1.0, 3.0]]), torch.ones(2), [half]).tolist()  # 1 of 1 + 9
    [0.1]

    Args:
        weight: ``(rows, columns)``
        moment: Mean squares of its inputs, ``(columns,)``.
        patterns: Of sparsity.
    """
    step = max(1, len(weight) // _ROWS_LOOKED_AT)
    terms = weight[::step].square() * moment.to(weight.device)
    total = float(terms.sum()) or 1.0
    running = terms.sort(dim=1).values.cumsum(dim=1).sum(dim=0)
    shares = []
    for pattern in patterns:
        zeros = pattern.zeros_each_row(terms.shape[1])
        if pattern.group:
            grouped = terms[:, : terms.shape[1] // pattern.group * pattern.group]
            groups = grouped.reshape(len(terms), -1, pattern.group).sort(dim=2).values
            shares.append(float(groups[:, :, : pattern.group - pattern.keep].sum()) / total)
        else:
            shares.append(float(running[zeros - 1]) / total if zeros else 0.0)
    return np.array(shares)


def expert_sensitivities(
    component: Component,
    weights: Mapping[str, Tensor],
    statistics: Statistics,
    block_options: Sequence[BlockOptions],
) -> tuple[Floats, Floats]:
    """Estimate the sensitivity of pruning each expert, and of each of their block options.

    Each expert is taken to lose the channels that add least; a pattern counts as elsewhere; a
    lower top-k loses the square of the share of experts that no longer run, for those have the
    least routing weights.

    Args:
        component: The experts.
        weights: Their stacks by path.
        statistics: Of their layer.
        block_options: Those that they may have, the dense one first.

    Returns:
        ``(experts,)`` and ``(options,)``
    """
    experts = component.experts
    assert experts is not None
    channel_energy = statistics["expert_channel_energy", experts.holder]
    by_channel = output_energy(experts, weights, channel_energy).cpu()
    by_channel = by_channel / statistics["hidden_energy", ""]
    total = float(by_channel.sum())
    rising = by_channel.double().sort(dim=1).values.sum(dim=0).cumsum(dim=0).numpy()
    patterns = list(dict.fromkeys(options.pattern for options in block_options))
    lost = dict(
        zip(patterns, _lost_of_experts(experts, weights, statistics, patterns), strict=True)
    )
    sensitivities = []
    for options in block_options:
        pruned = experts.channel_count - options.channels if options.channels else 0
        idle = 1 - options.top_k / experts.top_k if options.top_k else 0.0
        narrow = rising[pruned - 1] if pruned else 0.0
        sensitivities.append(min(narrow + total * (idle**2 + lost[options.pattern]), total))
    return by_channel.double().sum(dim=1).numpy(), np.array(sensitivities)


def _lost_of_experts(
    experts: Experts,
    weights: Mapping[str, Tensor],
    statistics: Statistics,
    patterns: Sequence[SparsityPattern],
) -> Floats:
    """Compute the share of all experts' energy that each pattern removes, ``(patterns,)``."""
    lost = np.zeros(len(patterns))
    if len(patterns) == 1:
        return lost
    energies = {
        "up": statistics["expert_input_energy", experts.holder],
        "down": statistics["expert_channel_energy", experts.holder],
    }
    for stack, matrices in matrices_of(experts, weights):
        moments = energies[stack.role]
        shares = [lost_shares(m, e, patterns) for m, e in zip(matrices, moments, strict=True)]
        lost += np.mean(shares, axis=0)
    return np.minimum(lost, 1.0)
