"""Bytes of weights with sparse matrices packed: a bit for each weight, and the non-zero ones.

No runtime gets faster by it, and few load it: it is the size of a packed file on disk.
"""

import numpy as np

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats
from evaluators.costs.zeros import Zeros, sparse_table


def packed_table(model: CostedModel) -> CostTable:
    """Subtract what packing saves from the bytes; a matrix is packed only if it helps."""

    def saved(zeros: Zeros) -> Floats:
        return np.asarray(np.maximum(0.0, zeros.all_bytes - zeros.packed_bytes), np.float64)

    return sparse_table(model.table("size"), model.on_disk, model.block_options, saved)
