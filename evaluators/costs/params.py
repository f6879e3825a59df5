"""Parameters, tied ones once."""

from torch import Tensor

from evaluators.costs.cost_table import ComponentOptions, CostTable
from evaluators.costs.weight_count import Counted, weight_table
from evaluators.metric import Metric
from search_spaces.structure.model import ModelStructure

PARAMS = Metric(name="params", unit="parameters", direction="minimise", source="a count")


def params_table(
    structure: ModelStructure, block_options: ComponentOptions, *, adds_bias: bool = False
) -> CostTable:
    """Count parameters."""
    return weight_table(structure, block_options, Tensor.numel, Counted(adds_bias=adds_bias))
