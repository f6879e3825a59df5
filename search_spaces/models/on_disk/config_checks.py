"""What a ``config.json`` must say, and which of its fields is at fault if no model comes of it."""

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from search_spaces.errors import ModelError, quoted
from search_spaces.models.on_disk.plain_files import read_json

_ROPE_TYPES = {*ROPE_INIT_FUNCTIONS, "default", "su", "mrope"}
"""The last two are old names, which transformers replaces."""
_ROPE_FIELDS = ("rope_parameters", "rope_scaling")
_QUANTISATIONS = {*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"}
_PLAIN: tuple[tuple[str, type, str], ...] = (
    ("sliding_window", int, "a whole number or null"),
    ("dtype", str, "the name of a number format"),
    ("torch_dtype", str, "the name of a number format"),
    *((field, dict, "an object or null") for field in ("auto_map", "quantization_config")),
    *((field, dict, "an object or null") for field in _ROPE_FIELDS),
)
LARGEST_NUMBER = 2**62
_SIZES = {
    "hidden_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "intermediate_size": 1,
    "vocab_size": 1,
    "head_dim": 1,
    "max_position_embeddings": 2,
}
"""The least that each may be: of one token, nothing is predicted."""
_REACHES = {
    "sliding_attention": "sliding_window",
    "chunked_attention": "attention_chunk_size",
}
"""Types of layers that do not see all tokens, and the field that says how many they see."""
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "an object"),
)
_NOT_NEGATIVE = ("_eps", "_epsilon")
_OF_FAMILY = "one that this family takes"
_OURS: Mapping[str, bool] = {
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "torchscript": False,
}
"""What a config may ask of a forward pass, and what we need."""


def wrong(name: str, field: str, rule: str, value: object) -> ModelError:
    """Return the sentence for a field with a wrong value."""
    return ModelError(
        f"{quoted(field, 40)} in the config.json of {quoted(name)} must be {rule}, got "
        f"{quoted(repr(value), 60)}; correct it, or get config.json again"
    )


def check_values(name: str, raw: Mapping[str, Any]) -> None:
    """Refuse values that no config of a causal language model holds.

    Raises:
        ModelError: If a field that we read ourselves is of another kind.
    """
    model_type, architectures = raw.get("model_type"), raw.get("architectures")
    if not isinstance(model_type, str) or not model_type:
        raise wrong(name, "model_type", "the name of a family, such as llama", model_type)
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(each, str) for each in architectures)
    ):
        raise wrong(name, "architectures", "a list of names of classes", architectures)
    others = raw.get("configuration_files", [])
    if not isinstance(others, list) or any(Path(str(each)).name != each for each in others):
        raise wrong(name, "configuration_files", "a list of files in the folder", others)
    for field, kinds, rule in _PLAIN:
        if not isinstance(raw.get(field), kinds | None):
            raise wrong(name, field, rule, raw[field])
    own_classes = (raw.get("auto_map") or {}).values()
    if not all(isinstance(each, str | list | None) for each in own_classes):
        raise wrong(name, "auto_map", "names of classes", raw["auto_map"])
    _check_numbers(name, raw)
    _check_rope(name, raw)
    _check_quantisation(name, raw.get("quantization_config"))


def _check_numbers(name: str, raw: Mapping[str, Any]) -> None:
    left = list(raw.items())
    while left:
        field, value = left.pop()
        if isinstance(value, dict):
            left.extend(value.items())
        elif isinstance(value, list):
            left.extend((field, each) for each in value)
        elif isinstance(value, float) and not _is_finite(field, value):
            raise wrong(name, field, "a finite number", value)
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise wrong(name, field, "a number of at most 62 bits", value)
        if isinstance(value, int | float) and value < 0 and field.endswith(_NOT_NEGATIVE):
            raise wrong(name, field, "at least 0", value)


def _is_finite(field: str, value: float) -> bool:
    """Return whether a number is finite, or no limit where one is asked for (Mamba's steps)."""
    return math.isfinite(value) or (value == math.inf and field.endswith("_limit"))


def _check_rope(name: str, raw: Mapping[str, Any]) -> None:
    text = raw.get("text_config")
    for part in (raw, text if isinstance(text, dict) else {}):
        _check_above_0(name, part, ("rope_theta",))
        for field in _ROPE_FIELDS:
            rope = part.get(field) or {}
            if not isinstance(rope, dict):
                continue
            by_layer_type = [value for value in rope.values() if isinstance(value, dict)]
            for values in by_layer_type or [rope]:
                _check_above_0(name, values, ("rope_theta", "factor"))
                _check_factors(name, values)
                kind = values.get("rope_type", values.get("type", "default"))
                if not isinstance(kind, str) or kind not in _ROPE_TYPES:
                    known = ", ".join(sorted(_ROPE_TYPES))
                    raise wrong(name, field, f"of a `rope_type` among {known}", kind)


def _check_factors(name: str, rope: Mapping[str, Any]) -> None:
    for field in ("short_factor", "long_factor"):
        factors = rope.get(field, [])
        if not isinstance(factors, list):
            raise wrong(name, field, "a list of numbers", factors)
        for factor in factors:
            if not isinstance(factor, int | float) or factor <= 0:
                raise wrong(name, field, "of numbers above 0", factor)


def _check_above_0(name: str, values: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for field in fields:
        value = values.get(field)
        if isinstance(value, int | float) and value <= 0:
            raise wrong(name, field, "above 0", value)


def _check_quantisation(name: str, quantisation: Mapping[str, Any] | None) -> None:
    if quantisation is None:
        return
    method = quantisation.get("quant_method")
    old = any(quantisation.get(field) for field in ("load_in_4bit", "load_in_8bit"))
    known = isinstance(method, str) and method in _QUANTISATIONS
    if not (known or (method is None and old)):
        rule = "of a `quant_method` that transformers reads, such as gptq or awq"
        raise wrong(name, "quantization_config", rule, method)


def check_sizes(name: str, config: PreTrainedConfig) -> None:
    """Refuse sizes that are not positive, and layers that look back no one says how far.

    Raises:
        ModelError: If there are such.
    """
    try:
        text = config.get_text_config()
    except ValueError as error:  # of several texts, as of a model that makes music
        kind = "that of a causal language model"
        raise wrong(name, "model_type", kind, config.model_type) from error
    if not isinstance(text, PreTrainedConfig):  # as a family without a wrapper leaves it
        field = next(field for field, value in vars(config).items() if value is text)
        raise wrong(name, field, "left out, for this family has none", text)
    values = vars(text)  # an attribute that differs by layer cannot be asked for
    for size, least in _SIZES.items():
        field = text.attribute_map.get(size, size)
        value = values.get(field)
        if isinstance(value, int) and value < least:
            raise wrong(name, field, f"at least {least}", value)
    for kind, field in _REACHES.items():
        if kind in (values.get("layer_types") or ()) and values.get(field, 1) is None:
            raise wrong(name, field, f"a whole number, for `layer_types` has {kind}", None)


def check_depth(name: str, config: PreTrainedConfig, tensor_count: int) -> None:
    """Refuse more layers than the checkpoint has tensors, before they are made.

    Raises:
        ModelError: If there are.
    """
    text = config.get_text_config()
    field = text.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    layers = vars(text).get(field, 0)
    if isinstance(layers, int) and layers > tensor_count:
        raise wrong(name, field, f"at most the {tensor_count} tensors of the checkpoint", layers)


def check_generation(file: Path) -> None:
    """Refuse a generation config that transformers cannot read.

    Raises:
        ModelError: If it is one.
    """
    values = read_json(file)
    try:
        GenerationConfig.from_dict(values)
    except Exception as error:
        raise ModelError(
            f"{quoted(str(file))} must hold settings that transformers generates with, and it "
            "holds others; correct it, or take it out of the folder"
        ) from error


def ask_for_logits_(config: PreTrainedConfig) -> None:
    """Set what a forward pass returns to what we need, whatever the config asks for."""
    parts = (getattr(config, name, None) for name in config.sub_configs)
    for each in (config, *(part for part in parts if isinstance(part, PreTrainedConfig))):
        for field, value in _OURS.items():
            if getattr(each, field, value) != value:
                setattr(each, field, value)


def blamed(
    name: str, raw: Mapping[str, Any], make: Callable[[dict[str, Any]], object]
) -> ModelError:
    """Find the field without which a config works, and return a sentence about it.

    Args:
        name: The user's name of the model.
        raw: A config that does not work.
        make: Makes what it should describe from such values, or fails.
    """
    for field in () if _works(make, raw, "") else raw:
        if field != "model_type" and _works(make, raw, field):
            return wrong(name, field, _kind_of(raw, field, make), raw[field])
    return ModelError(
        f"a config.json must describe a model that transformers can make, and that of "
        f"{quoted(name)} describes none; get it again, or see why with `--debug`"
    )


def _works(
    make: Callable[[dict[str, Any]], object], raw: Mapping[str, Any], left_out: str
) -> bool:
    try:
        make(copy.deepcopy({field: raw[field] for field in raw if field != left_out}))
    except Exception:  # noqa: BLE001  (a trial, and any failure is its answer)
        return False
    return True


def _kind_of(raw: Mapping[str, Any], field: str, make: Callable[[dict[str, Any]], object]) -> str:
    """Return what a field must be, by the value that it has when it is left out."""
    made = make(copy.deepcopy({each: raw[each] for each in raw if each != field}))
    usual = getattr(getattr(made, "config", made), field, None)
    kind = next((words for kind, words in _KINDS if isinstance(usual, kind)), _OF_FAMILY)
    own = next((words for kind, words in _KINDS if isinstance(raw[field], kind)), "null")
    if (own, kind) == ("a whole number", "a number"):
        return f"a number with a point, such as {usual}"
    if own != kind:
        return kind
    return "one that transformers knows" if own == "text" else "a value that fits the others"
