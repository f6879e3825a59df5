"""Active parameters: of the experts, those that run for a token."""

from torch import Tensor

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.weight_count import Counted, weight_table


def active_table(model: CostedModel) -> CostTable:
    """Count the parameters active for one token, the router and the shared expert included."""
    counted = Counted(adds_bias=model.adds_bias, running=True)
    return weight_table(model.structure, model.block_options, Tensor.numel, counted)
