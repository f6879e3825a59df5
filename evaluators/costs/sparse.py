"""What zeros save of a cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluators.costs.tally import Floats, Tally
from search_spaces.patterns import Pattern
from search_spaces.structure.linears import matrix
from search_spaces.structure.read import ModelStructure
from search_spaces.structure.sub_block import SubBlock


@dataclass(frozen=True)
class Zeros:
    """The zeros of one sparse matrix."""

    rows: int
    columns: int
    count: int


def tally_sparse(
    dense: Tally,
    structure: ModelStructure,
    patterns: Sequence[Pattern],
    saved: Callable[[Zeros], float],
) -> Tally:
    """Take what zeros save off a cost.

    Args:
        dense: The cost at each number of units kept.
        structure: The model.
        patterns: Of sparsity; the first is dense.
        saved: What the zeros of a matrix save.
    """
    tables = [
        np.concatenate([table - _saved(structure, block, pattern, saved) for pattern in patterns])
        for block, table in zip(structure.sub_blocks, dense.tables, strict=True)
    ]
    return replace(dense, tables=tuple(tables))


def _saved(
    structure: ModelStructure,
    block: SubBlock,
    pattern: Pattern,
    saved: Callable[[Zeros], float],
) -> Floats:
    """Give what a pattern saves at each number of units kept, ``(units + 1,)``."""
    savings = np.zeros(block.unit_count + 1)
    layer = structure.backbone.layers[block.layer]
    for projection in block.projections:
        rows, columns = matrix(layer.get_submodule(projection.path)).shape
        for count in range(block.unit_count + 1):
            share = count / block.unit_count
            high = round(rows * share) if projection.side == "rows" else rows
            wide = columns if projection.side == "rows" else round(columns * share)
            savings[count] += saved(Zeros(high, wide, pattern.zeros(high, wide)))
    return savings
