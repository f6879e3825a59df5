"""The shape of an exact cost: so much for each unit kept, so much for each part that stands."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.structure.read import ModelStructure

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """One cost metric of one model, taken apart."""

    each: Floats
    """For each unit kept, ``(sub_blocks,)``."""
    standing: Floats
    """For each sub-block that keeps any unit, ``(sub_blocks,)``."""
    shared: Floats
    """For each layer that is not gone: norms that neither sub-block owns, ``(layers,)``."""
    rest: float
    """For everything outside the layers."""


def total(tally: Tally, structure: ModelStructure, counts: NDArray[np.int_]) -> Floats:
    """Add up the cost of candidates.

    Args:
        tally: The cost, taken apart.
        structure: The model.
        counts: Kept units, ``(candidates, sub_blocks)``.

    Returns:
        ``(candidates,)``
    """
    stands = counts > 0
    lasting = np.array([not layer.vanishes for layer in structure.layers])
    there = stands.reshape(len(counts), -1, 2).any(axis=2) | lasting
    costs: Floats = counts @ tally.each + stands @ tally.standing + there @ tally.shared
    return costs + tally.rest
