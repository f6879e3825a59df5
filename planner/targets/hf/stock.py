"""The config with which a stock class has exactly the weights that a plan keeps, if there is one.

What a config calls a width differs from family to family, so names are tried, and the shapes that
the class builds from them are compared.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from planner.targets.cut_layers import logits_of_layers
from planner.targets.hf.wiring import Sizes, Wiring
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
    wiring: Wiring, sizes: Sequence[Sizes], shapes: Mapping[str, tuple[int, ...]]
) -> PreTrainedConfig | None:
    """Return a config with which the stock class has exactly these weights, if there is one.

    Args:
        wiring: Of the model that was cut.
        sizes: What each of its layers keeps.
        shapes: Shape of each weight and persistent buffer, as the stock class names them.
    """
    kept_layers = [index for index, of_layer in enumerate(sizes) if any(of_layer.values())]
    if not all(all(sizes[index].values()) for index in kept_layers):
        return None
    config = copy.deepcopy(wiring.config)
    shorten(config, np.array([wiring.sources[index] for index in kept_layers]))
    place_dense_layers(config, [wiring.kind(index) for index in kept_layers], wiring)
    values = [_values(wiring, index, sizes[index]) for index in kept_layers]
    dense_values = [_values(wiring, index, wiring.dense_sizes(index)) for index in kept_layers]
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
    return config if _builds(wiring, config, kept_layers, sizes, shapes) else None


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


def place_dense_layers(
    config: PreTrainedConfig, kinds: Sequence[Mapping[str, Any]], wiring: Wiring
) -> None:
    """Set which of the kept layers, of these kinds, have an MLP, if others have experts."""
    if not any("experts" in kind for kind in wiring.kinds):
        return
    dense = [place for place, kind in enumerate(kinds) if "experts" not in kind]
    if hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace = len(dense)
    if hasattr(config, "mlp_only_layers"):
        config.mlp_only_layers, config.decoder_sparse_step = dense, 1


def _values(wiring: Wiring, index: int, sizes: Sizes) -> dict[str, Any]:
    """Return what a config holds of the widths of one layer."""
    config, values = wiring.config, dict[str, Any]()
    if "attention" in sizes:
        units = wiring.kind(index)["attention"]["units"]
        heads = config.num_attention_heads // units * sizes["attention"]
        values |= {"num_attention_heads": heads, "head_dim": head_dim(config)}
        if hasattr(config, "num_key_value_heads"):
            values["num_key_value_heads"] = sizes["attention"]
    if "experts" in sizes:
        values |= values_of_experts(config, sizes)
    if "mlp" in sizes:
        values[_first(config, WIDTH_NAMES)] = sizes["mlp"]
    return values


def values_of_experts(config: PreTrainedConfig, sizes: Sizes) -> dict[str, Any]:
    """Return what a config holds of the experts of one layer."""
    values: dict[str, Any] = {n: sizes["experts"] for n in COUNT_NAMES if hasattr(config, n)}
    values |= {name: sizes["top_k"] for name in TOP_K_NAMES if hasattr(config, name)}
    values[_first(config, INNER_NAMES)] = sizes["channels"]
    if "shared" in sizes:
        if any(hasattr(config, name) for name in SHARED_NAMES):
            values[_first(config, SHARED_NAMES)] = sizes["shared"]
        elif hasattr(config, SHARED_COUNT):
            values[SHARED_COUNT] = sizes["shared"] // sizes["channels"]
    return values


def _first(config: PreTrainedConfig, names: Sequence[str]) -> str:
    return next((name for name in names if hasattr(config, name)), names[0])


def head_dim(config: PreTrainedConfig) -> int:
    """Return the width of one head, which some configs leave implicit."""
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def _builds(
    wiring: Wiring,
    config: PreTrainedConfig,
    kept_layers: Sequence[int],
    sizes: Sequence[Sizes],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Return whether a config gives the stock class exactly these shapes and expert counts."""
    model = build(wiring.model_class, config)
    if model is None or {n: tuple(w.shape) for n, w in lasting(model).items()} != shapes:
        return False
    stack = model.get_submodule(wiring.stack)
    return all(
        getattr(stack.get_submodule(str(place)).get_submodule(path), name) == sizes[index][size]
        for place, index in enumerate(kept_layers)
        for size, attributes in (("experts", "count_attributes"), ("top_k", "top_k_attributes"))
        for path, name in wiring.kind(index).get("experts", {}).get(attributes, ())
    )


def build(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel | None:
    """Make a stock model from a config, without weights; `None` if the class refuses it."""
    try:
        # rebuilt, because a config checks itself only when it is constructed
        checked = type(config).from_dict(config.to_dict())
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that such a config makes empty
            return model_class(checked)
    except _REFUSALS:
        return None


@torch.inference_mode()
def computes_alike(
    structure: ModelStructure,
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Mapping[str, Tensor],
    layers: Sequence[nn.Module],
) -> bool:
    """Return whether the stock class computes what the cut layers do, at the places they get.

    It does not where a layer scales by its number, or by the depth of the model.

    Args:
        structure: The dense model.
        model_class: The stock class.
        config: One that the weights fit.
        weights: By the names that they have in memory.
        layers: The cut layers, in the places of the dense ones.
    """
    backbone = structure.backbone
    stock: Any
    stock, _ = load_state(
        model_class,
        config,
        {name: weight.detach() for name, weight in weights.items()},
        dtype=backbone.model.dtype,
        attn_implementation=backbone.model.config._attn_implementation,
        experts_implementation="eager",
    )
    stock = stock.to(backbone.model.device)
    tokens = probe_tokens(backbone.model)
    expected = logits_of_layers(structure, layers, tokens)
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
    model = build(model_class, config)
    assert model is not None, "a stock class refuses a config that it has accepted before"
    published: dict[str, Tensor] = revert_weight_conversion(model, dict(weights))
    return published
