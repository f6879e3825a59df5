"""The config with which a stock class has exactly the weights that a plan keeps, if there is one.

What a config calls a width differs from family to family, so names are tried, and the shapes that
the class builds from them are compared.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from planner.export.hf.layout import SublayerEntry, feed_forward_entries
from search_spaces.models.fingerprint import lasting
from search_spaces.models.trust import load_state
from search_spaces.structure.backbone import probe_tokens
from search_spaces.structure.model import ModelStructure

WIDTH_NAMES = ("intermediate_size", "ffn_dim", "n_inner")
"""What config classes call the MLP's width."""
COUNT_NAMES = ("num_local_experts", "num_experts", "n_routed_experts")
"""What they call the number of experts; all that a config has are set."""
TOP_K_NAMES = ("num_experts_per_tok", "moe_k", "moe_topk", "num_selected_experts")
"""What they call the number that run for a token; likewise."""
INNER_NAMES = ("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
"""What they call the width of an expert; the first that a config has is set."""
SHARED_NAMES = ("shared_expert_intermediate_size", "shared_intermediate_size")
"""What they call the width of the shared expert; the first that a config has is set."""
SHARED_COUNT = "n_shared_experts"
"""Or they count it in widths of an expert."""
_NOT_FOR_LAYERS = ("architectures", "_token_id", "_token_ids")
_REFUSALS = (StrictDataclassError, ValueError, TypeError, RuntimeError, ZeroDivisionError)


def stock_config(
    structure: ModelStructure,
    counts: NDArray[np.int_],
    entries: Sequence[SublayerEntry],
    shapes: Mapping[str, tuple[int, ...]],
) -> PreTrainedConfig | None:
    """Return a config with which the stock class has exactly these weights, if there is one.

    Args:
        structure: The dense model.
        counts: Kept units of each component, ``(components,)``.
        entries: What each layer keeps besides its attention, as `feed_forward_entries` returns it.
        shapes: Shape of each weight and persistent buffer, as the stock class names them.
    """
    spans = [structure.spans[index] for index in range(len(structure.layers))]
    kept_layers = [index for index, span in enumerate(spans) if counts[span].any()]
    if not all(counts[spans[index]].all() for index in kept_layers):
        return None
    config = copy.deepcopy(structure.backbone.model.config)
    shorten(config, np.array(kept_layers))
    _place_dense_layers(config, structure, kept_layers)
    values = [_values(structure, index, counts, entries) for index in kept_layers]
    dense_values = [_values(structure, index, *_dense_sizes(structure)) for index in kept_layers]
    changed = {
        name
        for of_layer, of_dense in zip(values, dense_values, strict=True)
        for name, value in of_layer.items()
        if value != of_dense[name]
    }
    if "num_attention_heads" in changed:
        changed.add("head_dim")
    changes = [{n: value for n, value in of_layer.items() if n in changed} for of_layer in values]
    shared = {name: value for of_layer in changes for name, value in of_layer.items()}
    config.update(shared)
    overrides = [dict(of_layer.items() - shared.items()) for of_layer in changes]
    if any(overrides):
        # few classes read this; the others come out with other shapes, or refuse
        config.per_layer_config = by_block(overrides)
    return config if _builds(structure, config, kept_layers, entries, shapes) else None


def by_block(values: Sequence[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Return the overrides of blocks that have some, by ``per_layer_config``'s names of blocks."""
    digits = len(str(len(values) - 1))
    return {
        str(place).zfill(digits): overrides for place, overrides in enumerate(values) if overrides
    }


def shorten(config: PreTrainedConfig, kept_layers: NDArray[np.int_]) -> dict[str, Any]:
    """Keep some layers in a config, in every list that has one value for each layer.

    Returns:
        The values that it replaced, by name.
    """
    count = config.num_hidden_layers
    lists: dict[str, list[Any]] = {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, list) and len(value) == count and not name.endswith(_NOT_FOR_LAYERS)
    }
    for name, value in lists.items():
        setattr(config, name, [value[index] for index in kept_layers])
    config.num_hidden_layers = len(kept_layers)
    return {"num_hidden_layers": count, **lists}


def _place_dense_layers(
    config: PreTrainedConfig, structure: ModelStructure, kept_layers: Sequence[int]
) -> None:
    """Set which of the kept layers have an MLP, if others have experts."""
    if all(layer.experts is None for layer in structure.layers):
        return
    dense = [place for place, i in enumerate(kept_layers) if structure.layers[i].experts is None]
    if hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace = len(dense)
    if hasattr(config, "mlp_only_layers"):
        config.mlp_only_layers, config.decoder_sparse_step = dense, 1


def _dense_sizes(structure: ModelStructure) -> tuple[NDArray[np.int_], list[SublayerEntry]]:
    """Return counts and entries of the dense model."""
    counts = np.array([component.member_count for component in structure.components])
    return counts, feed_forward_entries(structure, counts)


def _values(
    structure: ModelStructure,
    index: int,
    counts: NDArray[np.int_],
    entries: Sequence[SublayerEntry],
) -> dict[str, Any]:
    """Return what a config holds of the widths of one layer."""
    config, attention = structure.backbone.model.config, structure.layers[index].attention
    groups, entry = int(counts[structure.spans[index]][0]), entries[index]
    heads = config.num_attention_heads // attention.unit_count * groups
    values: dict[str, Any] = {"num_attention_heads": heads, "head_dim": head_dim(config)}
    if hasattr(config, "num_key_value_heads"):
        values["num_key_value_heads"] = groups
    if isinstance(entry, dict):
        return values | _values_of_experts(config, entry)
    return values | {_first(config, WIDTH_NAMES): entry}


def _values_of_experts(config: PreTrainedConfig, entry: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: entry["experts"] for name in COUNT_NAMES if hasattr(config, name)}
    values |= {name: entry["top_k"] for name in TOP_K_NAMES if hasattr(config, name)}
    values[_first(config, INNER_NAMES)] = entry["channels"]
    if "shared" in entry:
        if any(hasattr(config, name) for name in SHARED_NAMES):
            values[_first(config, SHARED_NAMES)] = entry["shared"]
        elif hasattr(config, SHARED_COUNT):
            values[SHARED_COUNT] = entry["shared"] // entry["channels"]
    return values


def _first(config: PreTrainedConfig, names: Sequence[str]) -> str:
    return next((name for name in names if hasattr(config, name)), names[0])


def head_dim(config: PreTrainedConfig) -> int:
    """Return the width of one head, which some configs leave implicit."""
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def _builds(
    structure: ModelStructure,
    config: PreTrainedConfig,
    kept_layers: Sequence[int],
    entries: Sequence[SublayerEntry],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Return whether a config gives the stock class exactly these shapes and expert counts."""
    model = _build(type(structure.backbone.model), config)
    if model is None or {n: tuple(w.shape) for n, w in lasting(model).items()} != shapes:
        return False
    stack = model.get_submodule(structure.backbone.stack_path)
    for place, index in enumerate(kept_layers):
        component, entry = structure.layers[index].experts, entries[index]
        if component is None or component.experts is None or not isinstance(entry, dict):
            continue
        layer = stack.get_submodule(str(place))
        counts_agree = [
            getattr(layer.get_submodule(path), name) == entry["experts"]
            for path, name in component.experts.count_attributes
        ] + [
            getattr(layer.get_submodule(path), name) == entry["top_k"]
            for path, name in component.experts.top_k_attributes
        ]
        if not all(counts_agree):
            return False
    return True


def _build(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel | None:
    """Build a stock model from a config, without weights; `None` if the class refuses it."""
    try:
        # rebuilt, because a config checks itself only when it is constructed
        checked = type(config).from_dict(config.to_dict())
        with torch.device("meta"):
            return model_class(checked)
    except _REFUSALS:
        return None


@torch.inference_mode()
def computes_alike(
    structure: ModelStructure,
    config: PreTrainedConfig,
    weights: Mapping[str, Tensor],
    layers: Sequence[nn.Module],
) -> bool:
    """Return whether the stock class computes what the cut layers do, at the places they get.

    It does not where a layer scales by its number, or by the depth of the model.

    Args:
        structure: The dense model.
        config: One that the weights fit.
        weights: By the names that they have in memory.
        layers: The cut layers, in the places of the dense ones.
    """
    backbone = structure.backbone
    stock: Any
    stock, _ = load_state(
        type(backbone.model),
        config,
        {name: weight.detach() for name, weight in weights.items()},
        dtype=backbone.model.dtype,
        attn_implementation=backbone.model.config._attn_implementation,
        experts_implementation="eager",
    )
    stock = stock.to(backbone.model.device)
    tokens = probe_tokens(backbone.model)
    inputs = backbone.enter(tokens)
    hidden = inputs.hidden
    for layer, call in zip(layers, inputs.calls, strict=True):
        hidden = backbone.run_layer(layer, hidden, call)
    expected = backbone.logits(backbone.leave(hidden))
    gaps = (stock.eval()(tokens, use_cache=False).logits - expected).abs().amax(dim=-1)
    # rounding only, and for most tokens: a router may take another expert where two are alike
    tolerance = 1e-3 if expected.dtype == torch.float32 else 0.1
    return bool((gaps <= tolerance * expected.std()).float().mean() > 0.5)


def as_published(
    weights: Mapping[str, Tensor], model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> dict[str, Tensor]:
    """Return weights as the family's checkpoints hold them, which may have experts one by one.

    Args:
        weights: By the names that they have in memory.
        model_class: The stock class.
        config: One that the weights fit.
    """
    model = _build(model_class, config)
    assert model is not None, "a stock class refuses a config that it has accepted before"
    published: dict[str, Tensor] = revert_weight_conversion(model, dict(weights))
    return published
