"""Writing a GGUF file: what it says of its model, and the tensors."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gguf import (
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFWriter,
    RopeScalingType,
    quants,
)
from torch import Tensor

from planner.targets.gguf.gguf_block import Rows
from planner.targets.gguf.gguf_families import Architecture, family_of, is_tied, rope_of
from planner.targets.gguf.gguf_layers import Blocks, embedding_shape, head_dim_of, name_map
from planner.targets.gguf.gguf_runtime import quantize
from planner.targets.gguf.gguf_types import (
    WRITTEN_HERE,
    GgufType,
    check_rows,
    file_type_of,
    row_block,
)
from planner.targets.gguf.gguf_vocabulary import Vocabulary
from search_spaces.atomic_files import writing
from search_spaces.errors import TargetError
from search_spaces.models.fingerprint import lasting
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.structure.backbone import position_count
from search_spaces.structure.model import ModelStructure

DTYPES: Mapping[GgufType, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Of types that are no blocks of integers with a scale."""
_KEPT_IN_FLOAT32 = ("ffn_gate_inp", "position_embd", "rope_freqs")
"""Matrices that llama.cpp reads in float32 alone, or that decide too much."""


def type_of(dtype: torch.dtype) -> GgufType:
    """Return the type of numbers of a dtype; float32 for those that a file does not hold."""
    return next((name for name, each in DTYPES.items() if each == dtype), "F32")


@dataclass(frozen=True, kw_only=True)
class GgufModel:
    """What one file holds."""

    structure: ModelStructure
    """The dense model, whose embedding, last norm and head it has."""
    blocks: Blocks
    """Its layers."""
    vocabulary: Vocabulary | None = None
    """Its tokens; None: it has no tokenizer."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What it says of itself, by keys of ``general``."""
    quantized: Mapping[str, QuantizedMatrix] = field(default_factory=dict)
    """The bytes of its embedding and head, if they are in a number format, by their paths."""

    def tensors(self) -> dict[str, Rows]:
        """Return all tensors by their names in the file."""
        tensors = _outside(self.structure, self.blocks.architecture, self.quantized)
        for number, block in enumerate(self.blocks.blocks):
            tensors |= {f"blk.{number}.{name}": each for name, each in block.tensors.items()}
        return tensors


def write_file(
    path: Path, model: GgufModel, number_type: GgufType, *, quantized_from: GgufType = "F32"
) -> None:
    """Write a model.

    Args:
        path: The file.
        model: What it is to hold.
        number_type: Of its matrices but for those in number formats; vectors are float32.
        quantized_from: Of a file that is written first, if that takes llama.cpp's quantiser.

    Raises:
        TargetError: If a tensor has no place in such a file, or no such type.
        MissingExtraError: If it takes the quantiser, and that is not installed.
    """
    if number_type in WRITTEN_HERE:
        _write(path, model, number_type)
        return
    check_rows(number_type, model.blocks.row_lengths)
    plain = path.with_suffix(".plain")
    _write(plain, model, quantized_from)
    try:
        quantize(plain, path, int(file_type_of(number_type)), threads=torch.get_num_threads())
    finally:
        plain.unlink()


def _write(path: Path, model: GgufModel, number_type: GgufType) -> None:
    writer = GGUFWriter(None, model.blocks.architecture.name)
    for key, value in model.about.items():
        writer.add_string(f"general.{key}", value)
    if "base_model.0.name" in model.about:
        writer.add_base_model_count(1)
    tensors = model.tensors()
    writer.add_file_type(file_type_of(_usual_type(tensors, number_type)))
    writer.add_quantization_version(GGML_QUANT_VERSION)
    _describe(writer, model.structure, model.blocks)
    if model.vocabulary is None:
        writer.add_tokenizer_model("none")
    else:
        model.vocabulary.write(writer)
    for name, rows in tensors.items():
        if isinstance(rows, Tensor):
            _add(writer, name, rows.cpu(), number_type)
        else:
            kind = GGMLQuantizationType[rows.format.name]
            writer.add_tensor(name, rows.data.contiguous().numpy(), raw_dtype=kind)
    with writing(path):
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _usual_type(tensors: Mapping[str, Rows], number_type: GgufType) -> str:
    """Return the type of most numbers of a file."""
    counts: Counter[str] = Counter()
    for rows in tensors.values():
        name = number_type if isinstance(rows, Tensor) else rows.format.name
        counts[name] += math.prod(rows.shape)
    return counts.most_common(1)[0][0]


def _describe(writer: GGUFWriter, structure: ModelStructure, blocks: Blocks) -> None:
    """Say what the model computes with."""
    model: Any = structure.backbone.model
    config, head_dim = model.config, head_dim_of(structure)
    vocabulary_size, hidden = embedding_shape(structure)
    writer.add_context_length(position_count(model) or 2**15)
    writer.add_embedding_length(hidden)
    writer.add_vocab_size(vocabulary_size)
    writer.add_block_count(len(blocks.blocks))
    writer.add_head_count(_of_layers([block.heads for block in blocks.blocks]))
    writer.add_head_count_kv(_of_layers([block.kv_heads for block in blocks.blocks]))
    writer.add_feed_forward_length(_of_layers([block.width for block in blocks.blocks]))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if (epsilon := getattr(config, "rms_norm_eps", None)) is not None:
        writer.add_layer_norm_rms_eps(epsilon)
    else:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    _describe_rope(writer, rope_of(config), head_dim)
    _describe_experts(writer, blocks)
    if config.model_type == "granite":
        writer.add_logit_scale(config.logits_scaling)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_attention_scale(config.attention_multiplier)


def _describe_rope(writer: GGUFWriter, rope: Mapping[str, Any], head_dim: int) -> None:
    if not rope:
        return
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _describe_experts(writer: GGUFWriter, blocks: Blocks) -> None:
    first = blocks.blocks[0]
    if not first.expert_count:
        return
    writer.add_expert_count(first.expert_count)
    writer.add_expert_used_count(first.experts_run)
    writer.add_expert_feed_forward_length(first.expert_width)
    if first.shared_width:
        writer.add_expert_shared_feed_forward_length(first.shared_width)


def _of_layers(values: Sequence[int]) -> Any:
    """Return one number if all layers have the same, else that of each."""
    return values[0] if len(set(values)) == 1 else list(values)


def _outside(
    structure: ModelStructure,
    architecture: Architecture,
    quantized: Mapping[str, QuantizedMatrix],
) -> dict[str, Rows]:
    """Return embedding, last norm, head, and what stretches rotary positions."""
    model, family = structure.backbone.model, family_of(structure)
    assert family is not None, "a model of no family has no blocks"
    names, tensors = name_map(family), dict[str, Rows]()
    for path, tensor in lasting(model).items():
        if path.startswith(f"{structure.backbone.stack.path}."):
            continue
        name = names.get_name(path, (".weight", ".bias"))
        if name is None:
            raise TargetError(
                f"each tensor must have a place in a GGUF file, and `{path}` has none in "
                f"`{architecture.name}` of llama.cpp; export with `--format hf`"
            )
        one_more = family.one_added_to_norms and "norm" in name
        plain = tensor.detach() + 1 if one_more else tensor.detach()
        tensors[name] = quantized.get(path) or plain
    if is_tied(structure):
        tensors.pop("output.weight", None)
    rope: Any = rope_of(model.config)
    if rope.get("rope_type") == "llama3":
        decoder: Any = structure.backbone.decoder
        pace = decoder.rotary_emb.inv_freq.float()  # (head_dim / 2,)
        powers = torch.arange(0, 2 * len(pace), 2, device=pace.device) / (2 * len(pace))
        tensors["rope_freqs.weight"] = rope["rope_theta"] ** -powers / pace
    return tensors


def float32_names(structure: ModelStructure) -> Iterator[str]:
    """Yield the names in the model of the tensors that are in float32 in every file."""
    model, family = structure.backbone.model, family_of(structure)
    assert family is not None, "a model of no family is held in no file"
    names = name_map(family, len(structure.layers))
    for path, tensor in lasting(model).items():
        if _is_float32(names.get_name(path, (".weight", ".bias")) or "", tensor):
            yield path


def _is_float32(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor of a name in the file is in float32, whatever the others are in."""
    return tensor.ndim < 2 or any(part in name for part in _KEPT_IN_FLOAT32)


def _add(writer: GGUFWriter, name: str, tensor: Tensor, number_type: GgufType) -> None:
    """Add a tensor; vectors and what decides too much stay in float32."""
    if _is_float32(name, tensor):
        number_type = "F32"
    elif tensor.shape[-1] % row_block(number_type):
        number_type = "F16"
    if number_type == "Q8_0":
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quants.quantize(tensor.float().numpy(), kind), raw_dtype=kind)
        return
    stored = tensor.to(DTYPES[number_type]).contiguous()
    if number_type == "F16" and not bool(stored.isfinite().all()):
        raise TargetError(
            f"float16 must hold all numbers of a model, and those of `{name}` are larger than "
            "65504; set `--gguf_type BF16`"
        )
    if number_type == "BF16":  # which NumPy has not
        data = stored.view(torch.uint8).numpy()
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, stored.numpy())
