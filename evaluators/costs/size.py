"""Bytes of weights as they are stored on disk."""

import torch
from torch import Tensor, nn

from evaluators.costs.cost_table import ComponentOptions, CostTable
from evaluators.costs.weight_count import Counted, weight_table
from evaluators.metric import Metric
from search_spaces.structure.model import ModelStructure

SIZE = Metric(name="size", unit="bytes", direction="minimise", source="tensor data in safetensors")


def size_table(
    structure: ModelStructure,
    block_options: ComponentOptions,
    stored_dtype: torch.dtype,
    *,
    adds_bias: bool = False,
) -> CostTable:
    """Count bytes in the dtype that an export is stored in, tied weights once.

    Buffers keep a dtype of their own.
    """

    def weight_cost(weight: Tensor) -> float:
        is_parameter = isinstance(weight, nn.Parameter)
        return weight.numel() * (stored_dtype if is_parameter else weight.dtype).itemsize

    return weight_table(
        structure, block_options, weight_cost, Counted(adds_bias=adds_bias, buffers=True)
    )
