"""Dependencies of a computation's outputs on its inputs, found by autograd, not by names."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NO_OWNER = -1
"""A feature that no owner depends on."""
SEVERAL_OWNERS = -2
"""A feature that more than one owner depends on."""


def owners(
    target: Tensor, owner_of: NDArray[np.int_], leaves: Sequence[Tensor]
) -> list[NDArray[np.int_]]:
    """Return, for each feature of each leaf, the one owner whose target features depend on it.

    An owner's number is read bit by bit: two backward passes a bit, one from the features whose
    owner has the bit and one from the others, so that 1,536 owners cost 22 passes, not 1,536.

    >>> leaf = torch.ones(4, requires_grad=True)
    >>> target = torch.stack([leaf[0] * leaf[3], leaf[1] + leaf[3]])  # nothing reads leaf[2]
    >>> [found.tolist() for found in owners(target, np.array([0, 1]), [leaf])]
    [[0, 1, -1, -2]]

    Args:
        target: Computed from the leaves, ``(..., features)``.
        owner_of: The owner of each target feature, ``(features,)``, from 0.
        leaves: Tensors that require gradients, ``(..., leaf features)``.

    Returns:
        For each leaf an array ``(leaf features,)`` of owners, `NO_OWNER` or `SEVERAL_OWNERS`.
    """
    generator = torch.Generator().manual_seed(0)
    # random weights, so that features that always sum to one do not hide their dependence
    cotangent = torch.rand(target.shape, generator=generator).to(target) + 0.5
    owner_bits = [np.zeros(leaf.shape[-1], dtype=np.int_) for leaf in leaves]
    reached = [np.zeros(leaf.shape[-1], dtype=bool) for leaf in leaves]
    shared = [np.zeros(leaf.shape[-1], dtype=bool) for leaf in leaves]
    for bit in range(max(1, int(owner_of.max()).bit_length())):
        has_bit = torch.from_numpy(owner_of >> bit & 1).to(target)
        by_set = _reached(target, cotangent * has_bit, leaves)
        by_clear = _reached(target, cotangent * (1 - has_bit), leaves)
        for index, (on, off) in enumerate(zip(by_set, by_clear, strict=True)):
            owner_bits[index] |= on.astype(np.int_) << bit
            reached[index] |= on | off
            shared[index] |= on & off
    return [
        np.where(several, SEVERAL_OWNERS, np.where(any_owner, owner, NO_OWNER))
        for owner, any_owner, several in zip(owner_bits, reached, shared, strict=True)
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
