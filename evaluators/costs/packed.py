"""Bytes of weights with sparse matrices packed: a bit for each weight, and the non-zero ones.

No runtime gets faster by it, and few load it: it is the size of a packed file on disk.
"""

import numpy as np

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.matrix_bytes import Counts, StoredMatrix, less, savings


def packed_table(model: CostedModel) -> CostTable:
    """Subtract what packing saves from the bytes; a matrix is packed only if it helps."""

    def saved(matrix: StoredMatrix) -> Counts:
        saving: Counts = np.maximum(0, matrix.all_bytes - matrix.packed_bytes)
        return saving

    return less(model.table("size"), savings(model, saved))
