"""Bytes of weights as they are stored on disk."""

from torch import Tensor

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.weight_count import Counted, weight_table


def size_table(model: CostedModel) -> CostTable:
    """Count the bytes of a model as it is stored, tied weights once."""
    return tensor_table(model)


def tensor_table(model: CostedModel) -> CostTable:
    """Count the bytes of the dense tensors of a model, whatever its options."""
    counted = Counted(adds_bias=model.adds_bias, buffers=True)
    return weight_table(model.on_disk, model.block_options, byte_count, counted)


def byte_count(weight: Tensor) -> float:
    """Return the bytes of a tensor in its own dtype."""
    return weight.numel() * weight.itemsize
