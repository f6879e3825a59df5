"""The weights of a sorted model in one file, which all processes of a search map into memory."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces.atomic_files import writing
from search_spaces.errors import ModelError
from search_spaces.models.fingerprint import lasting

_STEP = 64
"""Bytes at whose multiples tensors begin, as torch's own do: kernels round by it."""


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights of a model as they are now.

    Raises:
        OutputError: If the disk cannot be written to.
    """
    with writing(path), path.open("wb") as file:
        for start, weight in _placed(model):
            file.seek(start)
            file.write(_bytes(weight).numpy().data)
        file.truncate(_size(model))


def map_weights_(model: nn.Module, path: Path) -> None:
    """Let a model use the weights in a file in the place of its own, which must be the same.

    Memory holds them once for all processes that do so, except what one of them writes to.

    Raises:
        ModelError: If they are others.
    """
    held = torch.from_file(str(path), shared=False, size=_size(model), dtype=torch.uint8)
    for start, weight in _placed(model):
        mapped = held[start : start + weight.nbytes].view(weight.dtype).view(weight.shape)
        if not torch.equal(mapped.view(-1).view(torch.uint8), _bytes(weight)):
            raise ModelError(
                f"a worker must have the weights of the search, got others of shape "
                f"{tuple(weight.shape)}; leave the model's files as they are while a search runs"
            )
        weight.data = mapped


def _bytes(weight: Tensor) -> Tensor:
    return weight.detach().contiguous().reshape(-1).view(torch.uint8)


def _placed(model: nn.Module) -> Iterator[tuple[int, Tensor]]:
    """Yield where each tensor begins in the file, and the tensor."""
    start = 0
    for weight in lasting(model).values():
        if weight.numel():
            yield start, weight
        start += _room(weight)


def _size(model: nn.Module) -> int:
    return sum(map(_room, lasting(model).values()))


def _room(weight: Tensor) -> int:
    """Return the bytes from where a tensor begins to where the next one does."""
    return -(-weight.nbytes // _STEP) * _STEP
