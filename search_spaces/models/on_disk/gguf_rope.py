"""Rotary positions of a GGUF file: scaling that transformers' reader leaves out."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray

from search_spaces.errors import ModelError, quoted

_FREQUENCIES = "rope_freqs.weight"
_FACTORS = ("rope_factors_short.weight", "rope_factors_long.weight")
ROPE_TENSORS = (_FREQUENCIES, *_FACTORS)
"""Tensors that are no weights, but stretch rotary positions."""
_IDLE = {"scaling.finetuned"}
_YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a GGUF file says of its model."""

    name: str
    """Of the file."""
    architecture: str
    values: Mapping[str, Any]
    """By their keys without the architecture."""
    tensor_sizes: Mapping[str, int]
    """Numbers in each tensor."""
    rope_tensors: Mapping[str, NDArray[np.float64]]
    """What stretches rotary positions, by name."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read the metadata of a file that transformers could read.

        Raises:
            ModelError: If it is a part of a model only.
        """
        reader = GGUFReader(path)
        fields = {
            key: field.contents()
            for key, field in reader.fields.items()
            if not key.startswith("tokenizer.")  # of long lists
        }
        prefix = f"{fields['general.architecture']}."
        metadata = cls(
            name=path.name,
            architecture=prefix[:-1],
            values={k.removeprefix(prefix): v for k, v in fields.items() if k.startswith(prefix)},
            tensor_sizes={each.name: int(each.n_elements) for each in reader.tensors},
            rope_tensors={
                each.name: np.array(each.data, np.float64).reshape(-1)
                for each in reader.tensors
                if each.name in ROPE_TENSORS
            },
        )
        if fields.get("split.count", 0) > 1:
            raise metadata.refusal("split.count", fields["split.count"])
        return metadata

    def refusal(self, key: str, value: object) -> ModelError:
        """Return the sentence for what no config of transformers holds."""
        return ModelError(
            "a GGUF file must say nothing that transformers leaves out, and "
            f"{quoted(self.name, 40)} says {quoted(key, 60)} = {quoted(str(value), 40)}; give the "
            "HuggingFace folder that it was made from"
        )

    def own_refusal(self, key: str) -> ModelError:
        """Return the sentence for a value that it says of its architecture."""
        return self.refusal(f"{self.architecture}.{key}", self.values[key])


def equal(held: object, value: object) -> bool:
    """Return whether a config holds a value of the file, which is of float32."""
    if isinstance(held, int | float) and isinstance(value, int | float):
        return math.isclose(held, value, rel_tol=1e-6)
    return held == value


def keep_rope_(config: Any, metadata: Metadata) -> None:
    """Put into a config what a file says of rotary positions.

    Raises:
        ModelError: If the config has no place for it.
    """
    said = {k[5:]: v for k, v in metadata.values.items() if k.startswith("rope.")}
    tables = getattr(config, "rope_parameters", None)
    if not isinstance(tables, dict):
        for key, value in said.items():
            if value and value != "none" and key not in ("dimension_count", *_IDLE):
                raise metadata.own_refusal(f"rope.{key}")
        return
    is_nested = isinstance(tables.get("full_attention"), dict)
    table = dict(tables["full_attention"] if is_nested else tables)
    table |= dict(_changes(config, table, metadata, said))
    if not is_nested:
        config.rope_parameters = table
        if table["rope_type"] == "longrope":  # where some families look for it
            config.original_max_position_embeddings = table["original_max_position_embeddings"]
        return
    sliding = dict(tables.get("sliding_attention") or {})
    if "freq_base_swa" in said:
        sliding["rope_theta"] = float(said["freq_base_swa"])
    config.rope_parameters = {**tables, "full_attention": table, "sliding_attention": sliding}


def _changes(
    config: Any, table: Mapping[str, Any], metadata: Metadata, said: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    left = {key: value for key, value in said.items() if key not in _IDLE}
    theta = float(left.pop("freq_base", table["rope_theta"]))
    if not equal(table["rope_theta"], theta):
        yield "rope_theta", theta
    heads = int(config.num_attention_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    rotary = left.pop("dimension_count", None)
    turned = head_dim * table.get("partial_rotary_factor", 1.0)
    if rotary and not equal(rotary, int(turned)):
        if "partial_rotary_factor" not in table and not hasattr(config, "partial_rotary_factor"):
            raise metadata.own_refusal("rope.dimension_count")
        yield "partial_rotary_factor", rotary / head_dim
    if "sliding_attention" in (config.rope_parameters or {}):
        left.pop("freq_base_swa", None)
    yield from _scaling(left, metadata, theta).items()
    for key, value in left.items():
        if value:
            raise metadata.own_refusal(f"rope.{key}")


def _scaling(left: dict[str, Any], metadata: Metadata, theta: float) -> dict[str, Any]:
    """Return the parameters of a scaling, and take from ``left`` what says them.

    Raises:
        ModelError: If transformers has no such scaling.
    """
    linear = left.pop("scale_linear", 0)
    factor = float(left.pop("scaling.factor", 0) or linear or 1)
    kind = left.pop("scaling.type", "none" if factor == 1 else "linear")
    length = int(left.pop("scaling.original_context_length", 0))
    attention = float(left.pop("scaling.attn_factor", 0) or 1)
    tensors = metadata.rope_tensors
    original = {"original_max_position_embeddings": length or metadata.values["context_length"]}
    if all(name in tensors for name in _FACTORS):
        short, long = (tensors[name].tolist() for name in _FACTORS)
        stretched = {"rope_type": "longrope", "short_factor": short, "long_factor": long}
        return stretched | original | ({"attention_factor": attention} if attention != 1 else {})
    if _FREQUENCIES in tensors and not np.allclose(tensors[_FREQUENCIES], 1):
        return _llama3(metadata, theta, length)
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return {"rope_type": "yarn", "factor": factor} | original | _yarn(left, factor, attention)
    if kind != "none":
        raise metadata.own_refusal("rope.scaling.type")
    return {}


def _yarn(left: dict[str, Any], factor: float, attention: float) -> dict[str, float]:
    """Return what a file says of yarn besides the factor and the length."""
    if left.get("scaling.yarn_ext_factor") in {1, -1}:  # what a reader takes by default
        del left["scaling.yarn_ext_factor"]
    said = {
        name: left.pop(f"scaling.{key}") for key, name in _YARN.items() if f"scaling.{key}" in left
    }
    attention *= float(left.pop("scaling.yarn_attn_factor", 0) or 1)
    if attention != 1:
        said["attention_factor"] = attention * (0.1 * math.log(factor) + 1)
    return said


def _llama3(metadata: Metadata, theta: float, original: int) -> dict[str, Any]:
    """Return the parameters of Llama 3 whose stretches of each frequency a file holds.

    Raises:
        ModelError: If none of those in use gives them.
    """
    stretches = metadata.rope_tensors[_FREQUENCIES]
    factor = float(np.round(stretches.max(), 3))
    wavelengths = 2 * math.pi * theta ** (np.arange(len(stretches)) / len(stretches))
    low, high = _LLAMA3.values()
    for length in filter(None, (original, 8192, int(metadata.values["context_length"] / factor))):
        smooth = np.clip((length / wavelengths - low) / (high - low), 0, 1)
        if np.allclose(stretches, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "original_max_position_embeddings": length,
                **_LLAMA3,
            }
    raise metadata.refusal(_FREQUENCIES, f"up to {factor:g}")
