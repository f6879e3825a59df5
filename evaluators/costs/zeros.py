"""What zeros save of a cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evaluators.costs.cost_table import Floats, Tally, Variants, tabulated
from evaluators.costs.mixture import MixtureForms, expert_matrix
from search_spaces.space.block_options import Variant
from search_spaces.space.sparsity import Pattern
from search_spaces.structure.components import SubBlock
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
    def of(cls, rows: NDArray[np.int_], columns: NDArray[np.int_], pattern: Pattern) -> "Zeros":
        """Count those of a pattern."""
        rows, columns = np.broadcast_arrays(rows, columns)
        return cls(rows, columns, rows * pattern.zeros_each_row(columns))


Saved = Callable[[Zeros], Floats]
"""What the zeros of a matrix save."""


def tally_sparse(
    dense: Tally, structure: ModelStructure, variants: Variants, saved: Saved
) -> Tally:
    """Take what zeros save off a cost.

    Args:
        dense: The cost in each form, had it no zeros.
        structure: The model.
        variants: For each sub-block how it may be thinned out.
        saved: What the zeros of a matrix save.
    """

    def table(block: SubBlock, own: Sequence[Variant]) -> Floats:
        layer = structure.backbone.layers[block.layer]
        if block.experts is not None:
            return _saved_of_experts(layer, block, block.experts, own, saved)
        return np.array([_saved(layer, block, variant.pattern, saved) for variant in own])

    savings = tabulated(structure, variants, table)
    return replace(dense, tables=tuple(map(np.subtract, dense.tables, savings)))


def _saved(layer: nn.Module, block: SubBlock, pattern: Pattern, saved: Saved) -> Floats:
    """Give what a pattern saves at each number of units kept, ``(units + 1,)``."""
    savings = np.zeros(block.unit_count + 1)
    kept = np.arange(block.unit_count + 1)
    for projection in block.projections:
        rows, columns = matrix(layer.get_submodule(projection.path)).shape
        each = len(projection.units) // block.unit_count * kept
        high, wide = (each, columns) if projection.side == "rows" else (rows, each)
        savings += saved(Zeros.of(np.array(high), np.array(wide), pattern))
    return savings


def _saved_of_experts(
    layer: nn.Module,
    block: SubBlock,
    experts: Experts,
    variants: Sequence[Variant],
    saved: Saved,
) -> Floats:
    """Give what patterns save of experts in each form, ``(variants, units + 1)``."""
    forms = MixtureForms.of(block, experts, variants)
    _, high, columns = expert_matrix(layer, experts, "up").shape
    _, rows, _ = expert_matrix(layer, experts, "down").shape
    high //= experts.channel_count  # a gate's row and an input's for each channel
    savings = np.zeros(len(variants))
    for index, (variant, (channels,)) in enumerate(zip(variants, forms.channels, strict=True)):
        for shape in ((high * channels, columns), (rows, channels)):
            zeros = Zeros.of(np.array(shape[0]), np.array(shape[1]), variant.pattern)
            savings[index] += float(saved(zeros))
    return np.asarray(forms.kept * savings[:, None])
