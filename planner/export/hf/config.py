"""The ``config.json`` of a pruned model that our bundled code reads."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.export.hf.layout import Part, SublayerEntry, is_sequential
from planner.export.hf.stock import by_block, head_dim, shorten
from planner.export.hf.wiring import describe_wiring
from search_spaces.structure.model import ModelStructure

CODE_FILE = "modeling_pruned"


def pruned_config(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    entries: Sequence[SublayerEntry],
    blocks: list[list[Part]],
    *,
    adds_bias: bool = False,
) -> dict[str, Any]:
    """Return the config that the bundled modelling code reads.

    Args:
        structure: The dense model.
        counts: Kept units of each component, ``(components,)``.
        entries: What each dense layer keeps besides its attention.
        blocks: The parts of each block, as `arrange` returns them.
        adds_bias: Whether pruned components have a bias that the dense model lacks.
    """
    config = copy.deepcopy(structure.backbone.model.config)
    attentions = [
        next(part.attention for part in block if part.attention is not None) for block in blocks
    ]
    before = shorten(config, np.array(attentions))
    config.head_dim = head_dim(config)
    sequential = is_sequential(structure)
    sublayers = [
        [sublayer for part in block for sublayer in part.entries(entries, sequential=sequential)]
        for block in blocks
    ]
    description: dict[str, Any] = config.to_dict()
    description.update(
        model_type=f"pruned_{config.model_type}",
        architectures=["PrunedForCausalLM"],
        sublayers=[[entry for entry, _ in block] for block in sublayers],
        sources=[[source for _, source in block] for block in sublayers],
        groups=[int(counts[structure.spans[layer]][0]) for layer in attentions],
        # by their common names too: transformers reads a tokenizer's config without its class
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        per_layer_config=_head_counts(structure, counts, attentions),
        wiring=describe_wiring(structure) | {"dense": before, "adds_bias": adds_bias},
        auto_map={
            "AutoConfig": f"{CODE_FILE}.PrunedConfig",
            "AutoModel": f"{CODE_FILE}.PrunedModel",
            "AutoModelForCausalLM": f"{CODE_FILE}.PrunedForCausalLM",
        },
    )
    return description


def _head_counts(
    structure: ModelStructure, counts: NDArray[np.int_], attentions: list[int]
) -> dict[int | str, dict[str, Any]]:
    """Return the head counts of the blocks that have fewer heads than the dense model."""
    config = structure.backbone.model.config
    overrides: list[dict[str, Any]] = []
    for layer in attentions:
        component = structure.layers[layer].attention
        groups = int(counts[structure.spans[layer]][0])
        query_heads = component.core_features // component.cached_features  # of each group
        heads = {"num_attention_heads": query_heads * groups}
        if hasattr(config, "num_key_value_heads"):
            heads["num_key_value_heads"] = groups
        overrides.append({} if groups == component.unit_count else heads)
    return by_block(overrides)
