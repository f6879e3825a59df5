"""Which inputs a computation's outputs depend on, found by asking autograd and not by names."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOBODY = -1
"""A feature that no owner depends on."""
SEVERAL = -2
"""A feature that more than one owner depends on."""


def owners(
    target: Tensor, owner_of: NDArray[np.int_], leaves: Sequence[Tensor]
) -> list[NDArray[np.int_]]:
    """Find, for each feature of each leaf, the one owner whose target features depend on it.

    An owner's number is read bit by bit: two backward passes a bit, one from the features whose
    owner has the bit and one from the others, so that 1,536 owners cost 22 passes and not 1,536.

    Args:
        target: Computed from the leaves, ``(..., features)``.
        owner_of: Owner of each target feature, ``(features,)``, from 0.
        leaves: Tensors that require gradients, ``(..., leaf features)``.

    Returns:
        For each leaf an array ``(leaf features,)`` of owners, `NOBODY` or `SEVERAL`.
    """
    generator = torch.Generator().manual_seed(0)
    # random weights, so that features which always sum to one do not hide their dependence
    cotangent = torch.rand(target.shape, generator=generator).to(target) + 0.5
    found = [np.zeros(leaf.shape[-1], dtype=np.int_) for leaf in leaves]
    reached = [np.zeros(leaf.shape[-1], dtype=bool) for leaf in leaves]
    shared = [np.zeros(leaf.shape[-1], dtype=bool) for leaf in leaves]
    for bit in range(max(1, int(owner_of.max()).bit_length())):
        has_bit = torch.from_numpy(owner_of >> bit & 1).to(target)
        by_set = _reached(target, cotangent * has_bit, leaves)
        by_clear = _reached(target, cotangent * (1 - has_bit), leaves)
        for index, (on, off) in enumerate(zip(by_set, by_clear, strict=True)):
            found[index] |= on.astype(np.int_) << bit
            reached[index] |= on | off
            shared[index] |= on & off
    return [
        np.where(several, SEVERAL, np.where(seen, owner, NOBODY))
        for owner, seen, several in zip(found, reached, shared, strict=True)
    ]


def _reached(
    target: Tensor, cotangent: Tensor, leaves: Sequence[Tensor]
) -> list[NDArray[np.bool_]]:
    gradients = torch.autograd.grad(
        target, leaves, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return [
        (gradient != 0).reshape(-1, gradient.shape[-1]).any(dim=0).cpu().numpy()
        for gradient in gradients
    ]
