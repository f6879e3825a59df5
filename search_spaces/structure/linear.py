"""Linear layers of any class, viewed as one ``(rows, columns)`` matrix: outputs by inputs."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D


def is_linear(module: nn.Module) -> bool:
    """Return whether a module multiplies by a weight matrix and does nothing else."""
    return isinstance(module, nn.Linear | Conv1D)


def matrix(linear: nn.Module) -> Tensor:
    """Return the weight as a view of shape ``(rows, columns)``; Conv1D stores it transposed."""
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return as_matrix(linear, weight)


def as_matrix(linear: nn.Module, stored: Tensor) -> Tensor:
    """Return what is shaped like a weight, such as its gradient, as a ``(rows, columns)`` view."""
    return stored.t() if isinstance(linear, Conv1D) else stored


def bias(linear: nn.Module) -> Tensor | None:
    """Return the bias ``(rows,)``, if there is one."""
    value = linear.bias
    return value if isinstance(value, Tensor) else None


class SlicedLinear(nn.Module):
    """A linear layer that uses parts of another one's weight without copying it.

    Args:
        pieces: Weight views ``(rows, columns)`` with their bias views; their outputs are joined.
    """

    def __init__(self, pieces: list[tuple[Tensor, Tensor | None]]) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = [functional.linear(inputs, weight, bias) for weight, bias in self.pieces]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


def sliced_rows(linear: nn.Module, keep: NDArray[np.bool_]) -> SlicedLinear:
    """Keep some outputs of a linear layer, as views: one piece for each unbroken run of rows."""
    weight, offset = matrix(linear), bias(linear)
    pieces = [
        (weight[start:stop], None if offset is None else offset[start:stop])
        for start, stop in runs(keep)
    ]
    return SlicedLinear(pieces)


def sliced_columns(linear: nn.Module, keep: NDArray[np.bool_]) -> SlicedLinear:
    """Keep some inputs of a linear layer, as a view: the kept columns must be one run."""
    ((start, stop),) = runs(keep)
    return SlicedLinear([(matrix(linear)[:, start:stop], bias(linear))])


def runs(keep: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the unbroken runs of true values as ``(start, stop)`` pairs.

    >>> runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], keep.astype(np.int8), [0]))))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def cut_rows(linear: nn.Module, rows: NDArray[np.int_]) -> nn.Module:
    """Return a smaller linear layer of the same class with some outputs of another."""
    return rebuilt(linear, matrix(linear)[as_index(rows)], _picked(bias(linear), rows))


def cut_columns(linear: nn.Module, columns: NDArray[np.int_]) -> nn.Module:
    """Return a smaller linear layer of the same class with some inputs of another."""
    return rebuilt(linear, matrix(linear)[:, as_index(columns)], bias(linear))


def permute_rows_(linear: nn.Module, order: NDArray[np.int_]) -> None:
    """Reorder the outputs of a linear layer in place: row ``i`` becomes old row ``order[i]``."""
    matrix(linear).copy_(matrix(linear)[as_index(order)])
    offset = bias(linear)
    if offset is not None:
        offset.copy_(offset[as_index(order)])


def permute_columns_(linear: nn.Module, order: NDArray[np.int_]) -> None:
    """Reorder the inputs of a linear layer in place, as `permute_rows_` does its outputs."""
    matrix(linear).copy_(matrix(linear)[:, as_index(order)])


def rebuilt(linear: nn.Module, weight: Tensor, offset: Tensor | None) -> nn.Module:
    """Return a linear layer of the same class that owns another weight and bias.

    Args:
        linear: Gives the class; it is not changed.
        weight: ``(rows, columns)``
        offset: ``(rows,)``; None: no bias.
    """
    rows, columns = weight.shape
    result: nn.Module
    with torch.device("meta"):
        if isinstance(linear, Conv1D):
            result = Conv1D(rows, columns)  # type: ignore[no-untyped-call]
        else:
            result = nn.Linear(columns, rows, bias=offset is not None)
    stored = weight.t() if isinstance(linear, Conv1D) else weight
    result.weight = nn.Parameter(stored.detach().clone().contiguous(), requires_grad=False)
    if offset is not None:
        result.bias = nn.Parameter(offset.detach().clone(), requires_grad=False)
    return result


def as_index(positions: NDArray[np.int_]) -> Tensor:
    """Return positions as an index of tensors."""
    return torch.from_numpy(np.ascontiguousarray(positions, dtype=np.int64))


def _picked(vector: Tensor | None, positions: NDArray[np.int_]) -> Tensor | None:
    return None if vector is None else vector[as_index(positions)]
