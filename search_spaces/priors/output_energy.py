"""The energy that the hidden states lose by zeros, by rounding, by narrower and fewer members."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import NumberFormat
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import Statistics
from search_spaces.structure.components import Component

Floats = NDArray[np.float64]

OF_ENDS: Statistics = {("hidden_energy", ""): torch.ones(())}
"""Of what is in no layer: an embedding makes up all of the hidden states, a head all logits."""
_ROUNDING = 1.4
"""Of 32 normal weights the largest squared is 4.3 times their mean square; a third of that, times
the square of the step as a share of the range, is lost by rounding."""
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


def lost_by_rounding(number_format: NumberFormat) -> float:
    """Return the share of a matrix's output energy that rounding to a number format removes.

    >>> from search_spaces.space.number_format import FORMATS
    >>> [round(lost_by_rounding(FORMATS[name]), 4) for name in ("Q8_0", "Q4_K", "source")]
    [0.0, 0.0055, 0.0]
    """
    bits = number_format.weight_bits
    return min(_ROUNDING * 4.0**-bits, 1.0) if bits else 0.0


def option_sensitivities(
    component: Component,
    weights: Mapping[str, Tensor],
    statistics: Statistics,
    block_options: Sequence[BlockOptions],
) -> tuple[Floats, Floats]:
    """Estimate the sensitivity of pruning each member, and of each of the block options.

    A member loses the energy that it adds to the hidden states, and narrow members the channels
    that add least; a pattern loses the share of the energy that `lost_shares` says, summed over
    the matrices; a number format what rounding to so many bits loses, of keys and values too; a
    lower top-k the square of the share of members that no longer run, for those have the least
    routing weights.

    Args:
        component: The component.
        weights: As its `weights`, in float32.
        statistics: Of its layer.
        block_options: Those that it may have, the dense one first.

    Returns:
        ``(members,)`` and ``(options,)``
    """
    by_channel = component.output_energy(weights, statistics).cpu()  # (members, channels)
    by_channel = by_channel / statistics["hidden_energy", ""]
    total = float(by_channel.sum())
    rising = by_channel.double().sort(dim=1).values.sum(dim=0).cumsum(dim=0).numpy()
    patterns = list(dict.fromkeys(options.pattern for options in block_options))
    lost = dict(
        zip(patterns, _lost_by_zeros(component, weights, statistics, patterns), strict=True)
    )
    sensitivities = []
    for options in block_options:
        pruned = component.channel_count - options.channels if options.channels else 0
        idle = 1 - options.top_k / component.top_k if options.top_k else 0.0
        narrow = rising[pruned - 1] if pruned else 0.0
        rounded = lost_by_rounding(options.format) + lost_by_rounding(options.cache)
        shares = idle**2 + lost[options.pattern] + rounded
        sensitivities.append(min(narrow + total * shares, total))
    return by_channel.double().sum(dim=1).numpy(), np.array(sensitivities)


def _lost_by_zeros(
    component: Component,
    weights: Mapping[str, Tensor],
    statistics: Statistics,
    patterns: Sequence[SparsityPattern],
) -> Floats:
    """Compute the share of a component's energy that each pattern removes, ``(patterns,)``."""
    lost = np.zeros(len(patterns))
    if len(patterns) == 1:
        return lost
    for matrices, moments in component.matrix_inputs(weights, statistics):
        shares = [lost_shares(m, e, patterns) for m, e in zip(matrices, moments, strict=True)]
        lost += np.mean(shares, axis=0)
    return np.minimum(lost, 1.0)
