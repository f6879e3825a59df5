"""The config with which a stock class has exactly the weights that a plan keeps, if there is one.

What a config calls a width differs from family to family, so names are tried, and the class itself
proves what it makes of them.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from planner.export.hf.layout import Word, feed_forward_words
from search_spaces.models.fingerprint import lasting
from search_spaces.structure.model import ModelStructure

WIDTH_NAMES = ("intermediate_size", "ffn_dim", "n_inner")
"""What config classes call the MLP's width."""
COUNT_NAMES = ("num_local_experts", "num_experts", "n_routed_experts")
"""What they call the number of experts; all that one has are set."""
TOP_K_NAMES = ("num_experts_per_tok", "moe_k", "moe_topk", "num_selected_experts")
"""What they call how many run for a token; likewise."""
INNER_NAMES = ("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
"""What they call the width of an expert; the first that one has."""
SHARED_NAMES = ("shared_expert_intermediate_size", "shared_intermediate_size")
"""What they call the width of the shared expert; the first that one has."""
SHARED_COUNT = "n_shared_experts"
"""Or they give it in widths of an expert."""
_NOT_FOR_LAYERS = ("architectures", "_token_id", "_token_ids")
_REFUSALS = (StrictDataclassError, ValueError, TypeError, RuntimeError, ZeroDivisionError)


def stock_config(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    words: Sequence[Word],
    shapes: Mapping[str, tuple[int, ...]],
) -> PreTrainedConfig | None:
    """Give a config with which the stock class has exactly these weights, if there is one.

    Args:
        structure: The dense model.
        counts: Kept units, of experts all that stay, ``(components,)``.
        words: What each layer keeps beside its attention, as `feed_forward_words` gives it.
        shapes: Shape of each weight and persistent buffer, as the stock class names them.
    """
    spans = [structure.spans[index] for index in range(len(structure.layers))]
    kept = [index for index, span in enumerate(spans) if counts[span].any()]
    if not all(counts[spans[index]].all() for index in kept):
        return None
    config = copy.deepcopy(structure.backbone.model.config)
    shorten(config, np.array(kept))
    _place_dense_layers(config, structure, kept)
    values = [_values(structure, index, counts, words) for index in kept]
    dense = [_values(structure, index, *_whole(structure)) for index in kept]
    changed = {
        name
        for own, whole in zip(values, dense, strict=True)
        for name, value in own.items()
        if value != whole[name]
    }
    if "num_attention_heads" in changed:
        changed.add("head_dim")
    by_layer = [{n: value for n, value in own.items() if n in changed} for own in values]
    shared = {name: value for own in by_layer for name, value in own.items()}
    config.update(shared)
    varied = [dict(own.items() - shared.items()) for own in by_layer]
    if any(varied):
        # few classes read this, and the others have other shapes or refuse
        config.per_layer_config = by_block(varied)
    return config if _makes(structure, config, kept, words, shapes) else None


def by_block(values: Sequence[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Give what blocks have of their own as ``per_layer_config`` names them, those without out."""
    digits = len(str(len(values) - 1))
    return {str(place).zfill(digits): own for place, own in enumerate(values) if own}


def shorten(config: PreTrainedConfig, kept: NDArray[np.int_]) -> dict[str, Any]:
    """Keep some layers, in every list that has one value for each layer.

    Returns:
        What it changed, as it was.
    """
    count = config.num_hidden_layers
    lists: dict[str, list[Any]] = {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, list) and len(value) == count and not name.endswith(_NOT_FOR_LAYERS)
    }
    for name, value in lists.items():
        setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)
    return {"num_hidden_layers": count, **lists}


def _place_dense_layers(
    config: PreTrainedConfig, structure: ModelStructure, kept: Sequence[int]
) -> None:
    """Say which of the layers that stay have an MLP, where others have experts."""
    if all(layer.experts is None for layer in structure.layers):
        return
    dense = [place for place, i in enumerate(kept) if structure.layers[i].experts is None]
    if hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace = len(dense)
    if hasattr(config, "mlp_only_layers"):
        config.mlp_only_layers, config.decoder_sparse_step = dense, 1


def _whole(structure: ModelStructure) -> tuple[NDArray[np.int_], list[Word]]:
    """Give counts and words of the dense model."""
    counts = np.array([component.member_count for component in structure.components])
    return counts, feed_forward_words(structure, counts)


def _values(
    structure: ModelStructure, index: int, counts: NDArray[np.int_], words: Sequence[Word]
) -> dict[str, Any]:
    """Give what a config says of the widths of one layer."""
    config, attention = structure.backbone.model.config, structure.layers[index].attention
    groups, word = int(counts[structure.spans[index]][0]), words[index]
    heads = config.num_attention_heads // attention.unit_count * groups
    values: dict[str, Any] = {"num_attention_heads": heads, "head_dim": head_dim(config)}
    if hasattr(config, "num_key_value_heads"):
        values["num_key_value_heads"] = groups
    if isinstance(word, dict):
        return values | _values_of_experts(config, word)
    return values | {_first(config, WIDTH_NAMES): word}


def _values_of_experts(config: PreTrainedConfig, word: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: word["experts"] for name in COUNT_NAMES if hasattr(config, name)}
    values |= {name: word["top_k"] for name in TOP_K_NAMES if hasattr(config, name)}
    values[_first(config, INNER_NAMES)] = word["channels"]
    if "shared" in word:
        if any(hasattr(config, name) for name in SHARED_NAMES):
            values[_first(config, SHARED_NAMES)] = word["shared"]
        elif hasattr(config, SHARED_COUNT):
            values[SHARED_COUNT] = word["shared"] // word["channels"]
    return values


def _first(config: PreTrainedConfig, names: Sequence[str]) -> str:
    return next((name for name in names if hasattr(config, name)), names[0])


def head_dim(config: PreTrainedConfig) -> int:
    """Give the width of one head, which some configs leave to be divided."""
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def _makes(
    structure: ModelStructure,
    config: PreTrainedConfig,
    kept: Sequence[int],
    words: Sequence[Word],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Tell whether the stock class makes exactly these shapes of a config, and runs as many."""
    made = _made(type(structure.backbone.model), config)
    if made is None or {n: tuple(w.shape) for n, w in lasting(made).items()} != shapes:
        return False
    stack = made.get_submodule(structure.backbone.stack_path)
    for place, index in enumerate(kept):
        component, word = structure.layers[index].experts, words[index]
        if component is None or component.experts is None or not isinstance(word, dict):
            continue
        layer = stack.get_submodule(str(place))
        read = [
            getattr(layer.get_submodule(path), name) == word["experts"]
            for path, name in component.experts.count_attributes
        ] + [
            getattr(layer.get_submodule(path), name) == word["top_k"]
            for path, name in component.experts.top_k_attributes
        ]
        if not all(read):
            return False
    return True


def _made(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel | None:
    """Make a stock class of a config, without weights; none where it refuses."""
    try:
        # rebuilt, because a config checks itself only when it is made
        read = type(config).from_dict(config.to_dict())
        with torch.device("meta"):
            return model_class(read)
    except _REFUSALS:
        return None


def as_published(
    weights: Mapping[str, Tensor], model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> dict[str, Tensor]:
    """Give weights as the family's checkpoints hold them: experts one by one, where they do.

    Args:
        weights: By the names that they have in memory.
        model_class: The stock class.
        config: That the weights fit.
    """
    made = _made(model_class, config)
    assert made is not None, "a stock class refuses what it has read before"
    published: dict[str, Tensor] = revert_weight_conversion(made, dict(weights))
    return published
