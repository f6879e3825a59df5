"""A tiny random model of every type of causal language model that transformers knows."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from search_spaces.models.identity import ModelIdentity
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.orders import Orders
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure

SEED = 20261128
LAYERS = 6
WINDOW = 8
"""Of attention that slides, so that it acts."""
_MOST_PARAMETERS = 100_000_000
"""Of a tiny model: what is larger has sizes that no field here reaches."""
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embed_dim", "word_embed_proj_dim"), 32),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "num_layers", "decoder_layers", "n_layers"), LAYERS
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("sliding_window", "attention_window_size"), WINDOW),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "n_shared_experts"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 256),
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 24,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "max_window_layers": 3,
    "use_sliding_window": True,
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SMALL_STATES = {
    "mamba_d_state": 8,
    "state_size": 8,
    "lru_width": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 512,
    "laurel_rank": 8,
    "num_kv_shared_layers": 0,
}
_LATENT = {"head_dim": None, "num_key_value_heads": 4}
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "minicpm3", "youtu"), _LATENT),
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (LAYERS // 2)},
    "moshi": {"sliding_window": 256},  # its cache forgets what its mask does not
    **dict.fromkeys(("glm4_moe_lite", "glm_moe_dsa", "axk1", "axk2"), _LATENT),
}
_ROPE = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
_LAST = ("o_proj.weight", "c_proj.weight", "down_proj.weight", "down_proj")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wiring:
    """A tiny model: its type, and what of its config matters."""

    name: str
    model_type: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    zero_layers: tuple[int, ...] = ()
    """Layers whose attention and MLP begin as identities."""


def wirings() -> Iterator[Wiring]:
    """Yield a model of every type, then those whose maths their config changes."""
    for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        yield Wiring(name=model_type, model_type=model_type)
    yield from _chosen_wirings()


def _chosen_wirings() -> Iterator[Wiring]:
    for kind, more in (
        ("linear", {}),
        ("dynamic", {}),
        ("yarn", {}),
        ("longrope", {"short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 3.0, 4.0]}),
        ("llama3", {"low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ):
        rope = {"rope_type": kind, **_ROPE, **more}
        for model_type in ("llama", "qwen2", "phi3", "gpt_neox"):
            if model_type != "phi3" or kind == "longrope":  # the only one that it knows
                # of a quarter of eight features, dynamic scaling divides by zero
                own = (
                    {"partial_rotary_factor": 0.5}
                    if (model_type, kind) == ("gpt_neox", "dynamic")
                    else {}
                )
                yield Wiring(
                    name=f"{model_type} {kind}",
                    model_type=model_type,
                    options={"rope_parameters": rope | own},
                )
    partial = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    for model_type in ("phi", "stablelm", "glm", "gpt_neox", "persimmon", "nemotron"):
        yield Wiring(
            name=f"{model_type} partial",
            model_type=model_type,
            options={"rope_parameters": partial},
        )
    thetas = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    }
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    others: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("thetas", "gemma3_text", {"rope_parameters": thetas, "layer_types": kinds}),
        ("sliding", "qwen2", {"layer_types": kinds}),
        ("no rope", "smollm3", {"no_rope_layers": [1, 0, 1, 1, 1, 0]}),
        ("implied heads", "llama", {"head_dim": None}),
        ("wider heads", "llama", {"head_dim": 16}),
        ("scale by layer", "gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("depth", "minicpm3", {"scale_depth": 1.4}),
        ("heads by layer", "mimo_v2_flash", {"layer_types": kinds}),
        ("tied", "llama", {"tie_word_embeddings": True}),
        ("sparse every other", "qwen2_moe", {"decoder_sparse_step": 2}),
        ("dense between", "qwen3_moe", {"mlp_only_layers": [1, 4]}),
        ("three dense", "deepseek_v3", {"first_k_dense_replace": 3}),
    )
    for name, model_type, options in others:
        yield Wiring(name=f"{model_type} {name}", model_type=model_type, options=options)
    for model_type in ("llama", "gpt2", "qwen2_moe"):
        yield Wiring(
            name=f"{model_type} zero blocks", model_type=model_type, zero_layers=(1, 3, 5)
        )


def make(wiring: Wiring) -> PreTrainedModel:
    """Make the model, random where its class would begin with zeros and ones."""
    config_class = CONFIG_MAPPING[wiring.model_type]
    wanted = {**_SIZES, **_SMALL_STATES, **_OWN.get(wiring.model_type, {}), **wiring.options}
    options = _options(config_class, wanted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = _built(config_class, options)
        for weight in [*model.parameters(), *_router_biases(model)]:
            weight.data.add_(torch.randn_like(weight) * 0.1)
    for name, weight in model.named_parameters():
        layer = next((int(word) for word in name.split(".") if word.isdigit()), -1)
        if layer in wiring.zero_layers and name.endswith(_LAST):
            weight.data.zero_()
    made: PreTrainedModel = model.train(mode=False).requires_grad_(requires_grad=False)
    return made


def _options(config_class: type[PreTrainedConfig], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config takes of the wanted values, and so each config inside it."""
    fields = {field.name for field in dataclasses.fields(config_class)}
    options = {
        name: value for name, value in wanted.items() if name in fields and value is not None
    }
    inner: Mapping[str, Any] = config_class.sub_configs
    for name, inner_class in inner.items():
        is_sized = name.startswith(("text", "vision")) and dataclasses.is_dataclass(inner_class)
        if name in fields and is_sized:
            options[name] = _options(inner_class, wanted)
    return options


def _built(config_class: type[PreTrainedConfig], options: Mapping[str, Any]) -> PreTrainedModel:
    build: Any = AutoModelForCausalLM.from_config
    config = config_class(**options)
    try:
        implementation = "sdpa"
        with torch.device("meta"):
            size = build(config, attn_implementation=implementation).num_parameters()
    except ValueError:  # it has no such attention
        implementation = "eager"
        with torch.device("meta"):
            size = build(config, attn_implementation=implementation).num_parameters()
    if size > _MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters, for its config takes no smaller sizes")
    model = build(config, attn_implementation=implementation, dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)
    return model


def _router_biases(model: PreTrainedModel) -> list[torch.Tensor]:
    return [
        buffer
        for name, buffer in model.named_buffers()
        if buffer.is_floating_point() and "bias" in name
    ]


CHOSEN_WIRINGS = {wiring.name: wiring for wiring in _chosen_wirings()}
"""What a config chooses, by name."""


def random_plan(
    structure: ModelStructure, identity: ModelIdentity, words: str, *, seed: int = SEED
) -> Plan | None:
    """Give a random plan of a search space; None: the model has nothing to choose.

    Args:
        structure: Of the model.
        identity: Of the model.
        words: Of the space, as ``--space`` takes them.
        seed: Of the plan.
    """
    rng = np.random.default_rng(seed)
    members = tuple(_order(component, rng) for component in structure.components)
    channels = {
        position: np.stack([rng.permutation(component.channel_count) for _ in order])
        for position, (component, order) in enumerate(
            zip(structure.components, members, strict=True)
        )
        if isinstance(component, Mixture)
    }
    space = build_space(
        identity, structure.components, Orders(members, channels), choices=Choices.parse(words)
    )
    if not space.sites:
        return None
    genome = rng.integers(0, [len(site.levels) for site in space.sites])[None]
    return space.plan(space.repaired(genome)[0])


def _order(component: Component, rng: np.random.Generator) -> NDArray[np.int_]:
    first = np.arange(component.group_count) * component.unit_count
    return np.concatenate([start + rng.permutation(component.unit_count) for start in first])
