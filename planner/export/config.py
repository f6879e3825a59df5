"""The ``config.json`` of a pruned model: stock where a stock class reads it, else our own."""

import copy
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel

from planner.export.layout import Part, is_sequential
from planner.export.wiring import describe_wiring
from search_spaces.structure.read import ModelStructure

WIDTH_NAMES = ("intermediate_size", "ffn_dim", "n_inner")
"""What config classes call the MLP's width."""
CODE_FILE = "modeling_pruned"
_NOT_FOR_LAYERS = ("architectures", "_token_id", "_token_ids")


def stock_config(
    structure: ModelStructure, counts: NDArray[np.int_], shapes: dict[str, tuple[int, ...]]
) -> PreTrainedConfig | None:
    """Give a config with which the stock class has exactly these weights, if there is one.

    Args:
        structure: The dense model.
        counts: Kept units ``(sub_blocks,)``.
        shapes: Shape of each weight, named as the stock class names them.
    """
    pairs = counts.reshape(-1, 2)
    kept = np.flatnonzero(pairs.any(axis=1))
    if len(np.unique(pairs[kept], axis=0)) != 1 or not pairs[kept[0]].all():
        return None
    model = structure.backbone.model
    config = copy.deepcopy(model.config)
    _shorten(config, kept)
    groups, channels = (int(count) for count in pairs[kept[0]])
    _narrow(config, structure, groups, channels)
    return config if _shapes_of(type(model), config) == shapes else None


def _shorten(config: PreTrainedConfig, kept: NDArray[np.int_]) -> None:
    """Keep some layers, in every list that has one value for each layer."""
    count = config.num_hidden_layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == count and not name.endswith(_NOT_FOR_LAYERS):
            setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)


def _narrow(
    config: PreTrainedConfig, structure: ModelStructure, groups: int, channels: int
) -> None:
    attention, mlp = structure.layers[0].attention, structure.layers[0].mlp
    if groups < attention.unit_count:
        heads = config.num_attention_heads
        config.head_dim = head_dim(config)
        config.num_attention_heads = heads // attention.unit_count * groups
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = groups
    if channels < mlp.unit_count:
        name = next((name for name in WIDTH_NAMES if hasattr(config, name)), WIDTH_NAMES[0])
        setattr(config, name, channels)


def head_dim(config: PreTrainedConfig) -> int:
    """Give the width of one head, which some configs leave to be divided."""
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def _shapes_of(
    model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> dict[str, tuple[int, ...]] | None:
    """Give the weight shapes that a stock class would have; none where it refuses the config."""
    try:
        # rebuilt, because a config checks itself only when it is made
        read = type(config).from_dict(config.to_dict())
        with torch.device("meta"):
            model = model_class(read)
    except (StrictDataclassError, ValueError, TypeError, RuntimeError, ZeroDivisionError):
        return None
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def pruned_config(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    blocks: list[list[Part]],
    *,
    adds_bias: bool = False,
) -> dict[str, Any]:
    """Give the config that the bundled modelling code reads (layout v2).

    Args:
        structure: The dense model.
        counts: Kept units ``(sub_blocks,)``.
        blocks: The parts of each block.
        adds_bias: Whether what lost units has a bias that the dense model has not.
    """
    model = structure.backbone.model
    config = copy.deepcopy(model.config)
    attentions = [next(p.attention for p in block if p.attention is not None) for block in blocks]
    _shorten(config, np.array(attentions))
    config.head_dim = head_dim(config)
    widths, sequential = counts[1::2].tolist(), is_sequential(structure)
    described: dict[str, Any] = config.to_dict()
    described.update(
        model_type=f"pruned_{config.model_type}",
        architectures=["PrunedForCausalLM"],
        sublayers=[
            [word for part in block for word in part.words(widths, sequential=sequential)]
            for block in blocks
        ],
        per_layer_config=_head_counts(structure, counts, attentions),
        wiring=describe_wiring(structure) | {"adds_bias": adds_bias},
        auto_map={
            "AutoConfig": f"{CODE_FILE}.PrunedConfig",
            "AutoModel": f"{CODE_FILE}.PrunedModel",
            "AutoModelForCausalLM": f"{CODE_FILE}.PrunedForCausalLM",
        },
    )
    return described


def _head_counts(
    structure: ModelStructure, counts: NDArray[np.int_], attentions: list[int]
) -> dict[str, dict[str, int]]:
    """Give the head counts of the blocks that have fewer heads than the dense model."""
    config = structure.backbone.model.config
    digits = len(str(len(attentions) - 1))
    own: dict[str, dict[str, int]] = {}
    for index, layer in enumerate(attentions):
        block = structure.layers[layer].attention
        groups = int(counts[2 * layer])
        if groups == block.unit_count:
            continue
        heads = {"num_attention_heads": config.num_attention_heads // block.unit_count * groups}
        if hasattr(config, "num_key_value_heads"):
            heads["num_key_value_heads"] = groups
        own[str(index).zfill(digits)] = heads
    return own
