"""Values to probe a layer with where its own hide how it is wired.

A zero projection, as blocks that were added to a model begin with, lets no gradient through, and
experts that are copies of each other compute the same whichever of them is cut.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from search_spaces.structure.graft import graft, shallow


def lively(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer with random weights in the place of those that hide something.

    Args:
        layer: The layer; it is not changed, and the copy shares all its other weights.
    """
    generator = torch.Generator().manual_seed(0)
    replacements: dict[str, nn.Module] = {}
    for path, module in layer.named_modules():
        hidden = {
            name: _random(weight, generator)
            for name, weight in module.named_parameters(recurse=False)
            if _hides(name, weight)
        }
        if hidden:
            replacements[path] = shallow(module)
            replacements[path]._parameters.update(hidden)
    root = replacements.pop("", layer)
    return graft(root, replacements) if replacements else root


def lively_states(hidden: Tensor) -> Tensor:
    """Return hidden states ``(batch, tokens, hidden)`` that differ from token to token.

    Where all are alike, as behind an embedding of zeros, what attends to what makes no difference.
    """
    if not bool((hidden == hidden[:, :1]).all()):
        return hidden
    generator = torch.Generator().manual_seed(0)
    return torch.randn(hidden.shape, generator=generator).to(hidden)


def _hides(name: str, weight: Tensor) -> bool:
    if weight.ndim < 2:
        return name != "bias" and not bool(weight.any())
    has_zeros = any(not bool(weight.any(dim=axis).all()) for axis in (-1, -2))
    return has_zeros or (weight.ndim > 2 and _repeats(weight))


def _repeats(stack: Tensor) -> bool:
    """Return whether two neighbours along the first axis are alike."""
    return any(torch.equal(one, other) for one, other in pairwise(stack))


def _random(weight: Tensor, generator: torch.Generator) -> nn.Parameter:
    """Return values of ordinary size for a weight: around 1 for a vector, which is a scale."""
    values = torch.randn(weight.shape, generator=generator)
    values = 1 + 0.1 * values if weight.ndim < 2 else values * weight.shape[-1] ** -0.5
    return nn.Parameter(values.to(weight), requires_grad=False)
