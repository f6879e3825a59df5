"""The ``config.json`` of a pruned model that our bundled code reads."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedConfig

from planner.targets.bundled_code import PRUNED
from planner.targets.hf.layout import Part
from planner.targets.hf.stock import (
    COUNT_NAMES,
    by_block,
    head_dim,
    shorten,
    values_of_experts,
)
from planner.targets.hf.wiring import Sizes, Wiring


def pruned_config(
    wiring: Wiring,
    sizes: Sequence[Sizes],
    blocks: list[list[Part]],
    layers: Sequence[nn.Module],
    added_biases: Sequence[frozenset[str]],
) -> dict[str, Any]:
    """Return the config that the bundled modelling code reads.

    Args:
        wiring: Of the model that was cut.
        sizes: What each of its layers keeps.
        blocks: The parts of each block, as `arrange` returns them.
        layers: The cut layers, in the places of the dense ones.
        added_biases: For each layer the kinds of component with a bias that the stock model
            lacks.
    """
    config = copy.deepcopy(wiring.config)
    # what a config lists by layer goes with the attentions, for masks and caches do
    leads = [next((p for p in block if p.attention is not None), block[0]) for block in blocks]
    lead_layers = [lead.layers[0] for lead in leads]
    before = shorten(config, np.array([wiring.sources[layer] for layer in lead_layers]))
    config.head_dim = head_dim(config)
    before |= _share_experts_(config, sizes)
    sublayers = [
        [each for part in block for each in part.sublayers(sizes, sequential=wiring.sequential)]
        for block in blocks
    ]
    description: dict[str, Any] = config.to_dict()
    description.update(
        model_type=f"pruned_{config.model_type}",
        architectures=["PrunedForCausalLM"],
        sublayers=[[each.entry for each in block] for block in sublayers],
        sources=[[wiring.sources[each.layer] for each in block] for block in sublayers],
        added_biases=[
            [sorted(each.kinds & added_biases[each.layer]) for each in block]
            for block in sublayers
        ],
        idle=[_idle(wiring, sizes, block, layers) for block in blocks],
        groups=[sizes[layer].get("attention", 0) for layer in lead_layers],
        # by their common names too: transformers reads a tokenizer's config without its class
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        per_layer_config=_head_counts(wiring, sizes, lead_layers),
        wiring=wiring.described(before),
        auto_map=dict(PRUNED.classes),
    )
    return description


def _share_experts_(config: PreTrainedConfig, sizes: Sequence[Sizes]) -> dict[str, Any]:
    """Let a config say what layers keep of their experts, as far as it says it of all at once.

    The bundled code does not read it. vLLM does, which makes room for as many experts in each
    layer, and fills that from the first on.

    Returns:
        The values that it replaced, by name.
    """
    values = [values_of_experts(config, of_layer) for of_layer in sizes if of_layer.get("experts")]
    replaced: dict[str, Any] = {}
    for name in sorted(set(values[0]).intersection(*values)) if values else ():
        of_layers: set[int] = {of_layer[name] for of_layer in values}
        if name in COUNT_NAMES or len(of_layers) == 1:
            replaced[name] = getattr(config, name)
            setattr(config, name, max(of_layers))
    return replaced


def _idle(
    wiring: Wiring, sizes: Sequence[Sizes], block: list[Part], layers: Sequence[nn.Module]
) -> list[list[str]]:
    """Return the norms that the parts of a block lack, each part's at its first sublayer."""
    idle: list[list[str]] = []
    for part in block:
        others = part.sublayers(sizes, sequential=wiring.sequential)[1:]
        cut = [layers[layer] for layer in part.layers]
        idle += [wiring.idle(part.layers[0], *cut), *([] for _ in others)]
    return idle


def _head_counts(
    wiring: Wiring, sizes: Sequence[Sizes], layers: Sequence[int]
) -> dict[int | str, dict[str, Any]]:
    """Return the head counts of the blocks that have fewer heads than the stock model."""
    overrides: list[dict[str, Any]] = []
    for layer in layers:
        attention, groups = wiring.kind(layer).get("attention"), sizes[layer].get("attention", 0)
        if attention is None or groups in (0, attention["units"]):
            overrides.append({})
            continue
        heads = {"num_attention_heads": attention["query_heads"] * groups}
        if hasattr(wiring.config, "num_key_value_heads"):
            heads["num_key_value_heads"] = groups
        overrides.append(heads)
    return by_block(overrides)
