"""Which of llama.cpp's architectures compute what a family of transformers does, and their rules.

What an architecture takes was read in ``src/models/*.cpp`` of llama.cpp and tried. Most read one
number of heads and one width for all layers; ``deci`` and ``openelm`` read them of each layer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES
from transformers import PreTrainedConfig

from search_spaces.models.own_exports import stock_class
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What one of llama.cpp's architectures can hold."""

    arch: MODEL_ARCH
    varies: bool = False
    """Whether layers may differ, and lack an attention or an MLP."""
    turns_neighbours: bool = False
    """Whether rotary positions turn neighbouring features, and not halves of a head."""
    fuses_attention: bool = False
    """Whether queries, keys and values are one matrix."""
    heads_fill_hidden: bool = False
    """Whether all heads together must be as wide as the hidden states."""
    gains_biases: bool = False
    """Whether attentions and MLPs may add a bias that the family has not."""
    holds_frequencies: bool = False
    """Whether a tensor may stretch rotary positions, as those of Llama 3 are."""
    holds_head: bool = True
    """Whether the head may be another matrix than the embedding."""

    @property
    def name(self) -> str:
        """What the file calls it."""
        return MODEL_ARCH_NAMES[self.arch]


LLAMA = Architecture(
    arch=MODEL_ARCH.LLAMA, turns_neighbours=True, gains_biases=True, holds_frequencies=True
)
DECI = Architecture(
    arch=MODEL_ARCH.DECI,
    varies=True,
    turns_neighbours=True,
    gains_biases=True,
    holds_frequencies=True,
)
OPENELM = Architecture(
    arch=MODEL_ARCH.OPENELM, varies=True, fuses_attention=True, holds_head=False
)
GPT2 = Architecture(arch=MODEL_ARCH.GPT2, heads_fill_hidden=True)
GEMMA = Architecture(arch=MODEL_ARCH.GEMMA, holds_head=False)
GRANITE = Architecture(
    arch=MODEL_ARCH.GRANITE, turns_neighbours=True, gains_biases=True, holds_frequencies=True
)
QWEN2 = Architecture(arch=MODEL_ARCH.QWEN2, heads_fill_hidden=True)
QWEN2_MOE = Architecture(arch=MODEL_ARCH.QWEN2MOE, heads_fill_hidden=True)
QWEN3 = Architecture(arch=MODEL_ARCH.QWEN3)
QWEN3_MOE = Architecture(arch=MODEL_ARCH.QWEN3MOE)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What llama.cpp makes of the models of one config class."""

    own: Architecture
    """Where all layers are alike."""
    varied: Architecture | None = None
    """Where they differ; None: they may not."""
    requires: Mapping[str, Any] = field(default_factory=dict)
    """Values of the config that llama.cpp takes for granted; one that is missing is as it should
    be."""
    one_added_to_norms: bool = False
    """Whether norms store their weights less one."""


_SILU = {"hidden_act": "silu"}

FAMILIES: Mapping[str, Family] = {
    "llama": Family(own=LLAMA, varied=DECI, requires=_SILU),
    "mistral": Family(own=LLAMA, varied=DECI, requires=_SILU),
    "qwen2": Family(own=QWEN2, varied=DECI, requires=_SILU),
    "qwen3": Family(own=QWEN3, varied=OPENELM, requires={**_SILU, "attention_bias": False}),
    "mixtral": Family(own=LLAMA, requires=_SILU),
    "qwen2_moe": Family(
        own=QWEN2_MOE,
        requires={
            **_SILU,
            "norm_topk_prob": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
    "qwen3_moe": Family(
        own=QWEN3_MOE,
        requires={
            **_SILU,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "attention_bias": False,
        },
    ),
    "gpt2": Family(
        own=GPT2,
        requires={
            "activation_function": "gelu_new",
            "add_cross_attention": False,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
    ),
    "gemma": Family(
        own=GEMMA, requires={"hidden_act": "gelu_pytorch_tanh"}, one_added_to_norms=True
    ),
    "granite": Family(own=GRANITE, requires=_SILU),
}
"""By the ``model_type`` of their configs."""


def family_of(structure: ModelStructure) -> Family | None:
    """Return the family of a model, if llama.cpp has an architecture that we write for it."""
    return FAMILIES.get(_stock_type(structure.backbone.model.config))


def refusal_of(structure: ModelStructure) -> str:
    """Return why nothing of a model can be written; empty: it can."""
    return next(_refusals(structure), "")


def _refusals(structure: ModelStructure) -> Iterator[str]:
    config: Any = structure.backbone.model.config
    family = family_of(structure)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        yield f"GGUF is written of {known}; this is `{_stock_type(config)}`"
        return
    if _slides(config):
        yield "its attention has a sliding window, which llama.cpp leaves out"
    for name, value in family.requires.items():
        held = getattr(config, name, value)
        if held != value:
            yield f"llama.cpp takes `{name}` of {value!r} for granted, and it is {held!r}"
    yield from _rope_refusals(family.own, rope_of(config))
    if not (family.own.holds_head or is_tied(structure)):
        yield f"`{family.own.name}` of llama.cpp has no head apart from the embedding"


def _rope_refusals(own: Architecture, rope: Mapping[str, Any]) -> Iterator[str]:
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "linear", "llama3"):
        yield f"its rotary positions are stretched by `{kind}`, which is not written"
    if kind == "llama3" and not own.holds_frequencies:
        yield f"`{own.name}` of llama.cpp does not stretch rotary positions by `llama3`"
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        yield "its rotary positions turn a part of each head, which is not written"


def varied_architecture(structure: ModelStructure) -> Architecture | None:
    """Return the architecture that holds layers of a model which differ, if there is one."""
    family = family_of(structure)
    varied = None if family is None else family.varied
    if varied is None or not (varied.holds_head or is_tied(structure)):
        return None
    stretched = rope_of(structure.backbone.model.config).get("rope_type") == "llama3"
    return None if stretched and not varied.holds_frequencies else varied


def rope_of(config: PreTrainedConfig) -> Mapping[str, Any]:
    """Return the parameters of a model's rotary positions; empty: it has none."""
    return getattr(config, "rope_parameters", None) or {}


def is_tied(structure: ModelStructure) -> bool:
    """Return whether a model's head is its embedding."""
    model: Any = structure.backbone.model
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embedding.weight


def _stock_type(config: PreTrainedConfig) -> str:
    return stock_class(type(config)).model_type


def _slides(config: Any) -> bool:
    kinds = set(getattr(config, "layer_types", None) or ())
    return bool(getattr(config, "sliding_window", None)) or bool(kinds - {"full_attention"})
