"""Bytes of weights with sparse matrices packed: a bit for each weight, and the non-zero ones.

No runtime gets faster by it, and few load it: it is the size of a packed file on disk.
"""

import numpy as np

from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats
from evaluators.costs.zeros import Zeros, sparse_table
from evaluators.metric import Metric
from search_spaces.pruned_weights.bitmask import packed_bytes
from search_spaces.structure.model import ModelStructure

PACKED = Metric(
    name="packed",
    unit="bytes",
    direction="minimise",
    source="tensor data with sparse matrices as bitmask and values, N:M ones too",
)


def packed_table(
    size: CostTable, stored: ModelStructure, block_options: ComponentOptions
) -> CostTable:
    """Subtract what packing saves from the bytes ``size``; a matrix is packed only if it helps."""

    def saved(zeros: Zeros) -> Floats:
        plain = zeros.rows * zeros.columns * zeros.itemsize
        packed = packed_bytes(zeros.rows, zeros.columns, zeros.count, zeros.itemsize)
        return np.asarray(np.maximum(0.0, plain - packed), np.float64)

    return sparse_table(size, stored, block_options, saved)
