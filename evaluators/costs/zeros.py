"""Savings of a cost by zeros."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats, tabulated
from evaluators.costs.kept_counts import KeptCounts
from evaluators.costs.matrix_bytes import stored_bytes
from search_spaces.pruned_weights.bitmask import mask_bytes
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True)
class Zeros:
    """The zeros of one sparse matrix in some configurations; arrays of one shape."""

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    count: NDArray[np.int_]
    itemsize: int
    """Bytes of each of its numbers in the dense model."""
    options: BlockOptions

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int_],
        columns: NDArray[np.int_],
        itemsize: int,
        options: BlockOptions,
    ) -> "Zeros":
        """Count the zeros of a matrix under some options."""
        rows, columns = np.broadcast_arrays(rows, columns)
        zeros = rows * options.pattern.zeros_each_row(columns)
        return cls(rows, columns, zeros, itemsize, options)

    @property
    def all_bytes(self) -> NDArray[np.int_]:
        """Bytes of all its weights, zeros too."""
        return stored_bytes(self.options.format, self.rows, self.columns, self.itemsize)

    @property
    def packed_bytes(self) -> NDArray[np.int_]:
        """Bytes of a bit for each weight, and of all but those of the zeros."""
        bits = self.options.format.weight_bits or 8 * self.itemsize
        return self.all_bytes + mask_bytes(self.rows, self.columns) - self.count * bits // 8


Saved = Callable[[Zeros], Floats]
"""Computes what the zeros of a matrix save."""


def sparse_table(
    dense: CostTable, structure: ModelStructure, block_options: ComponentOptions, saved: Saved
) -> CostTable:
    """Subtract from a cost what zeros save.

    Args:
        dense: The cost in each configuration without zeros.
        structure: The model.
        block_options: For each component its options, the dense one first.
        saved: Computes what the zeros of a matrix save.
    """

    def table(component: Component, component_options: Sequence[BlockOptions]) -> Floats:
        weights = component.unit_weights(structure.backbone.layers[component.layer])
        kept = KeptCounts.of(component, component_options)
        savings = np.zeros((len(component_options), component.unit_count + 1))
        for weight in weights:
            for index, options in enumerate(component_options if weight.role == "matrix" else ()):
                copies, rows, columns = kept.shape(weight, index)
                zeros = Zeros.of(rows, columns, weight.tensor.itemsize, options)
                savings[index] += copies * saved(zeros)
        return savings

    savings = tabulated(structure, block_options, table)
    return replace(dense, tables=tuple(map(np.subtract, dense.tables, savings)))
