"""Random models small enough to compare with by hand, and their structure."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure

VOCABULARY = 101


def llama(*, layers: int = 3, tied: bool = True) -> ModelStructure:
    """Grouped-query attention of 4 heads in 2 groups of 8 features, gated MLP of 48 channels."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        # large, so that dropping something changes the logits well beyond rounding
        initializer_range=0.2,
    )
    return _read(LlamaForCausalLM, config)


def opt() -> ModelStructure:
    """Biases everywhere, and an MLP that lies in the layer itself."""
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        init_std=0.2,
    )
    return _read(OPTForCausalLM, config)


def phi() -> ModelStructure:
    """Attention and MLP side by side behind one norm that both read."""
    config = PhiConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    return _read(PhiForCausalLM, config)


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


def _read(make: type[PreTrainedModel], config: PreTrainedConfig) -> ModelStructure:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(config)
        # biases and norms start at 0 and 1, where mistakes would not show
        for weight in model.parameters():
            if weight.ndim == 1:
                torch.nn.init.normal_(weight, mean=float(weight.detach().mean()), std=0.1)
    return read_structure(model.train(mode=False).requires_grad_(False))
