"""Parameters that are not zero, tied ones once."""

import numpy as np

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats
from evaluators.costs.zeros import Zeros, sparse_table


def nonzero_table(model: CostedModel) -> CostTable:
    """Subtract the zeros of sparse matrices from the parameters."""

    def saved(zeros: Zeros) -> Floats:
        return zeros.count.astype(np.float64)

    return sparse_table(model.table("params"), model.structure, model.block_options, saved)
