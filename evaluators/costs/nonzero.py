"""Parameters that are not zero, tied ones once."""

import numpy as np

from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats
from evaluators.costs.zeros import Zeros, sparse_table
from evaluators.metric import Metric
from search_spaces.structure.model import ModelStructure

NONZERO = Metric(
    name="nonzero",
    unit="parameters",
    direction="minimise",
    source="parameters but for those that sparsity sets to zero",
)


def nonzero_table(
    params: CostTable, structure: ModelStructure, block_options: ComponentOptions
) -> CostTable:
    """Subtract the zeros of sparse matrices from the parameters ``params``."""

    def saved(zeros: Zeros) -> Floats:
        return zeros.count.astype(np.float64)

    return sparse_table(params, structure, block_options, saved)
