"""Bytes of weights as they are stored on disk."""

from torch import Tensor

from evaluators.costs.cost_table import ComponentOptions, CostTable
from evaluators.costs.weight_count import Counted, weight_table
from evaluators.metric import Metric
from search_spaces.structure.model import ModelStructure

SIZE = Metric(name="size", unit="bytes", direction="minimise", source="tensor data in safetensors")


def size_table(
    stored: ModelStructure, block_options: ComponentOptions, *, adds_bias: bool = False
) -> CostTable:
    """Count the bytes of a model as it is stored, tied weights once."""
    return weight_table(
        stored, block_options, byte_count, Counted(adds_bias=adds_bias, buffers=True)
    )


def byte_count(weight: Tensor) -> float:
    """Return the bytes of a tensor in its own dtype."""
    return weight.numel() * weight.itemsize
