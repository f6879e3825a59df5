"""Parameters, tied ones once."""

from torch import Tensor

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.weight_count import Counted, weight_table


def params_table(model: CostedModel) -> CostTable:
    """Count parameters."""
    counted = Counted(adds_bias=model.adds_bias)
    return weight_table(model.structure, model.block_options, Tensor.numel, counted)
