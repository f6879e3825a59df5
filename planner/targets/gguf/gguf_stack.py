"""Stacks of a model's layers as GGUF files, for tables of what its parts take in llama.cpp."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from planner.targets.gguf.gguf_families import varied_architecture
from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import blocks_of
from planner.targets.gguf.gguf_types import GgufType
from search_spaces.structure.model import ModelStructure


def write_stack(
    path: Path,
    structure: ModelStructure,
    layers: Sequence[nn.Module],
    *,
    number_type: GgufType = "F32",
) -> None:
    """Write a model's embedding, some layers cut from it, and its head, without a tokenizer.

    Where layers may differ, a layer of one head and 32 channels of zeros comes first, whatever is
    asked for, so that any layers may follow, or none: then the file is all that a model takes
    besides its layers, and that one. What a layer keeps nothing of is left out, and costs nothing:
    a layer without attention is its MLP alone. A layer without MLP has one of zeros, as in an
    export; an attention by itself is a whole layer less a layer without attention.

    Where layers must be alike, they come alone, and there must be some.

    Args:
        path: The file.
        structure: The dense model.
        layers: Any number of layers of it, cut or whole, one of them as often as is wanted.
        number_type: Of its matrices.

    Raises:
        TargetError: If llama.cpp holds no such layers.
        MissingExtraError: If the type takes its quantiser, and that is not installed.
    """
    leads = varied_architecture(structure) is not None
    blocks = blocks_of(structure, layers, leads_with_zeros=leads)
    write_file(path, GgufModel(structure=structure, blocks=blocks), number_type)
