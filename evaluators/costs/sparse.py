"""What zeros save of a cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.tally import Floats, Tally
from search_spaces.patterns import Pattern
from search_spaces.structure.linears import matrix
from search_spaces.structure.read import ModelStructure
from search_spaces.structure.sub_block import SubBlock


@dataclass(frozen=True)
class Zeros:
    """The zeros of one sparse matrix at each number of units kept, all ``(units + 1,)``."""

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    count: NDArray[np.int_]


def tally_sparse(
    dense: Tally,
    structure: ModelStructure,
    patterns: Sequence[Pattern],
    saved: Callable[[Zeros], Floats],
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
    saved: Callable[[Zeros], Floats],
) -> Floats:
    """Give what a pattern saves at each number of units kept, ``(units + 1,)``."""
    savings = np.zeros(block.unit_count + 1)
    layer = structure.backbone.layers[block.layer]
    kept = np.arange(block.unit_count + 1)
    for projection in block.projections:
        rows, columns = matrix(layer.get_submodule(projection.path)).shape
        each, whole = len(projection.units) // block.unit_count, np.ones_like(kept)
        high, wide = each * kept, each * kept
        high, wide = (high, columns * whole) if projection.side == "rows" else (rows * whole, wide)
        savings += saved(Zeros(high, wide, high * pattern.zeros_each_row(wide)))
    return savings
