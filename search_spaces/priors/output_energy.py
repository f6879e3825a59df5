"""What zeros, and thinner experts, take of the energy that goes to the hidden states."""

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
"""Of each matrix, spread evenly: enough for a share of its energy."""


def lost_shares(weight: Tensor, moment: Tensor, patterns: Sequence[SparsityPattern]) -> Floats:
    """Give the share of a matrix's output energy that each pattern takes, ``(patterns,)``.

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
            whole = terms[:, : terms.shape[1] // pattern.group * pattern.group]
            groups = whole.reshape(len(terms), -1, pattern.group).sort(dim=2).values
            shares.append(float(groups[:, :, : pattern.group - pattern.keep].sum()) / total)
        else:
            shares.append(float(running[zeros - 1]) / total if zeros else 0.0)
    return np.array(shares)


def expert_prior(
    component: Component,
    weights: Mapping[str, Tensor],
    known: Statistics,
    block_options: Sequence[BlockOptions],
) -> tuple[Floats, Floats]:
    """Guess what losing each expert does, and each way to thin them out.

    Of channels, each expert is taken to lose those that add least; of a pattern, as elsewhere; of
    fewer that run, the square of the share that no longer does, for the last ones weigh least.

    Args:
        component: The experts.
        weights: Their stacks by path.
        known: Statistics of their layer.
        block_options: How they may be thinned out, the dense way first.

    Returns:
        ``(experts,)`` and ``(block_options,)``
    """
    experts = component.experts
    assert experts is not None
    measured = known["expert_channel_energy", experts.holder]
    by_channel = output_energy(experts, weights, measured).cpu() / known["hidden_energy", ""]
    whole = float(by_channel.sum())
    rising = by_channel.double().sort(dim=1).values.sum(dim=0).cumsum(dim=0).numpy()
    patterns = list(dict.fromkeys(options.pattern for options in block_options))
    lost = dict(zip(patterns, _lost_of_experts(experts, weights, known, patterns), strict=True))
    sensitivities = []
    for options in block_options:
        gone = experts.channel_count - options.channels if options.channels else 0
        idle = 1 - options.top_k / experts.top_k if options.top_k else 0.0
        narrow = rising[gone - 1] if gone else 0.0
        sensitivities.append(min(narrow + whole * (idle**2 + lost[options.pattern]), whole))
    return by_channel.double().sum(dim=1).numpy(), np.array(sensitivities)


def _lost_of_experts(
    experts: Experts,
    weights: Mapping[str, Tensor],
    known: Statistics,
    patterns: Sequence[SparsityPattern],
) -> Floats:
    """Give the share of all experts' energy that each pattern takes, ``(patterns,)``."""
    lost = np.zeros(len(patterns))
    if len(patterns) == 1:
        return lost
    energies = {
        "up": known["expert_input_energy", experts.holder],
        "down": known["expert_channel_energy", experts.holder],
    }
    for stack, matrices in matrices_of(experts, weights):
        moments = energies[stack.role]
        shares = [lost_shares(m, e, patterns) for m, e in zip(matrices, moments, strict=True)]
        lost += np.mean(shares, axis=0)
    return np.minimum(lost, 1.0)
