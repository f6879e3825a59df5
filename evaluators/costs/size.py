"""Bytes of weights as they are stored on disk."""

from torch import Tensor

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable
from evaluators.costs.matrix_bytes import Counts, StoredMatrix, less, savings
from evaluators.costs.weight_count import Counted, weight_table


def size_table(model: CostedModel) -> CostTable:
    """Count the bytes of a model in the number formats of its options, tied weights once."""
    return less(tensor_table(model), savings(model, saved_by_format))


def tensor_table(model: CostedModel, *, running: bool = False) -> CostTable:
    """Count the bytes of the dense tensors of a model, whatever its options.

    Args:
        model: The model.
        running: Whether members count only where they run for a token.
    """
    counted = Counted(
        adds_bias=model.adds_bias,
        bias_dtype=model.stored.added_bias,
        buffers=True,
        running=running,
    )
    return weight_table(model.on_disk, model.block_options, byte_count, counted)


def saved_by_format(matrix: StoredMatrix) -> Counts:
    """Return the bytes that a number format saves."""
    return matrix.dense_bytes - matrix.all_bytes


def byte_count(weight: Tensor) -> float:
    """Return the bytes of a tensor in its own dtype."""
    return weight.numel() * weight.itemsize
