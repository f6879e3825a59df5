"""Layers of all kinds compute in llama.cpp what they compute in torch, or are refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GemmaConfig

from planner.targets.gguf.gguf_block import FILLER_WIDTH
from planner.targets.gguf.gguf_layers import blocks_of
from search_spaces.errors import TargetError
from search_spaces.structure.graft import graft
from search_spaces.structure.model import ModelStructure
from tests.models.factory import GROUPED, HEAD_DIM, Architecture
from tests.models.families import FAMILIES, dense
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.targets.gguf.kinds import (
    CHANNELS,
    UNIFORM,
    VARIED,
    cut_to,
    gap_in_llama_cpp,
)

ROUNDING = 1e-5
"""Of float32 sums in another order, in standard deviations of the logits."""
GELU = 5e-3
"""llama.cpp looks GELU up in a table of float16, whose numbers have 11 bits."""
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}


@pytest.fixture(scope="module")
def made() -> dict[str, ModelStructure]:
    """Models whose layers may differ; all tests share them."""
    families = {name: FAMILIES[name] for name in ("mistral", "qwen3", "llama")}
    return {
        "llama": dense("llama"),
        "qwen2": dense("qwen2"),
        "mistral": families["mistral"].structure(sliding_window=None),
        "qwen3": families["qwen3"].structure(tie_word_embeddings=True),
        "llama3": families["llama"].structure(rope_parameters=_LLAMA3),
        "biases": families["llama"].structure(
            rope_parameters=_LINEAR, attention_bias=True, mlp_bias=True
        ),
    }


@pytest.mark.parametrize("kind", [*UNIFORM, *VARIED])
@pytest.mark.parametrize(
    ("name", "own", "varied"),
    [
        ("llama", "llama", "deci"),
        ("qwen2", "qwen2", "deci"),
        ("qwen3", "qwen3", "openelm"),
        ("llama3", "llama", "deci"),
        ("biases", "llama", "deci"),
    ],
)
def test_layers_compute_in_llama_cpp_what_they_do_in_torch(
    made: dict[str, ModelStructure], name: str, own: str, varied: str, kind: str, tmp_path: Path
) -> None:
    counts = {**UNIFORM, **VARIED}[kind]
    layers = cut_to(made[name], counts)
    gap, blocks = gap_in_llama_cpp(made[name], layers, tmp_path / "model.gguf")
    assert gap < ROUNDING
    assert blocks.architecture.name == (own if kind in UNIFORM else varied)


def test_mistral_is_a_llama(made: dict[str, ModelStructure], tmp_path: Path) -> None:
    layers = cut_to(made["mistral"], VARIED["all-of-it"])
    gap, blocks = gap_in_llama_cpp(made["mistral"], layers, tmp_path / "model.gguf")
    assert gap < ROUNDING
    assert blocks.architecture.name == "deci"


def test_heads_fewer_in_all_layers_are_llamas_own_and_not_qwen2s(
    made: dict[str, ModelStructure], tmp_path: Path
) -> None:
    for name, architecture in (("llama", "llama"), ("qwen2", "deci"), ("qwen3", "qwen3")):
        layers = cut_to(made[name], [1, CHANNELS] * 6)
        gap, blocks = gap_in_llama_cpp(made[name], layers, tmp_path / "model.gguf")
        assert gap < ROUNDING
        assert blocks.architecture.name == architecture


@pytest.mark.parametrize("kind", UNIFORM)
@pytest.mark.parametrize(
    ("name", "allowed"), [("gpt2", GELU), ("gemma", GELU), ("granite", ROUNDING)]
)
def test_families_whose_layers_must_be_alike(
    name: str, allowed: float, kind: str, tmp_path: Path
) -> None:
    gemma = Architecture(
        name="gemma", config_class=GemmaConfig, options={**GROUPED, "head_dim": 2 * HEAD_DIM}
    )
    structure = gemma.structure() if name == "gemma" else dense(name)
    dense_counts = [component.unit_count for component in structure.components]
    counts = [
        own if count in (2, 48) else count
        for count, own in zip(UNIFORM[kind], dense_counts, strict=True)
    ]
    gap, blocks = gap_in_llama_cpp(structure, cut_to(structure, counts), tmp_path / "m.gguf")
    assert gap < allowed
    assert blocks.architecture.name == name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mixtral", {}),
        ("qwen2-moe", {"norm_topk_prob": False}),
        ("qwen3-moe", {"mlp_only_layers": []}),
    ],
)
def test_experts_as_many_in_each_layer(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    structure = MOE_FAMILIES[name].structure(**options)
    first = structure.layers[0].components
    counts = [
        0 if component in first else component.member_count - 2 * (component.kind == "experts")
        for component in structure.components
    ]
    layers = cut_to(structure, counts)
    gap, blocks = gap_in_llama_cpp(structure, layers, tmp_path / "model.gguf")
    assert gap < ROUNDING
    assert len(blocks.blocks) == len(structure.layers) - 1
    counts[len(first) : 2 * len(first)] = [component.member_count for component in first]
    with pytest.raises(TargetError, match="different shapes"):
        blocks_of(structure, cut_to(structure, counts))


def test_zeros_stand_for_what_llama_cpp_cannot_be_without() -> None:
    structure = dense("llama")
    laid_out = blocks_of(structure, cut_to(structure, VARIED["all-of-it"]))
    blocks = laid_out.blocks
    assert len(blocks) == 5
    assert [block.heads for block in blocks] == [1, 4, 2, 4, 2]
    assert [block.kv_heads for block in blocks] == [1, 2, 1, 2, 1]
    assert [block.width for block in blocks] == [CHANNELS, 16, CHANNELS, *[FILLER_WIDTH] * 2]
    fillers = [{name.partition(".")[0] for name in block.filler} for block in blocks]
    mlp = {"ffn_norm", "ffn_gate", "ffn_up", "ffn_down"}
    assert fillers[0] == {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"}
    assert fillers[1:] == [set(), set(), mlp, mlp]
    assert {name for name in laid_out.filler if name.startswith("blk.3.")} == {
        f"blk.3.{part}.weight" for part in mlp
    }


def test_what_must_be_alike_and_is_not_is_refused_by_the_name_of_its_architecture() -> None:
    untied = dense("qwen3")
    for name, structure in (("qwen3", untied), ("granite", dense("granite"))):
        with pytest.raises(TargetError, match=f"`{name}` of llama.cpp holds, and they are of di"):
            blocks_of(structure, cut_to(structure, VARIED["widths"]))
        with pytest.raises(TargetError, match="lacks its attention or its MLP"):
            blocks_of(structure, cut_to(structure, VARIED["no-mlp-in-2"]))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "mixtral"])
def test_a_model_without_layers_has_one_that_adds_nothing(
    made: dict[str, ModelStructure], name: str, tmp_path: Path
) -> None:
    structure = {
        **made,
        "gpt2": dense("gpt2"),
        "mixtral": MOE_FAMILIES["mixtral"].structure(layers=1),
    }[name]
    layers = cut_to(structure, [0] * len(structure.components))
    gap, blocks = gap_in_llama_cpp(structure, layers, tmp_path / "model.gguf")
    assert gap < ROUNDING
    (block,) = blocks.blocks
    assert block.filler == set(block.tensors)


def with_bias(layer: nn.Module) -> nn.Module:
    """Add a bias to an MLP, as compensation does."""
    old = layer.get_submodule("mlp.down_proj")
    assert isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, old.out_features).requires_grad_(requires_grad=False)
    new.weight.copy_(old.weight)
    new.bias.copy_(torch.linspace(-1, 1, old.out_features))
    return graft(layer, {"mlp.down_proj": new})


def test_a_bias_that_compensation_adds_is_held_or_refused(
    made: dict[str, ModelStructure], tmp_path: Path
) -> None:
    for name, architecture in (("llama", "llama"), ("qwen2", "deci")):
        layers = [with_bias(layer) for layer in cut_to(made[name], UNIFORM["narrow"])]
        gap, blocks = gap_in_llama_cpp(made[name], layers, tmp_path / "model.gguf")
        assert gap < ROUNDING
        assert blocks.architecture.name == architecture
    layers = [with_bias(layer) for layer in cut_to(made["qwen3"], UNIFORM["narrow"])]
    with pytest.raises(TargetError, match=r"`ffn_down\.bias`; search without"):
        blocks_of(made["qwen3"], layers)
    layers = [with_bias(layer) for layer in cut_to(dense("qwen3"), UNIFORM["narrow"])]
    with pytest.raises(TargetError, match=r"no `ffn_down\.bias`, which compensation adds"):
        blocks_of(dense("qwen3"), layers)
