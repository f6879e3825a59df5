"""A first guess at what losing a unit does to the model, before any candidate is scored."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.rankings.wanda import Wanda
from search_spaces.statistics import Statistics
from search_spaces.structure.read import ModelStructure

HARM_STATISTICS = Wanda.statistics
"""What must be collected before `relative_energies` is asked."""


def relative_energies(
    structure: ModelStructure, statistics: Sequence[Statistics]
) -> tuple[NDArray[np.float64], ...]:
    """Give the energy that each unit adds to the hidden states, relative to theirs.

    Hidden states grow from layer to layer, so that the same energy does less harm later; the ratio
    can be compared across layers, and between heads and channels. Additive over units, hence a
    guess.

    Args:
        structure: The dense model, not permuted yet.
        statistics: Of each layer.

    Returns:
        For each sub-block ``(units,)``, in the model's own order.
    """
    found = []
    for block, weights in structure.matrices():
        energy = Wanda().importance(block, weights, statistics[block.layer])
        ratio = energy / statistics[block.layer]["hidden_energy", ""]
        found.append(ratio.double().cpu().numpy())
    return tuple(found)
