"""The shape of a cost: what each sub-block costs at each width, and what each standing layer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.structure.read import ModelStructure

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """One cost metric of one model, taken apart."""

    tables: tuple[Floats, ...]
    """For each sub-block its cost at each number of units kept, ``(units + 1,)``."""
    shared: Floats
    """For each layer that is not gone: what neither sub-block owns alone, ``(layers,)``."""
    rest: float
    """For everything outside the layers."""


def proportional(unit_count: int, each: float, standing: float = 0.0) -> Floats:
    """Give a table ``(units + 1,)``: so much for each unit, and so much for keeping any."""
    kept = np.arange(unit_count + 1)
    table: Floats = each * kept + standing * (kept > 0)
    return table


def total(tally: Tally, structure: ModelStructure, counts: NDArray[np.int_]) -> Floats:
    """Add up the cost of candidates.

    Args:
        tally: The cost, taken apart.
        structure: The model.
        counts: Kept units, ``(candidates, sub_blocks)``.

    Returns:
        ``(candidates,)``
    """
    lasting = np.array([not layer.vanishes for layer in structure.layers])
    there = (counts > 0).reshape(len(counts), -1, 2).any(axis=2) | lasting
    costs: Floats = there @ tally.shared + tally.rest
    for table, kept in zip(tally.tables, counts.T, strict=True):
        costs += table[kept]
    return costs
