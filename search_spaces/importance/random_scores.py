"""Random scores, seeded by the name of a component: always the same."""

import hashlib

import torch
from torch import Tensor

from search_spaces.structure.components import Component


def random_scores(component: Component, count: int) -> Tensor:
    """Draw uniform random numbers, ``(count,)``, which the name of the component determines."""
    seed = hashlib.sha256(component.name.encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
    return torch.rand(count, generator=generator)
