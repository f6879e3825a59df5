"""A tiny random model of each family of mixtures of experts, and what is known of it by hand."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    DeepseekV2Config,
    DeepseekV3Config,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    OlmoeConfig,
    PhimoeConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from search_spaces.structure.model import ModelStructure
from tests.models.factory import COMMON, GROUPED, Architecture, save_model

EXPERTS = 8
CHANNELS = 16
_COMMON: dict[str, Any] = {**GROUPED, "num_hidden_layers": 4, "num_experts_per_tok": 2}
_LATENT: dict[str, Any] = {
    **COMMON,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "moe_intermediate_size": CHANNELS,
    "n_routed_experts": EXPERTS,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "routed_scaling_factor": 1.5,
}


@dataclass(frozen=True, kw_only=True)
class MoeFamily(Architecture):
    """One family: how to make it, and what a reader of its source would say of its layers."""

    holder: str = "mlp.experts"
    router: str = "mlp.gate"
    groups: int = 1
    top_k: int = 2
    lowest: int = 2
    """Fewest units with which the router can choose as many as ever."""
    shared: str = ""
    dense_layers: int = 0
    top_k_varies: bool = True
    transposed: bool = False
    interleaved: bool = False


_FAMILIES = (
    MoeFamily(
        name="mixtral",
        config_class=MixtralConfig,
        options={**_COMMON, "intermediate_size": CHANNELS, "num_local_experts": EXPERTS},
    ),
    MoeFamily(
        name="qwen2-moe",
        config_class=Qwen2MoeConfig,
        options={
            **_COMMON,
            "num_experts": EXPERTS,
            "moe_intermediate_size": CHANNELS,
            "shared_expert_intermediate_size": 24,
            "norm_topk_prob": True,
        },
        shared="mlp.shared_expert",
    ),
    MoeFamily(
        name="qwen3-moe",
        config_class=Qwen3MoeConfig,
        options={
            **_COMMON,
            "num_experts": EXPERTS,
            "moe_intermediate_size": CHANNELS,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
        },
        dense_layers=1,
    ),
    MoeFamily(
        name="olmoe",
        config_class=OlmoeConfig,
        options={
            **_COMMON,
            "intermediate_size": CHANNELS,
            "num_experts_per_tok": 3,
            "num_experts": EXPERTS,
        },
        top_k=3,
        lowest=3,
    ),
    MoeFamily(
        name="deepseek-v2",
        config_class=DeepseekV2Config,
        options={**_LATENT, "topk_method": "group_limited_greedy"},
        groups=4,
        top_k=3,
        lowest=2,
        shared="mlp.shared_experts",
        dense_layers=1,
    ),
    MoeFamily(
        name="deepseek-v3",
        config_class=DeepseekV3Config,
        options={**_LATENT, "n_routed_experts": 16, "norm_topk_prob": True},
        groups=4,
        top_k=3,
        lowest=2,
        shared="mlp.shared_experts",
        dense_layers=1,
    ),
    MoeFamily(
        name="gpt-oss",
        config_class=GptOssConfig,
        options={
            **_COMMON,
            "intermediate_size": CHANNELS,
            "num_local_experts": EXPERTS,
            "head_dim": 8,
            "sliding_window": 8,
        },
        router="mlp.router",
        transposed=True,
        interleaved=True,
    ),
    MoeFamily(
        name="granite-moe",
        config_class=GraniteMoeConfig,
        options={**_COMMON, "intermediate_size": CHANNELS, "num_local_experts": EXPERTS},
        holder="block_sparse_moe.experts",
        router="block_sparse_moe.router",
    ),
    MoeFamily(
        name="phi-moe",
        config_class=PhimoeConfig,
        options={**_COMMON, "intermediate_size": CHANNELS, "num_local_experts": EXPERTS},
        router="mlp.router",
        top_k_varies=False,
    ),
)
MOE_FAMILIES = {family.name: family for family in _FAMILIES}

# One family for each way in which experts are stored and chosen; the others are alike to one:
# mixtral        stacked experts                                            olmoe, granite-moe
# qwen2-moe      a shared expert behind a gate
# deepseek-v3    groups of experts, a bias of the router, shared experts, dense layers, attention
#                that stays whole                                       deepseek-v2, qwen3-moe
# gpt-oss        transposed and interleaved, biases everywhere
# phi-moe        a router whose number of experts the code fixes
MOE_REPRESENTATIVES = frozenset({"mixtral", "qwen2-moe", "deepseek-v3", "gpt-oss", "phi-moe"})


def moe_family_params(*values: Any, name: str, suffix: str = "") -> Any:
    """Return a case of a parametrised test, left to `-m families` if others are wired alike."""
    marks = () if name in MOE_REPRESENTATIVES else (pytest.mark.families,)
    return pytest.param(*values, marks=marks, id=f"{name}-{suffix}" if suffix else name)


EACH_MOE_FAMILY = [moe_family_params(name, name=name) for name in MOE_FAMILIES]
"""Names of all families, as cases of a parametrised test."""


@cache
def mixture(name: str) -> ModelStructure:
    """Return the dense model of a family; all tests share it."""
    return MOE_FAMILIES[name].structure()


def mixture_in_blocks() -> ModelStructure:
    """Return a layer of experts whose rows are whole blocks of 32 inputs."""
    return MOE_FAMILIES["mixtral"].structure(layers=1, intermediate_size=64)


def saved_mixture(name: str, folder: Path) -> Path:
    """Write a family's model and its tokenizer, named on disk as the family publishes them."""
    return save_model(mixture(name).backbone.model, folder)
