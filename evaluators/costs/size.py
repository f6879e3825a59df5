"""Bytes of weights as they are stored on disk."""

import numpy as np
from torch import Tensor

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable, Floats
from evaluators.costs.weight_count import Counted, weight_table
from evaluators.costs.zeros import Zeros, sparse_table


def size_table(model: CostedModel) -> CostTable:
    """Count the bytes of a model in the number formats of its options, tied weights once."""

    def saved(matrix: Zeros) -> Floats:
        tensor_bytes = matrix.rows * matrix.columns * matrix.itemsize
        return (tensor_bytes - matrix.all_bytes).astype(np.float64)

    return sparse_table(tensor_table(model), model.on_disk, model.block_options, saved)


def tensor_table(model: CostedModel) -> CostTable:
    """Count the bytes of the dense tensors of a model, whatever its options."""
    counted = Counted(adds_bias=model.adds_bias, buffers=True)
    return weight_table(model.on_disk, model.block_options, byte_count, counted)


def byte_count(weight: Tensor) -> float:
    """Return the bytes of a tensor in its own dtype."""
    return weight.numel() * weight.itemsize
