"""Savings of a cost by zeros."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats, tabulated
from evaluators.costs.mixture import MixtureConfigurations, expert_matrix
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.components import Component
from search_spaces.structure.experts import Experts
from search_spaces.structure.linear import matrix
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True)
class Zeros:
    """The zeros of one sparse matrix in some configurations; arrays of one shape."""

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    count: NDArray[np.int_]
    itemsize: int
    """Bytes of each of its numbers."""

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int_],
        columns: NDArray[np.int_],
        itemsize: int,
        pattern: SparsityPattern,
    ) -> "Zeros":
        """Count the zeros of a pattern."""
        rows, columns = np.broadcast_arrays(rows, columns)
        return cls(rows, columns, rows * pattern.zeros_each_row(columns), itemsize)


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
        layer = structure.backbone.layers[component.layer]
        if component.experts is not None:
            return _saved_of_experts(layer, component, component.experts, component_options, saved)
        return np.array(
            [_saved(layer, component, options.pattern, saved) for options in component_options]
        )

    savings = tabulated(structure, block_options, table)
    return replace(dense, tables=tuple(map(np.subtract, dense.tables, savings)))


def _saved(
    layer: nn.Module, component: Component, pattern: SparsityPattern, saved: Saved
) -> Floats:
    """Return what a pattern saves at each number of units kept, ``(units + 1,)``."""
    savings = np.zeros(component.unit_count + 1)
    kept_counts = np.arange(component.unit_count + 1)
    for projection in component.projections:
        weight = matrix(layer.get_submodule(projection.path))
        rows, columns = weight.shape
        features = len(projection.units) // component.unit_count * kept_counts
        shape = (features, columns) if projection.side == "rows" else (rows, features)
        zeros = Zeros.of(np.array(shape[0]), np.array(shape[1]), weight.itemsize, pattern)
        savings += saved(zeros)
    return savings


def _saved_of_experts(
    layer: nn.Module,
    component: Component,
    experts: Experts,
    block_options: Sequence[BlockOptions],
    saved: Saved,
) -> Floats:
    """Return what patterns save of experts in each configuration, ``(options, units + 1)``."""
    configurations = MixtureConfigurations.of(component, experts, block_options)
    up, down = (expert_matrix(layer, experts, role) for role in ("up", "down"))
    (_, high, columns), (_, rows, _) = up.shape, down.shape
    high //= experts.channel_count  # rows of a channel: one of its input, one of its gate
    savings = np.zeros(len(block_options))
    for index, (options, (channels,)) in enumerate(
        zip(block_options, configurations.channels, strict=True)
    ):
        shapes = (high * channels, columns, up.itemsize), (rows, channels, down.itemsize)
        for height, width, itemsize in shapes:
            zeros = Zeros.of(np.array(height), np.array(width), itemsize, options.pattern)
            savings[index] += float(saved(zeros))
    return np.asarray(configurations.kept * savings[:, None])
