"""Tensors of a module by their paths, and a digest of what tensors hold."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """Return a parameter or buffer by its path inside a module."""
    owner, _, name = path.rpartition(".")
    tensor = getattr(module.get_submodule(owner), name)
    assert isinstance(tensor, Tensor)
    return tensor


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of names, dtypes, shapes and every byte of tensors on the CPU."""
    return _digest((name, tensors[name]) for name in sorted(tensors))


def digest_of_file(path: Path) -> str:
    """Return that digest of the tensors in a safetensors file, of which none stays in memory."""
    with safe_open(path, framework="pt", backend="pread") as file:
        return _digest((name, file.get_tensor(name)) for name in sorted(file.keys()))


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
