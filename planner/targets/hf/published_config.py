"""What of a model's config still holds once it is written, spelt so that most readers read it."""

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RotaryEmbeddingConfigMixin

VERSION_5_15 = "transformers>=5.15"
"""Since then layers of one model may differ; the bundled code stands on that."""
VERSION_5 = "transformers>=5"
_OF_THE_SOURCE = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "auto_map",
        "compression_config",
        "custom_generate",
        "custom_pipelines",
        "gguf_file",
        "quantization",
        "quantization_config",
    }
)
"""True of the files that a config came with, and of no others: whence, by which code, how packed.
"""
_LATER_TOKENS = re.compile(r"(^|[_.])(mtp|nextn)([_.]|$)")
"""Names of what predicts more than one token."""


def published(config: Mapping[str, Any], weight_names: Collection[str]) -> dict[str, Any]:
    """Return a config without what is true of its source alone.

    Args:
        config: As a config class gives it, or a part of it.
        weight_names: All that are written. Heads of later tokens that have none are said to be
            none.
    """
    kept = {
        name: published(value, weight_names) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _OF_THE_SOURCE
    }
    if not any(_LATER_TOKENS.search(name) for name in weight_names):
        for name, value in kept.items():
            if _LATER_TOKENS.search(str(name)) and isinstance(value, int):
                kept[name] = type(value)(0)
    return kept


def spelt_for_all(
    config: dict[str, Any], config_class: type[PreTrainedConfig]
) -> tuple[dict[str, Any], str]:
    """Add to a stock config what version 4 of transformers reads in place of version 5's names.

    Args:
        config: What is to be written.
        config_class: Which reads it.

    Returns:
        The config, and the versions of transformers that read it as meant if not all do.
    """
    both = {**config, "torch_dtype": config["dtype"]}
    if "per_layer_config" in config:
        return both, VERSION_5_15
    if len(set(config.get("layer_types") or ())) > 1:
        return both, VERSION_5  # others tell layers by their numbers, which may be others here
    rope = config.get("rope_parameters")
    if not rope:
        return both, ""
    own_reading = getattr(config_class, "convert_rope_params_to_dict", None)
    usual = own_reading is RotaryEmbeddingConfigMixin.convert_rope_params_to_dict
    if not usual or any(isinstance(value, Mapping) for value in rope.values()):
        return both, VERSION_5  # named in the family's own way
    apart = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    scaling = {name: value for name, value in rope.items() if name not in apart}
    both |= apart
    if scaling.get("rope_type", "default") != "default":
        both["rope_scaling"] = scaling
    if _read(both, config_class) != _read(config, config_class):
        return {**config, "torch_dtype": config["dtype"]}, VERSION_5
    return both, ""


def _read(config: Mapping[str, Any], config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    # a copy, for the class completes what it is given
    return config_class.from_dict(copy.deepcopy(dict(config))).to_dict()
