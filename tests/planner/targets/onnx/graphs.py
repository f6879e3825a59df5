"""Graphs of tiny pruned models, written together, and what they must compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from planner.targets.cut_layers import CutLayers
from planner.targets.onnx.onnx_graph import GraphWriter
from planner.targets.onnx.placed_layer import placed
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import DENSE_EXPERTS
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut
from tests.models.candidates import masked_logits, shorter_plan, uniform_plan
from tests.models.factory import LAYERS
from tests.models.families import Family

Units = NDArray[np.int_]
ROUNDING = 1e-4
"""Of the logits' spread: the same float32 sums in another order, through six layers."""


def _counts(attention: Sequence[int], mlp: Sequence[int]) -> list[Units]:
    """Return the first so many units of each component of the tiny Llama."""
    pairs = zip(attention, mlp, strict=True)
    return [np.arange(count) for pair in pairs for count in pair]


def plans(family: Family) -> dict[str, list[Units]]:
    """Return kept units for each kind of structure."""
    groups, width = [family.groups] * LAYERS, [family.channels] * LAYERS
    return {
        # first, as its trace has each shape of layer
        "all of it": _counts([0, 2, 0, 0, 1, 2], [48, 40, 16, 0, 24, 0]),
        "layers dropped": shorter_plan(family),
        "uniform": uniform_plan(family),
        "widths": _counts(groups, [48, 24, 40, 20, 44, 12]),
        "groups": _counts([2, 1, 2, 2, 1, 1], width),
        "no attention": _counts([0, 2, 0, 2, 2, 2], width),
        "no MLP": _counts(groups, [48, 0, 48, 48, 48, 0]),
    }


def cut_down(structure: ModelStructure, kept: Sequence[Units]) -> CutLayers:
    """Cut a model without experts to some units of each component."""
    layers = []
    for index, dense in enumerate(structure.backbone.layers):
        span = structure.spans[index]
        layers.append(cut(dense, list(zip(structure.components[span], kept[span], strict=True))))
    return CutLayers(
        structure=structure,
        layers=tuple(layers),
        kept=tuple(kept),
        insides=(DENSE_EXPERTS,) * len(kept),
    )


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One written graph and what it stands for."""

    family: Family
    structure: ModelStructure
    kept: list[Units]
    folder: Path

    def expected(self, tokens: Tensor) -> NDArray[np.float32]:
        """Return the logits of the dense model, blind to what is not kept."""
        logits = masked_logits(self.family, self.structure, self.kept, tokens)
        result: NDArray[np.float32] = logits.numpy()
        return result

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the tokens that torch writes after a prompt."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.expected(torch.tensor([tokens]))[0, -1].argmax()))
        return tokens[len(prompt) :]


def write_graph(
    structure: ModelStructure, kept: list[Units], family: Family, folder: Path
) -> Graph:
    """Write the graph alone of a pruned model."""
    GraphWriter(structure).write(folder, placed(cut_down(structure, kept)))
    return Graph(family=family, structure=structure, kept=kept, folder=folder)


def loaded(structure: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """Return a model as `load_model` would give it."""
    model = structure.backbone.model
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(model),
    )
