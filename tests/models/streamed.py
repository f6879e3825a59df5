"""Models on disk: tiny ones, opened whole and streamed, and one that is written but never held."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedConfig,
)

from search_spaces.models import Offload
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.factory import SPECIAL, VOCABULARY, make_model, save_model, write_tokenizer
from tests.models.families import FAMILIES

STREAMED_FAMILIES = ("llama", "qwen2", "gpt2", "opt", "phi3")
"""Untied and tied heads, transposed weights, biases, and fused projections."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model that is loaded and read."""

    loaded: LoadedModel
    structure: ModelStructure

    def check_layers_absent(self) -> None:
        """Insist that nothing of a layer is in memory, and everything beside the layers is."""
        stack = f"{self.structure.backbone.stack.path}."
        for name, weight in self.loaded.model.named_parameters():
            assert weight.is_meta == name.startswith(stack), name
        assert not any(buffer.is_meta for buffer in self.loaded.model.buffers())


def save_sharded(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a family's model in many small files, with its tokenizer."""
    model = make_model(FAMILIES[name].config(), dtype=dtype)
    save_model(model, folder, max_shard_size="64KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def opened(folder: Path, offload: Offload, dtype: torch.dtype | None = None) -> Opened:
    """Load and read a model."""
    loaded = load_model(str(folder), dtype=dtype, offload=offload)
    return Opened(loaded=loaded, structure=read_structure(loaded.model, loaded.stream))


def write_large(folder: Path, *, layers: int) -> None:
    """Write a Llama of 126 MB a layer in bfloat16, a file a layer, holding one layer at a time."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
        **SPECIAL,
    )
    with torch.device("meta"):
        named = LlamaForCausalLM(config).named_parameters()
    _write(folder, config, {name: weight.shape for name, weight in named})


def write_large_mixture(folder: Path, *, layers: int) -> None:
    """Write a Mixtral of 360 MB a layer in bfloat16 likewise, each expert by itself."""
    hidden, width, experts = 1024, 3584, 16
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=256,
        num_local_experts=experts,
        num_experts_per_tok=2,
        tie_word_embeddings=False,
        dtype="bfloat16",
        architectures=["MixtralForCausalLM"],
        **SPECIAL,
    )
    with torch.device("meta"):
        named = MixtralForCausalLM(config).named_parameters()
    shapes = {name: weight.shape for name, weight in named if ".mlp." not in name}
    for layer in range(layers):
        mixture = f"model.layers.{layer}.block_sparse_moe"
        shapes[f"{mixture}.gate.weight"] = torch.Size([experts, hidden])
        for expert in range(experts):
            for name, size in (("w1", (width, hidden)), ("w2", (hidden, width))):
                shapes[f"{mixture}.experts.{expert}.{name}.weight"] = torch.Size(size)
            shapes[f"{mixture}.experts.{expert}.w3.weight"] = torch.Size([width, hidden])
    _write(folder, config, shapes)


def _write(folder: Path, config: PreTrainedConfig, shapes: Mapping[str, torch.Size]) -> None:
    """Write weights of some shapes, random numbers drawn once, turned and scaled anew for each."""
    config.save_pretrained(folder)
    write_tokenizer(folder)
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randn(2048 * 8192, generator=rng).mul_(0.02).bfloat16()

    def tensors(inside: str) -> Iterator[tuple[str, Tensor]]:
        for index, (name, shape) in enumerate(shapes.items()):
            if not name.startswith(inside):
                continue
            if len(shape) == 1:
                yield name, torch.ones(shape)
                continue
            scale = 0.75 + 0.5 * float(torch.rand((), generator=rng))
            turned = torch.roll(drawn, index * 7919)[: shape.numel()]
            yield name, (turned * scale).view(shape)

    files: dict[str, str] = {}
    beside = ("model.embed_tokens.", "model.norm.", "lm_head.")
    layers = range(config.num_hidden_layers)
    for inside in (*beside, *(f"model.layers.{index}." for index in layers)):
        file = f"{inside}safetensors"
        weights = {name: weight.bfloat16() for name, weight in tensors(inside)}
        save_file(weights, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(weights, file)
    index = json.dumps({"metadata": {}, "weight_map": files})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
