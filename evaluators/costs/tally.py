"""The shape of a cost: what each sub-block costs at each width, and what each standing layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from search_spaces.forms import Forms
from search_spaces.structure.read import ModelStructure
from search_spaces.variants import Variant

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """One cost metric of one model, taken apart."""

    tables: tuple[Floats, ...]
    """For each sub-block its cost in each form, ``(forms,)``: at each number of units kept, and so
    again for each further pattern of sparsity."""
    shared: Floats
    """For each layer that is not gone: what neither sub-block owns alone, ``(layers,)``."""
    rest: float
    """For everything outside the layers."""

    def repeated(self, variants: Sequence[Sequence[Variant]]) -> "Tally":
        """Give a cost that takes no notice of how sub-blocks are thinned out."""
        tables = zip(self.tables, variants, strict=True)
        return replace(self, tables=tuple(np.tile(table, len(own)) for table, own in tables))


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
