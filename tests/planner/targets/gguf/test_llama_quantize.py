"""The line that makes a plan's file again: llama.cpp's own quantiser makes it, given the types."""

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, LlamaFileType

from planner.targets.cut_layers import CutLayers
from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import Blocks, blocks_of
from planner.targets.gguf.gguf_runtime import llama_cpp
from planner.targets.gguf.llama_quantize import TYPES_FILE, line, makes_it_again, write_types
from search_spaces.structure.model import ModelStructure
from tests.models.families import FAMILIES, dense
from tests.planner.targets.gguf.kinds import UNIFORM
from tests.planner.targets.in_formats import in_formats

_OVERRIDES_AT = 40
"""Of ``tt_overrides`` in ``llama_model_quantize_params``: four integers, six flags, two pointers
before it. cyllama shows that field, and does not let it be set."""
_MARK = 12_345
"""A number of threads by which these are found."""


class _Override(ctypes.Structure):
    """One entry of that list, whose last has no pattern."""

    _fields_ = (("pattern", ctypes.c_char_p), ("type", ctypes.c_int))


def quantized_by_llama_cpp(source: Path, types: Path, target: Path) -> None:
    """Do what ``llama-quantize --tensor-type-file`` does."""
    pairs = [entry.rsplit("=", 1) for entry in types.read_text().split()]
    entries = [
        _Override(name.encode(), int(GGMLQuantizationType[kind.upper()])) for name, kind in pairs
    ]
    overrides = (_Override * (len(entries) + 1))(*entries, _Override(None, 0))
    params = llama_cpp().LlamaModelQuantizeParams()
    params.ftype, params.nthread = int(LlamaFileType.MOSTLY_Q8_0), _MARK
    size = type(params).__basicsize__
    start = ctypes.string_at(id(params), size).index(_MARK.to_bytes(4, "little"))
    params.nthread = 1
    field = ctypes.c_void_p.from_address(id(params) + start + _OVERRIDES_AT)
    assert field.value is None
    field.value = ctypes.addressof(overrides)
    llama_cpp().model_quantize(str(source), str(target), params)


def whole(structure: ModelStructure) -> list[np.ndarray]:
    return [np.arange(component.member_count) for component in structure.components]


def laid_out(cut: CutLayers) -> Blocks:
    return blocks_of(cut.structure, cut.layers, cut.quantized)


@pytest.fixture(scope="module")
def wide() -> ModelStructure:
    """With rows of 256, as K-quants need them, and weights that bfloat16 holds."""
    structure = FAMILIES["llama"].structure(
        hidden_size=256, head_dim=64, intermediate_size=256, num_hidden_layers=2
    )
    for weight in structure.backbone.model.parameters():
        weight.data = weight.data.to(torch.bfloat16).float()
    return structure


def test_llama_cpp_makes_the_same_tensors(wide: ModelStructure, tmp_path: Path) -> None:
    chosen = {"attention": "Q6_K", "mlp": "Q3_K", "embedding": "Q4_K", "head": "Q5_1"}
    stock, ours, theirs = (tmp_path / f"{name}.gguf" for name in ("stock", "ours", "theirs"))
    whole_blocks = blocks_of(wide, wide.backbone.layers)
    write_file(stock, GgufModel(structure=wide, blocks=whole_blocks), "BF16")
    cut = in_formats(wide, whole(wide), chosen)
    model = GgufModel(structure=cut.structure, blocks=laid_out(cut), quantized=cut.quantized_ends)
    write_file(ours, model, "BF16")
    write_types(tmp_path / TYPES_FILE, ours)
    quantized_by_llama_cpp(stock, tmp_path / TYPES_FILE, theirs)
    made = {each.name: each for each in GGUFReader(theirs).tensors}
    for tensor in GGUFReader(ours).tensors:
        assert made[tensor.name].tensor_type == tensor.tensor_type
        np.testing.assert_array_equal(made[tensor.name].data, tensor.data)
    kinds = {each.tensor_type.name for each in made.values()}
    assert kinds == {"F32", *chosen.values()}


def test_only_a_plan_that_changes_no_shape_can_be_made_again() -> None:
    structure = dense("llama")
    cut = replace(in_formats(structure, whole(structure), {"mlp": "Q8_0"}), rounding="rtn")
    assert makes_it_again(cut, laid_out(cut))
    # some matrices came as they are in a file of few bits
    assert not makes_it_again(replace(cut, rounding=""), laid_out(cut))
    for kind in ("narrow", "layer-dropped"):
        kept = [np.arange(count) for count in UNIFORM[kind]]
        smaller = replace(in_formats(structure, kept, {"mlp": "Q8_0"}), rounding="rtn")
        assert not makes_it_again(smaller, laid_out(smaller))


def test_the_line_says_what_it_makes() -> None:
    structure = dense("llama")
    cut = in_formats(structure, whole(structure), {"mlp": "Q8_0"})
    told = line(replace(cut, rounding="rtn"), "model.gguf", "BF16")
    command = "llama-quantize --tensor-type-file tensor-types.txt STOCK.gguf model.gguf Q8_0"
    assert command in told
    assert "makes the same tensors of the stock" in " ".join(told.split())
    told = " ".join(line(replace(cut, rounding="gptq"), "model.gguf", "BF16").split())
    assert "of the same types and bytes, rounded to the nearest and not by `gptq`" in told
