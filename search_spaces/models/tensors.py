"""Tensors of a module by their paths."""

from torch import Tensor, nn


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """Return a parameter or buffer by its path inside a module."""
    owner, _, name = path.rpartition(".")
    tensor = getattr(module.get_submodule(owner), name)
    assert isinstance(tensor, Tensor)
    return tensor
