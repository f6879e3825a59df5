"""Bytes of active weights: of the experts, those that run for a token."""

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.matrix_bytes import less, savings
from evaluators.costs.size import saved_by_format, tensor_table


def active_size_table(model: CostedModel) -> CostTable:
    """Count the bytes of what is active for one token, the router and the shared expert too."""
    saved = savings(model, saved_by_format, running=True)
    return less(tensor_table(model, running=True), saved)
