"""Tiny models on disk, loaded whole and streamed, to be held against each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search_spaces.loading import LoadedModel, Offload, load_model
from search_spaces.structure.read import ModelStructure, read_structure
from tests.families import FAMILIES, make_model, write_tokenizer

STREAMED_FAMILIES = ("llama", "qwen2", "gpt2", "opt", "phi3")
"""Untied and tied heads, transposed weights, biases, and fused projections."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model that is loaded and read."""

    loaded: LoadedModel
    structure: ModelStructure

    def check_layers_absent(self) -> None:
        """Insist that nothing of a layer is in memory, and everything beside the layers is."""
        stack = f"{self.structure.backbone.stack_path}."
        for name, weight in self.loaded.model.named_parameters():
            assert weight.is_meta == name.startswith(stack), name
        assert not any(buffer.is_meta for buffer in self.loaded.model.buffers())


def save_sharded(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a family's model in many small files, with its tokenizer."""
    model: Any = make_model(FAMILIES[name].config())
    model.to(dtype).save_pretrained(folder, max_shard_size="64KB")
    write_tokenizer(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1


def opened(folder: Path, offload: Offload, dtype: torch.dtype | None = None) -> Opened:
    """Load and read a model."""
    loaded = load_model(str(folder), dtype=dtype, offload=offload)
    return Opened(loaded=loaded, structure=read_structure(loaded.model, loaded.stream))
