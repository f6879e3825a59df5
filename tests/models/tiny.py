"""Models of few layers, small enough to compare with by hand, and candidates of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.structure.model import ModelStructure
from tests.models.factory import VOCABULARY
from tests.models.families import FAMILIES

# large, so that dropping something changes the logits well beyond rounding
LARGE_WEIGHTS = 0.2


def llama(*, layers: int = 3, tied: bool = True) -> ModelStructure:
    """Grouped-query attention of 4 heads in 2 groups of 8 features, gated MLP of 48 channels."""
    return FAMILIES["llama"].structure(
        layers=layers, tie_word_embeddings=tied, initializer_range=LARGE_WEIGHTS
    )


def opt() -> ModelStructure:
    """Biases everywhere, and an MLP that lies in the layer itself."""
    # no kinks, so that slopes can be compared with differences
    return FAMILIES["opt"].structure(layers=2, init_std=LARGE_WEIGHTS, activation_function="gelu")


def phi() -> ModelStructure:
    """Attention and MLP side by side behind one norm that both read."""
    return FAMILIES["phi"].structure(layers=2, initializer_range=LARGE_WEIGHTS)


def windows(count: int = 4, length: int = 12, seed: int = 0) -> Tensor:
    """Random token ids ``(count, length)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (count, length), generator=generator)


def dense_counts(structure: ModelStructure) -> NDArray[np.int_]:
    """Kept units of the dense model, ``(components,)``."""
    return np.array([component.unit_count for component in structure.components])


def random_counts(
    structure: ModelStructure, count: int, rng: np.random.Generator
) -> NDArray[np.int_]:
    """Kept units from none to all, a third of the components dropped, ``(count, components)``."""
    dense = dense_counts(structure)
    kept = rng.integers(1, dense + 1, size=(count, len(dense)))
    return np.where(rng.random(kept.shape) < 1 / 3, 0, kept)
