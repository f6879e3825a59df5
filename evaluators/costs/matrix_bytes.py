"""Matrices as they are stored: in a number format, with zeros; and what they save of a cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats, tabulated
from evaluators.costs.kept_counts import KeptCounts
from search_spaces.pruned_weights.bitmask import mask_bytes
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.formats.component_formats import asked_of
from search_spaces.space.number_format import FORMATS, STORED, NumberFormat
from search_spaces.structure.components import Component, UnitWeight

Counts = NDArray[np.int_]


@dataclass(frozen=True, kw_only=True)
class StoredMatrix:
    """One matrix of a component with some options, at each width; arrays of one shape."""

    rows: Counts
    columns: Counts
    zeros: Counts
    """Of its weights."""
    itemsize: int
    """Bytes of each of its numbers in the dense model."""
    format: NumberFormat
    """That is asked for, of what came from a quantised file as it came."""
    anew: NumberFormat
    """The same of what is made anew."""
    is_anew: NDArray[np.bool_]

    @property
    def dense_bytes(self) -> Counts:
        """Bytes of all its weights in the dense model's number format."""
        return self.rows * self.columns * self.itemsize

    @property
    def all_bytes(self) -> Counts:
        """Bytes of all its weights, zeros too."""
        came, anew = (
            stored_bytes(each, self.rows, self.columns, self.itemsize)
            for each in (self.format, self.anew)
        )
        return np.where(self.is_anew, anew, came)

    @property
    def packed_bytes(self) -> Counts:
        """Bytes of a bit for each weight, and of all but those of the zeros."""
        bits = _weight_bits(self.anew, self.columns, self.itemsize)
        return self.all_bytes + mask_bytes(self.rows, self.columns) - self.zeros * bits // 8


def stored_bytes(
    number_format: NumberFormat, rows: Counts, columns: Counts, itemsize: int
) -> Counts:
    """Return the bytes of matrices where a number format is asked for.

    Each is in the format that holds it, as `NumberFormat.held` says.

    Args:
        number_format: That is asked for.
        rows: Outputs of each matrix.
        columns: Inputs of each matrix, in the same shape.
        itemsize: Bytes of a number of the dense model.
    """
    dense = rows * columns * itemsize
    if number_format == STORED:
        return dense
    fallback = FORMATS.get(number_format.fallback)
    others = dense if fallback is None else stored_bytes(fallback, rows, columns, itemsize)
    fitting = number_format.bytes_of(rows, columns) * (dense > 0)
    return np.where(columns % number_format.block == 0, fitting, others)


def _weight_bits(number_format: NumberFormat, columns: Counts, itemsize: int) -> Counts:
    """Return the bits of each weight in the format that holds a matrix, scales apart."""
    if number_format == STORED:
        return np.full_like(columns, 8 * itemsize)
    others = _weight_bits(FORMATS.get(number_format.fallback, STORED), columns, itemsize)
    return np.where(columns % number_format.block == 0, number_format.weight_bits, others)


Saved = Callable[[StoredMatrix], Counts]
"""Computes what storing a matrix as it is saves."""
Counted = Callable[[UnitWeight], bool]
"""Whether a weight counts."""


def _matrix(weight: UnitWeight) -> bool:
    return weight.role == "matrix"


def savings(
    model: CostedModel, saved: Saved, *, running: bool = False, counted: Counted = _matrix
) -> tuple[Floats, ...]:
    """Tabulate what components save by how their matrices are stored, as a `CostTable` has it.

    Args:
        model: The model.
        saved: Computes what a matrix saves.
        running: Whether members count only where they run for a token.
        counted: Which weights count.
    """

    def table(component: Component, block_options: Sequence[BlockOptions]) -> Floats:
        kept = KeptCounts.of(component, block_options)
        table = np.zeros((len(block_options), component.unit_count + 1))
        for weight in filter(counted, component.unit_weights(model.on_disk.owner(component))):
            for index in range(len(block_options)):
                copies, matrix = _stored(model, kept, weight, block_options[index], index)
                if running and weight.is_stacked:
                    copies = kept.running[index]
                table[index] += copies * saved(matrix)
        return table

    return tabulated(model.on_disk, model.block_options, table)


def less(dense: CostTable, saved: tuple[Floats, ...]) -> CostTable:
    """Subtract from a cost what its components save."""
    return replace(dense, tables=tuple(map(np.subtract, dense.tables, saved)))


def _stored(
    model: CostedModel, kept: KeptCounts, weight: UnitWeight, options: BlockOptions, index: int
) -> tuple[Counts, StoredMatrix]:
    """Return how many matrices of a weight there are at each width, and what they are like."""
    copies, rows, columns = kept.shape(weight, index)
    rows, columns = np.broadcast_arrays(rows, columns)
    name = model.on_disk.tensor_name(kept.component, weight.path)
    source = model.sources.get(name, STORED)
    stands_in = bool(options.stand_in) and weight.side == "columns"  # with its output projection
    is_cut = columns < weight.tensor.shape[-1]
    return copies, StoredMatrix(
        rows=rows,
        columns=columns,
        zeros=rows * options.pattern.zeros_each_row(columns),
        itemsize=weight.tensor.itemsize,
        format=asked_of(options.format, source),
        anew=asked_of(options.format, source, is_anew=True),
        is_anew=is_cut | stands_in | (not options.pattern.is_dense),
    )
