"""Active parameters: of the experts, those that run for a token."""

from torch import Tensor

from evaluators.costs.cost_table import ComponentOptions, CostTable
from evaluators.costs.weight_count import Counted, weight_table
from evaluators.metric import Metric
from search_spaces.structure.model import ModelStructure

ACTIVE = Metric(
    name="active",
    unit="parameters/token",
    direction="minimise",
    source="parameters but for those of experts that do not run for the token",
)


def active_table(
    structure: ModelStructure, block_options: ComponentOptions, *, adds_bias: bool = False
) -> CostTable:
    """Count the parameters active for one token, the router and the shared expert included."""
    counted = Counted(adds_bias=adds_bias, running=True)
    return weight_table(structure, block_options, Tensor.numel, counted)
