"""A tiny random model of each family, and what is known of it by hand.

All have six layers of four query heads of eight features, on 32 hidden features and 96 tokens.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
)

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

# units of rows and columns by hand: heads one after another, KV groups of neighbouring heads
_EACH_HEAD = np.repeat(np.arange(HEADS), HEAD_DIM)
_HALVES = np.repeat([0, 1], HEADS // 2 * HEAD_DIM)
_PAIR = np.repeat([0, 1], HEAD_DIM)
_CHANNELS = np.arange(WIDTH)
_GATED_MLP = {"mlp.gate_proj": _CHANNELS, "mlp.up_proj": _CHANNELS, "mlp.down_proj": _CHANNELS}
_PLAIN_MLP = {"fc1": _CHANNELS, "fc2": _CHANNELS}


def _grouped(output: str = "o_proj", wider: int = 1) -> dict[str, NDArray[np.int_]]:
    query, pair = np.repeat(_HALVES, wider), np.repeat(_PAIR, wider)
    names = ("q_proj", "k_proj", "v_proj", output)
    return {
        f"self_attn.{name}": units
        for name, units in zip(names, (query, pair, pair, query), strict=True)
    }


def _separate(output: str) -> dict[str, NDArray[np.int_]]:
    return {f"self_attn.{name}": _EACH_HEAD for name in ("q_proj", "k_proj", "v_proj", output)}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: how to make it, and what a reader of its source would say of its layers."""

    name: str
    config: Callable[[], PreTrainedConfig]
    attention: dict[str, NDArray[np.int_]]
    """Unit of each row, for the output projection (the last) of each column, by path."""
    mlp: dict[str, NDArray[np.int_]]
    attention_module: str = "self_attn"
    mlp_module: str = "mlp"
    attention_private: tuple[str, ...] = ("input_layernorm",)
    mlp_private: tuple[str, ...] = ("post_attention_layernorm",)
    shared: tuple[str, ...] = ()
    attributes: tuple[tuple[str, int], ...] = ()
    parallel: bool = False
    vanishes: bool = True
    stock_narrow: bool = False
    """Whether the stock class reads uniformly narrower layers from its config."""

    @property
    def groups(self) -> int:
        return int(list(self.attention.values())[-1].max()) + 1

    @property
    def channels(self) -> int:
        return len(list(self.mlp.values())[-1])

    @property
    def sequential(self) -> bool:
        return not (self.parallel or self.shared)


def _families() -> Iterator[Family]:
    yield Family(
        name="llama",
        config=lambda: LlamaConfig(**GROUPED),
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="mistral",
        config=lambda: MistralConfig(**GROUPED, sliding_window=8),
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="qwen2",
        config=lambda: Qwen2Config(**GROUPED, tie_word_embeddings=True),
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="qwen3",
        config=lambda: Qwen3Config(**GROUPED, head_dim=2 * HEAD_DIM),
        attention=_grouped(wider=2),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="gemma3",
        config=lambda: Gemma3TextConfig(
            **GROUPED,
            head_dim=2 * HEAD_DIM,
            sliding_window=4,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        ),
        attention=_grouped(wider=2),
        mlp=_GATED_MLP,
        attention_private=("input_layernorm", "post_attention_layernorm"),
        mlp_private=("post_feedforward_layernorm", "pre_feedforward_layernorm"),
        stock_narrow=True,
    )
    yield Family(
        name="phi3",
        config=lambda: Phi3Config(**GROUPED),
        attention={
            "self_attn.qkv_proj": np.concatenate([_HALVES, _PAIR, _PAIR]),
            "self_attn.o_proj": _HALVES,
        },
        mlp={"mlp.gate_up_proj": np.tile(_CHANNELS, 2), "mlp.down_proj": _CHANNELS},
        attributes=(("config.num_attention_heads", 2), ("num_key_value_heads", 1)),
        stock_narrow=True,
    )
    yield Family(
        name="gpt2",
        config=lambda: GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=HEADS * HEAD_DIM,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=64,
            **SPECIAL,
        ),
        attention={"attn.c_attn": np.tile(_EACH_HEAD, 3), "attn.c_proj": _EACH_HEAD},
        mlp={"mlp.c_fc": np.arange(128), "mlp.c_proj": np.arange(128)},
        attention_module="attn",
        attention_private=("ln_1",),
        mlp_private=("ln_2",),
        attributes=(("split_size", HEAD_DIM),),
    )
    yield Family(
        name="opt",
        config=lambda: OPTConfig(**COMMON, ffn_dim=WIDTH, word_embed_proj_dim=HEADS * HEAD_DIM),
        attention=_separate("out_proj"),
        mlp=_PLAIN_MLP,
        mlp_module="",
        attention_private=("self_attn_layer_norm",),
        mlp_private=("final_layer_norm",),
        attributes=(("num_heads", 1),),
    )
    yield Family(
        name="opt-post-norm",
        config=lambda: OPTConfig(
            **COMMON, ffn_dim=WIDTH, word_embed_proj_dim=16, do_layer_norm_before=False
        ),
        attention=_separate("out_proj"),
        mlp=_PLAIN_MLP,
        mlp_module="",
        attention_private=(),
        mlp_private=(),
        shared=("final_layer_norm", "self_attn_layer_norm"),
        attributes=(("num_heads", 1),),
        vanishes=False,
    )
    for name, parallel in (("neox", True), ("neox-sequential", False)):
        yield Family(
            name=name,
            config=lambda parallel=parallel: GPTNeoXConfig(  # type: ignore[misc]
                **GATED, use_parallel_residual=parallel
            ),
            attention={
                "attention.query_key_value": np.repeat(np.arange(HEADS), 3 * HEAD_DIM),
                "attention.dense": _EACH_HEAD,
            },
            mlp={"mlp.dense_h_to_4h": _CHANNELS, "mlp.dense_4h_to_h": _CHANNELS},
            attention_module="attention",
            parallel=parallel,
        )
    yield Family(
        name="phi",
        config=lambda: PhiConfig(**GATED),
        attention=_separate("dense"),
        mlp={f"mlp.{name}": units for name, units in _PLAIN_MLP.items()},
        attention_private=(),
        mlp_private=(),
        shared=("input_layernorm",),
        parallel=True,
        stock_narrow=True,
    )
    yield Family(
        name="cohere",
        config=lambda: CohereConfig(**GROUPED),
        attention=_grouped(),
        mlp=_GATED_MLP,
        attention_private=(),
        mlp_private=(),
        shared=("input_layernorm",),
        parallel=True,
        stock_narrow=True,
    )
    yield Family(
        name="granite",
        config=lambda: GraniteConfig(**GROUPED, logits_scaling=2.0, residual_multiplier=0.5),
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="stablelm",
        config=lambda: StableLmConfig(**GROUPED),
        attention=_grouped(),
        mlp=_GATED_MLP,
        attributes=(("num_heads", 2), ("num_key_value_heads", 1)),
    )
    yield Family(
        name="smollm3",
        config=lambda: SmolLM3Config(**GROUPED),
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )


FAMILIES = {family.name: family for family in _families()}


def make_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Make a random model without biases of 0 or norms of 1, where mistakes would not show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make: Any = AutoModelForCausalLM.from_config
        attention = "eager" if config.model_type == "gpt_oss" else "sdpa"  # which it has not
        model = make(config, attn_implementation=attention, experts_implementation="eager")
        for weight in model.parameters():
            weight.data.add_(torch.randn_like(weight) * 0.1)
    made: PreTrainedModel = model.eval().requires_grad_(requires_grad=False)
    return made


@cache
def dense(name: str) -> ModelStructure:
    """Give the dense model of a family; all tests share it."""
    return read_structure(make_model(FAMILIES[name].config()))


def twin(structure: ModelStructure) -> ModelStructure:
    """Give an independent copy that may be changed."""
    return copy.deepcopy(structure)


def write_tokenizer(folder: Path) -> None:
    """Write a fast tokenizer that knows ``w3`` to ``w95`` beside the three special tokens."""
    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(3, VOCABULARY))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()
    make: Any = PreTrainedTokenizerFast
    make(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
