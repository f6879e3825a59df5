"""A tiny random model of each dense family, and what is known of it by hand.

All have six layers of four query heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import (
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
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
)

from search_spaces.structure.model import ModelStructure
from tests.models.factory import (
    COMMON,
    GATED,
    GROUPED,
    HEAD_DIM,
    HEADS,
    LAYERS,
    SPECIAL,
    VOCABULARY,
    WIDTH,
    Architecture,
)

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
class Family(Architecture):
    """One family: how to make it, and what a reader of its source would say of its layers."""

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
        config_class=LlamaConfig,
        options=GROUPED,
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="mistral",
        config_class=MistralConfig,
        options={**GROUPED, "sliding_window": 8},
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="qwen2",
        config_class=Qwen2Config,
        options={**GROUPED, "tie_word_embeddings": True},
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="qwen3",
        config_class=Qwen3Config,
        options={**GROUPED, "head_dim": 2 * HEAD_DIM},
        attention=_grouped(wider=2),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="gemma3",
        config_class=Gemma3TextConfig,
        options={
            **GROUPED,
            "head_dim": 2 * HEAD_DIM,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        },
        attention=_grouped(wider=2),
        mlp=_GATED_MLP,
        attention_private=("input_layernorm", "post_attention_layernorm"),
        mlp_private=("post_feedforward_layernorm", "pre_feedforward_layernorm"),
        stock_narrow=True,
    )
    yield Family(
        name="phi3",
        config_class=Phi3Config,
        options=GROUPED,
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
        config_class=GPT2Config,
        options={
            "vocab_size": VOCABULARY,
            "n_embd": HEADS * HEAD_DIM,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_positions": 64,
            **SPECIAL,
        },
        attention={"attn.c_attn": np.tile(_EACH_HEAD, 3), "attn.c_proj": _EACH_HEAD},
        mlp={"mlp.c_fc": np.arange(128), "mlp.c_proj": np.arange(128)},
        attention_module="attn",
        attention_private=("ln_1",),
        mlp_private=("ln_2",),
        attributes=(("split_size", HEAD_DIM),),
    )
    yield Family(
        name="opt",
        config_class=OPTConfig,
        options={**COMMON, "ffn_dim": WIDTH, "word_embed_proj_dim": HEADS * HEAD_DIM},
        attention=_separate("out_proj"),
        mlp=_PLAIN_MLP,
        mlp_module="",
        attention_private=("self_attn_layer_norm",),
        mlp_private=("final_layer_norm",),
        attributes=(("num_heads", 1),),
    )
    yield Family(
        name="opt-post-norm",
        config_class=OPTConfig,
        options={
            **COMMON,
            "ffn_dim": WIDTH,
            "word_embed_proj_dim": 16,
            "do_layer_norm_before": False,
        },
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
            config_class=GPTNeoXConfig,
            options={**GATED, "use_parallel_residual": parallel},
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
        config_class=PhiConfig,
        options=GATED,
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
        config_class=CohereConfig,
        options=GROUPED,
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
        config_class=GraniteConfig,
        options={**GROUPED, "logits_scaling": 2.0, "residual_multiplier": 0.5},
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )
    yield Family(
        name="stablelm",
        config_class=StableLmConfig,
        options=GROUPED,
        attention=_grouped(),
        mlp=_GATED_MLP,
        attributes=(("num_heads", 2), ("num_key_value_heads", 1)),
    )
    yield Family(
        name="smollm3",
        config_class=SmolLM3Config,
        options=GROUPED,
        attention=_grouped(),
        mlp=_GATED_MLP,
        stock_narrow=True,
    )


FAMILIES = {family.name: family for family in _families()}

# One family for each way in which layers are wired; the others are alike to one of them:
# llama            grouped queries, gated MLP, no biases      mistral, granite, smollm3, stablelm
# qwen2            biases before the heads, tied embeddings
# gemma3           norms on heads and behind components, heads wider than hidden / heads    qwen3
# phi3             fused query, key, value and fused gate, up
# gpt2             fused and transposed, plain MLP with biases
# opt              biases everywhere, an MLP that lies in the layer itself
# opt-post-norm    norms on the residual stream, embeddings of another width
# neox             interleaved query, key, value; parallel, each with a norm      neox-sequential
# phi              parallel behind one norm, plain MLP                                     cohere
REPRESENTATIVES = frozenset(
    {"llama", "qwen2", "gemma3", "phi3", "gpt2", "opt", "opt-post-norm", "neox", "phi"}
)


def family_params(*values: Any, name: str, suffix: str = "") -> Any:
    """Return a case of a parametrised test, left to `-m families` if others are wired alike."""
    marks = () if name in REPRESENTATIVES else (pytest.mark.families,)
    return pytest.param(*values, marks=marks, id=f"{name}-{suffix}" if suffix else name)


EACH_FAMILY = [family_params(name, name=name) for name in FAMILIES]
"""Names of all families, as cases of a parametrised test."""


@cache
def dense(name: str) -> ModelStructure:
    """Return the dense model of a family; all tests share it."""
    return FAMILIES[name].structure()
