"""What zeros save of a cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evaluators.costs.cost_table import CostTable, Floats, Variants, tabulated
from evaluators.costs.mixture import MixtureForms, expert_matrix
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.components import Component
from search_spaces.structure.experts import Experts
from search_spaces.structure.linear import matrix
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True)
class Zeros:
    """The zeros of one sparse matrix in some forms, all of one shape."""

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    count: NDArray[np.int_]

    @classmethod
    def of(
        cls, rows: NDArray[np.int_], columns: NDArray[np.int_], pattern: SparsityPattern
    ) -> "Zeros":
        """Count those of a pattern."""
        rows, columns = np.broadcast_arrays(rows, columns)
        return cls(rows, columns, rows * pattern.zeros_each_row(columns))


Saved = Callable[[Zeros], Floats]
"""What the zeros of a matrix save."""


def tally_sparse(
    dense: CostTable, structure: ModelStructure, block_options: Variants, saved: Saved
) -> CostTable:
    """Take what zeros save off a cost.

    Args:
        dense: The cost in each form, had it no zeros.
        structure: The model.
        block_options: For each component how it may be thinned out.
        saved: What the zeros of a matrix save.
    """

    def table(component: Component, own: Sequence[BlockOptions]) -> Floats:
        layer = structure.backbone.layers[component.layer]
        if component.experts is not None:
            return _saved_of_experts(layer, component, component.experts, own, saved)
        return np.array([_saved(layer, component, options.pattern, saved) for options in own])

    savings = tabulated(structure, block_options, table)
    return replace(dense, tables=tuple(map(np.subtract, dense.tables, savings)))


def _saved(
    layer: nn.Module, component: Component, pattern: SparsityPattern, saved: Saved
) -> Floats:
    """Give what a pattern saves at each number of units kept, ``(units + 1,)``."""
    savings = np.zeros(component.unit_count + 1)
    kept = np.arange(component.unit_count + 1)
    for projection in component.projections:
        rows, columns = matrix(layer.get_submodule(projection.path)).shape
        each = len(projection.units) // component.unit_count * kept
        high, wide = (each, columns) if projection.side == "rows" else (rows, each)
        savings += saved(Zeros.of(np.array(high), np.array(wide), pattern))
    return savings


def _saved_of_experts(
    layer: nn.Module,
    component: Component,
    experts: Experts,
    block_options: Sequence[BlockOptions],
    saved: Saved,
) -> Floats:
    """Give what patterns save of experts in each form, ``(block_options, units + 1)``."""
    configurations = MixtureForms.of(component, experts, block_options)
    _, high, columns = expert_matrix(layer, experts, "up").shape
    _, rows, _ = expert_matrix(layer, experts, "down").shape
    high //= experts.channel_count  # a gate's row and an input's for each channel
    savings = np.zeros(len(block_options))
    for index, (options, (channels,)) in enumerate(
        zip(block_options, configurations.channels, strict=True)
    ):
        for shape in ((high * channels, columns), (rows, channels)):
            zeros = Zeros.of(np.array(shape[0]), np.array(shape[1]), options.pattern)
            savings[index] += float(saved(zeros))
    return np.asarray(configurations.kept * savings[:, None])
