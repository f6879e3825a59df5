"""What may be kept of a model of six layers with an attention and an MLP each, by kind."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import Blocks, blocks_of
from planner.targets.gguf.gguf_runtime import served
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut
from tests.models.candidates import random_tokens, run_layers

GROUPS, CHANNELS = 2, 48
_WHOLE = (GROUPS, CHANNELS)

UNIFORM = {
    "dense": [*_WHOLE * 6],
    "layer-dropped": [*_WHOLE, 0, 0, *_WHOLE * 4],
    "narrow": [GROUPS, 16] * 6,
}
"""Kept units of each component where the layers that are left are alike."""
VARIED = {
    "widths": [*_WHOLE * 4, GROUPS, 16, GROUPS, 9],
    "groups": [1, CHANNELS, *_WHOLE * 4, 1, CHANNELS],
    "no-attention-in-0": [0, CHANNELS, *_WHOLE * 5],
    "no-attention-in-3": [*_WHOLE * 3, 0, CHANNELS, *_WHOLE * 2],
    "no-mlp-in-2": [*_WHOLE * 2, GROUPS, 0, *_WHOLE * 3],
    "no-mlp-in-the-last": [*_WHOLE * 5, GROUPS, 0],
    "all-of-it": [0, CHANNELS, GROUPS, 16, 0, 0, 1, CHANNELS, GROUPS, 0, 1, 0],
}
"""The same where they differ."""


def cut_to(structure: ModelStructure, counts: Sequence[int]) -> list[nn.Module]:
    """Return a model's layers with so many of the last units of each component."""
    layers = []
    for index, layer in enumerate(structure.layers):
        kept = counts[structure.spans[index]]
        choices = [
            (component, np.arange(component.member_count)[component.member_count - count :])
            for component, count in zip(layer.components, kept, strict=True)
        ]
        layers.append(cut(structure.backbone.layers[index], choices))
    return layers


def gap_in_llama_cpp(
    structure: ModelStructure, layers: Sequence[nn.Module], path: Path
) -> tuple[float, Blocks]:
    """Return how far llama.cpp's logits are from torch's at most, in their standard deviations.

    Both those of all tokens at once and those of one after the other.
    """
    tokens = random_tokens()
    expected = run_layers(structure, layers, tokens).numpy()
    blocks = blocks_of(structure, layers)
    write_file(path, GgufModel(structure=structure, blocks=blocks), "F32")
    with served(path, threads=1, cache_type="F32") as model:
        whole, stepped = model.logits(tokens.numpy()), model.stepped_logits(tokens.numpy())
    gaps = (whole - expected, stepped - expected[:, tokens.shape[1] // 2 :])
    return max(float(np.abs(gap).max()) for gap in gaps) / float(expected.std()), blocks
