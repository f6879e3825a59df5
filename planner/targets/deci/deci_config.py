"""The ``config.json`` of a pruned model as DeciLM, a family that vLLM runs itself."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from planner.targets.bundled_code import DECILM
from planner.targets.hf.layout import Part
from planner.targets.hf.stock import head_dim, shorten
from planner.targets.hf.wiring import Sizes, Wiring


def deci_config(
    wiring: Wiring, sizes: Sequence[Sizes], parts: Sequence[Part], names: frozenset[str]
) -> dict[str, Any]:
    """Return the config that vLLM's and the bundled modelling code read.

    Args:
        wiring: Of the model that was cut.
        sizes: What each of its layers keeps.
        parts: The layers that are written.
        names: Of the tensors of all of these, inside their layer.
    """
    config = copy.deepcopy(wiring.config)
    shorten(config, np.array([wiring.sources[part.layers[0]] for part in parts]))
    groups = {sizes[part.attention]["attention"] for part in parts if part.attention is not None}
    (count,) = groups
    of_each = config.num_attention_heads // wiring.kind(0)["attention"]["units"]
    description: dict[str, Any] = config.to_dict()
    description.update(
        model_type="nemotron-nas",
        architectures=["DeciLMForCausalLM"],
        num_attention_heads=of_each * count,
        num_key_value_heads=count,
        head_dim=head_dim(config),
        block_configs=[_block(sizes, part, of_each) for part in parts],
        attention_bias="self_attn.o_proj.bias" in names,
        qkv_bias="self_attn.q_proj.bias" in names,
        auto_map=dict(DECILM.classes),
    )
    return description


def _block(sizes: Sequence[Sizes], part: Part, heads_of_group: int) -> dict[str, Any]:
    """Return what a layer is made of, without what would have vLLM round its width."""
    attention: dict[str, Any] = {"no_op": part.attention is None, "replace_with_linear": False}
    ffn: dict[str, Any] = {"no_op": part.feed_forward is None, "replace_with_linear": False}
    if part.attention is not None:
        attention["n_heads_in_group"] = heads_of_group
    if part.feed_forward is not None:
        ffn["intermediate_size"] = sizes[part.feed_forward]["mlp"]
    return {"attention": attention, "ffn": ffn}
