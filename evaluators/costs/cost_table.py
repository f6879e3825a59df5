"""The shape of a cost: what each component costs in each form, and what each standing layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Configurations
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

Floats = NDArray[np.float64]
Variants = Sequence[Sequence[BlockOptions]]
"""For each component how it may be thinned out, the dense way first."""
Weigh = Callable[[Tensor], float]
"""What one weight tensor costs; must be proportional to its size."""


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """One cost metric of one model, taken apart."""

    tables: tuple[Floats, ...]
    """For each component its cost in each form, ``(configurations,)``: at each number of units
    kept, and so again for each further variant."""
    shared: Floats
    """For each layer that is not gone: what no component owns alone, ``(layers,)``."""
    rest: float
    """For everything outside the layers."""


def tabulated(
    structure: ModelStructure,
    block_options: Variants,
    table: Callable[[Component, Sequence[BlockOptions]], Floats],
) -> tuple[Floats, ...]:
    """Give the table of each component, as a `CostTable` holds it; equal ones are one array.

    Args:
        structure: The model.
        block_options: For each component how it may be thinned out.
        table: Gives the costs of a component in its variants, which broadcast to
            ``(block_options, units + 1)``: a row alone where they cost the same.
    """
    known: dict[bytes, Floats] = {}
    found = []
    for component, own in zip(structure.components, block_options, strict=True):
        costs = np.broadcast_to(table(component, own), (len(own), component.unit_count + 1))
        found.append(known.setdefault(costs.tobytes(), costs.ravel()))
    return tuple(found)


def proportional(unit_count: int, each: float, standing: float = 0.0) -> Floats:
    """Give a table ``(units + 1,)``: so much for each unit, and so much for keeping any."""
    kept = np.arange(unit_count + 1)
    table: Floats = each * kept + standing * (kept > 0)
    return table


def total(tally: CostTable, structure: ModelStructure, configurations: Configurations) -> Floats:
    """Add up the cost of candidates.

    Args:
        tally: The cost, taken apart.
        structure: The model.
        configurations: ``(candidates, components)``

    Returns:
        ``(candidates,)``
    """
    lasting = np.array([not layer.vanishes for layer in structure.layers])
    starts = [span.start for span in structure.spans]
    there = np.logical_or.reduceat(configurations > 0, starts, axis=1) | lasting
    costs: Floats = there @ tally.shared + tally.rest
    for table, configuration in zip(tally.tables, configurations.T, strict=True):
        costs += table[configuration]
    return costs
