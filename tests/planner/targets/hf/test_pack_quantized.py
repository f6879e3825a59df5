"""Integers packed as compressed-tensors has them: loaded by transformers, the very numbers."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from planner.targets.cut_layers import CutLayers, logits_of_layers
from planner.targets.hf.hf_target import HfTarget
from planner.targets.hf.loaded_folder import load_export, stored_tensors
from planner.targets.hf.native import native_holds
from planner.targets.hf.pack_quantized import packs
from search_spaces.errors import MissingExtraError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.number_format import FORMATS
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.families import FAMILIES, dense
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.export.exports import ROUNDING, Units
from tests.planner.targets.in_formats import in_formats

INT4, INT8 = FORMATS["int4"], FORMATS["int8"]
CHOSEN = {"attention": "int8", "mlp": "int4", "embedding": "int8", "head": "int4"}


@pytest.fixture(scope="module")
def structure() -> ModelStructure:
    """With rows of whole groups of 128, and weights that bfloat16 holds."""
    made = FAMILIES["llama"].structure(
        hidden_size=128, head_dim=32, intermediate_size=256, num_hidden_layers=3
    )
    for weight in made.backbone.model.parameters():
        weight.data = weight.data.bfloat16().float()
    return made


@pytest.fixture
def loaded(structure: ModelStructure, tokenizer: Any) -> LoadedModel:
    return LoadedModel(
        model=structure.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.bfloat16),
        identity=identify(structure.backbone.model),
    )


def kept(structure: ModelStructure, *, irregular: bool) -> list[Units]:
    counts = [component.unit_count for component in structure.components]
    if irregular:  # half a group of inputs of an output projection, half of an MLP, and none
        counts[0], counts[1], counts[3] = 1, 128, 0
    return [np.arange(count) for count in counts]


def written(cut: CutLayers, loaded: LoadedModel, folder: Path) -> dict[str, torch.Tensor]:
    HfTarget().write(folder, cut, loaded, None)
    return dict(stored_tensors(folder))


@pytest.mark.parametrize("irregular", [False, True])
def test_what_is_loaded_computes_what_was_scored(
    structure: ModelStructure, loaded: LoadedModel, tmp_path: Path, irregular: bool
) -> None:
    cut = in_formats(structure, kept(structure, irregular=irregular), CHOSEN)
    in_full = replace(loaded, stored=StoredFormat(dtype=torch.float32))
    written(cut, in_full, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert ("auto_map" in config) == irregular
    tokens = random_tokens()
    expected = logits_of_layers(cut.structure, cut.layers, tokens)
    with torch.inference_mode():
        gap = float((load_export(tmp_path)(tokens).logits - expected).abs().max())
    assert gap < ROUNDING * float(expected.std())


def test_a_file_holds_the_bytes_that_were_scored(
    structure: ModelStructure, loaded: LoadedModel, tmp_path: Path
) -> None:
    cut = in_formats(structure, kept(structure, irregular=False), CHOSEN)
    tensors = written(cut, loaded, tmp_path)
    name = "model.layers.2.mlp.up_proj.weight"
    assert name not in tensors
    assert tensors[f"{name}_shape"].tolist() == [256, 128]
    packed, scales = tensors[f"{name}_packed"], tensors[f"{name}_scale"]
    assert (packed.dtype, packed.shape) == (torch.int32, (256, 16))
    assert (scales.dtype, scales.shape) == (torch.bfloat16, (256, 1))
    # eight integers of four bits a word, the first in the lowest bits, 8 standing for zero
    integers = torch.stack([(packed >> shift) & 15 for shift in range(0, 32, 4)], dim=-1) - 8
    values = integers.flatten(1) * scales.float()
    matrix = cut.quantized[2]["mlp.up_proj.weight"]
    assert torch.equal(values, matrix.dequantized())
    count = sum(tensors[f"{name}_{part}"].nbytes for part in ("packed", "scale", "shape"))
    assert count == INT4.bytes_of(256, 128)
    # and nothing else is packed
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16


def test_the_config_says_of_each_linear_layer_what_it_holds(
    structure: ModelStructure, loaded: LoadedModel, tmp_path: Path
) -> None:
    cut = in_formats(structure, kept(structure, irregular=False), {"mlp": "int4"})
    loading = HfTarget().write(tmp_path, cut, loaded, None).loading
    assert "pip install compressed-tensors" in loading
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "compressed-tensors"
    assert said["format"] == "pack-quantized"
    (group,) = said["config_groups"].values()
    assert "model.layers.1.mlp.down_proj" in group["targets"]
    assert (group["weights"]["num_bits"], group["weights"]["group_size"]) == (4, 128)
    assert {"model.layers.1.self_attn.q_proj", "lm_head"} <= {*said["ignore"]}
    assert not {*said["ignore"]} & {*group["targets"]}


@pytest.mark.parametrize("irregular", [False, True])
def test_of_a_mixture_all_but_the_experts_is_packed(
    tokenizer: Any, tmp_path: Path, irregular: bool
) -> None:
    wide = {"hidden_size": 128, "head_dim": 32, "shared_expert_intermediate_size": 256}
    structure = MOE_FAMILIES["qwen2-moe"].structure(layers=2, **wide)
    loaded = LoadedModel(
        model=structure.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(structure.backbone.model),
    )
    kinds = [component.kind for component in structure.components]
    members = [np.arange(component.member_count) for component in structure.components]
    if irregular:
        members[kinds.index("experts")] = np.arange(4)
        members[kinds.index("shared")] = np.arange(128)
    cut = in_formats(structure, members, {"attention": "int8", "shared": "int4"})
    packed = {name for name in written(cut, loaded, tmp_path) if name.endswith("_packed")}
    assert len(packed) == 2 * (4 + 3)
    assert not any("experts." in name for name in packed)
    # no class of transformers reads plain experts beside packed layers
    assert "auto_map" in json.loads((tmp_path / "config.json").read_text())
    assert not native_holds(structure).stores
    tokens = random_tokens()
    expected = logits_of_layers(cut.structure, cut.layers, tokens)
    with torch.inference_mode():
        gap = float((load_export(tmp_path)(tokens).logits - expected).abs().max())
    assert gap < ROUNDING * float(expected.std())


def test_linear_layers_outside_of_stacks_are_packed(structure: ModelStructure) -> None:
    with_ends = structure.with_ends()
    *_, mlp, embedding, head = with_ends.components
    assert packs(with_ends, mlp, INT4)
    assert packs(with_ends, mlp, INT8)
    assert not packs(with_ends, mlp, FORMATS["Q4_K"])
    assert not packs(with_ends, embedding, INT8)
    assert not packs(with_ends, head, INT8)
    of_experts = MOE_FAMILIES["mixtral"].structure(layers=1)
    kinds = {each.kind: packs(of_experts, each, INT8) for each in of_experts.components}
    assert kinds == {"attention": True, "experts": False}
    of_gpt2 = dense("gpt2")  # whose layers are no `nn.Linear`
    assert not packs(of_gpt2, of_gpt2.components[0], INT8)


def test_a_missing_package_is_named(
    structure: ModelStructure,
    loaded: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "compressed_tensors", None)
    cut = in_formats(structure, kept(structure, irregular=False), {"mlp": "int4"})
    with pytest.raises(MissingExtraError, match=r"compression-planner\[packed\]"):
        HfTarget().write(tmp_path, cut, loaded, None)
