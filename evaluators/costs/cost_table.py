"""The shape of a cost: what each sub-block costs in each form, and what each standing layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.space.block_options import Variant
from search_spaces.space.configuration import Forms
from search_spaces.structure.components import SubBlock
from search_spaces.structure.model import ModelStructure

Floats = NDArray[np.float64]
Variants = Sequence[Sequence[Variant]]
"""For each sub-block how it may be thinned out, the dense way first."""
Weigh = Callable[[Tensor], float]
"""What one weight tensor costs; must be proportional to its size."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """One cost metric of one model, taken apart."""

    tables: tuple[Floats, ...]
    """For each sub-block its cost in each form, ``(forms,)``: at each number of units kept, and so
    again for each further variant."""
    shared: Floats
    """For each layer that is not gone: what no sub-block owns alone, ``(layers,)``."""
    rest: float
    """For everything outside the layers."""


def tabulated(
    structure: ModelStructure,
    variants: Variants,
    table: Callable[[SubBlock, Sequence[Variant]], Floats],
) -> tuple[Floats, ...]:
    """Give the table of each sub-block, as a `Tally` holds it; equal ones are one array.

    Args:
        structure: The model.
        variants: For each sub-block how it may be thinned out.
        table: Gives the costs of a sub-block in its variants, which broadcast to
            ``(variants, units + 1)``: a row alone where they cost the same.
    """
    known: dict[bytes, Floats] = {}
    found = []
    for block, own in zip(structure.sub_blocks, variants, strict=True):
        costs = np.broadcast_to(table(block, own), (len(own), block.unit_count + 1))
        found.append(known.setdefault(costs.tobytes(), costs.ravel()))
    return tuple(found)


def proportional(unit_count: int, each: float, standing: float = 0.0) -> Floats:
    """Give a table ``(units + 1,)``: so much for each unit, and so much for keeping any."""
    kept = np.arange(unit_count + 1)
    table: Floats = each * kept + standing * (kept > 0)
    return table


def total(tally: Tally, structure: ModelStructure, forms: Forms) -> Floats:
    """Add up the cost of candidates.

    Args:
        tally: The cost, taken apart.
        structure: The model.
        forms: ``(candidates, sub_blocks)``

    Returns:
        ``(candidates,)``
    """
    lasting = np.array([not layer.vanishes for layer in structure.layers])
    starts = [span.start for span in structure.spans]
    there = np.logical_or.reduceat(forms > 0, starts, axis=1) | lasting
    costs: Floats = there @ tally.shared + tally.rest
    for table, form in zip(tally.tables, forms.T, strict=True):
        costs += table[form]
    return costs
