"""The ``config.json`` of a pruned model that our bundled code reads."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.export.hf.layout import Part, Word, is_sequential
from planner.export.hf.stock import by_block, head_dim, shorten
from planner.export.hf.wiring import describe_wiring
from search_spaces.structure.model import ModelStructure

CODE_FILE = "modeling_pruned"


def pruned_config(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    words: Sequence[Word],
    components: list[list[Part]],
    *,
    adds_bias: bool = False,
) -> dict[str, Any]:
    """Give the config that the bundled modelling code reads (layout v3).

    Args:
        structure: The dense model.
        counts: Kept units, of experts all that stay, ``(components,)``.
        words: What each dense layer keeps beside its attention.
        components: The parts of each block.
        adds_bias: Whether what lost units has a bias that the dense model has not.
    """
    config = copy.deepcopy(structure.backbone.model.config)
    attentions = [
        next(p.attention for p in component if p.attention is not None) for component in components
    ]
    before = shorten(config, np.array(attentions))
    config.head_dim = head_dim(config)
    sequential = is_sequential(structure)
    written = [
        [pair for part in component for pair in part.words(words, sequential=sequential)]
        for component in components
    ]
    described: dict[str, Any] = config.to_dict()
    described.update(
        model_type=f"pruned_{config.model_type}",
        architectures=["PrunedForCausalLM"],
        sublayers=[[word for word, _ in component] for component in written],
        sources=[[source for _, source in component] for component in written],
        per_layer_config=_head_counts(structure, counts, attentions),
        wiring=describe_wiring(structure) | {"dense": before, "adds_bias": adds_bias},
        auto_map={
            "AutoConfig": f"{CODE_FILE}.PrunedConfig",
            "AutoModel": f"{CODE_FILE}.PrunedModel",
            "AutoModelForCausalLM": f"{CODE_FILE}.PrunedForCausalLM",
        },
    )
    return described


def _head_counts(
    structure: ModelStructure, counts: NDArray[np.int_], attentions: list[int]
) -> dict[int | str, dict[str, Any]]:
    """Give the head counts of the blocks that have fewer heads than the dense model."""
    config = structure.backbone.model.config
    own: list[dict[str, Any]] = []
    for layer in attentions:
        component = structure.layers[layer].attention
        groups = int(counts[structure.spans[layer]][0])
        heads = {
            "num_attention_heads": config.num_attention_heads // component.unit_count * groups
        }
        if hasattr(config, "num_key_value_heads"):
            heads["num_key_value_heads"] = groups
        own.append({} if groups == component.unit_count else heads)
    return by_block(own)
