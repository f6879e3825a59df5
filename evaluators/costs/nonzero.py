"""Parameters that are not zero, tied ones once."""

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.matrix_bytes import less, savings


def nonzero_table(model: CostedModel) -> CostTable:
    """Subtract the zeros of sparse matrices from the parameters."""
    return less(model.table("params"), savings(model, lambda matrix: matrix.zeros))
