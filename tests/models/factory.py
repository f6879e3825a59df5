"""The one place that makes a tiny random model, of any family, depth and number format.

All have query heads of eight features, on 32 hidden features and 96 tokens.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from search_spaces.models.fingerprint import lasting
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure

VOCABULARY = 96
LAYERS = 6
HEADS = 4
HEAD_DIM = 8
WIDTH = 48
SPECIAL: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HEADS * HEAD_DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
    **SPECIAL,
}
GATED: dict[str, Any] = {**COMMON, "intermediate_size": WIDTH}
GROUPED: dict[str, Any] = {**GATED, "num_key_value_heads": 2}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a tiny model of one architecture is made."""

    name: str
    config_class: type[PreTrainedConfig]
    options: Mapping[str, Any]
    """Of its config."""

    def config(self, *, layers: int | None = None, **changes: Any) -> PreTrainedConfig:
        """Make the config, where asked of another depth or with other options."""
        options = {**self.options, **changes}
        if layers is not None:
            options["num_hidden_layers"] = layers
            if "layer_types" in options:
                options["layer_types"] = options["layer_types"][-layers:]
        return self.config_class(**options)

    def structure(self, *, layers: int | None = None, **changes: Any) -> ModelStructure:
        """Make the model and read it."""
        return read_structure(make_model(self.config(layers=layers, **changes)))


def make_model(
    config: PreTrainedConfig, *, dtype: torch.dtype = torch.float32, random_buffers: bool = False
) -> PreTrainedModel:
    """Make a random model without biases of 0 or norms of 1, where mistakes would not show.

    Args:
        config: Of the model.
        dtype: Of its weights, drawn in float32.
        random_buffers: Whether buffers that are saved, such as a router's biases, are random too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make: Any = AutoModelForCausalLM.from_config
        attention = "eager" if config.model_type == "gpt_oss" else "sdpa"  # which it has not
        model = make(config, attn_implementation=attention, experts_implementation="eager")
        weights = lasting(model).values() if random_buffers else model.parameters()
        for weight in weights:
            weight.data.add_(torch.randn_like(weight) * 0.1)
    made: PreTrainedModel = model.to(dtype).eval().requires_grad_(requires_grad=False)
    return made


def twin(structure: ModelStructure) -> ModelStructure:
    """Return an independent copy that may be changed."""
    return copy.deepcopy(structure)


def save_model(model: PreTrainedModel, folder: Path, **options: Any) -> Path:
    """Write a model, named on disk as its family publishes it, and its tokenizer.

    Args:
        model: What is written.
        folder: Where.
        options: Of `save_pretrained`.
    """
    model.save_pretrained(folder, **options)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a fast tokenizer that knows ``w3`` to ``w95`` next to the three special tokens."""
    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(3, VOCABULARY))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()
    make: Any = PreTrainedTokenizerFast
    make(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
