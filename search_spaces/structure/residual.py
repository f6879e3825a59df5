"""What a component adds to the hidden states, and by which constant its output is multiplied."""

import torch
from torch import Tensor

STEADY = 0.02
"""Largest difference, at the median token and besides rounding, between what a component adds and
its projection's output times a constant, as a share of the former."""


def constant_factor(before: Tensor, after: Tensor, output: Tensor) -> float:
    """Return the constant by which a projection's output is multiplied; 0 if there is none.

    Args:
        before: Hidden states that enter the component, ``(batch, tokens, hidden)``.
        after: Those that leave it.
        output: Of its projection, in the same shape.

    Example:
        >>> before, output = torch.ones(1, 2, 2), torch.tensor([[[1.0, 2.0], [4.0, 8.0]]])
        >>> constant_factor(before, before + 0.5 * output, output)
        0.5
    """
    added = after.float() - before.float()
    both, square = (added * output).sum(dim=-1), output.square().sum(dim=-1)  # (batch, tokens)
    factor = float((both / square).detach().median())
    gaps = (added - factor * output).norm(dim=-1)
    # rounding of large hidden states hides some of what is added to them
    allowed = STEADY * added.norm(dim=-1) + torch.finfo(after.dtype).eps * after.norm(dim=-1)
    return factor if float((gaps <= allowed).float().mean()) > 0.5 else 0.0
