"""DeciLM exports: what vLLM reads of them, what they hold, and that transformers runs them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

import planner
from planner.targets.cut_layers import CutLayers, cut_layers
from planner.targets.deci.deci_target import DeciTarget, deci_model
from planner.targets.hf.hf_target import HfTarget
from planner.targets.holding import refusals
from search_spaces.errors import TargetError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import masked_logits, random_tokens
from tests.models.factory import GROUPED, make_model
from tests.models.families import FAMILIES, dense
from tests.planner.export.exports import assert_close, logits_of, plan_of

COUNTS = ([2, 48], [0, 48], [2, 0], [0, 16], [0, 0], [2, 24])
"""Kept groups and channels: no attention in layer 1, no MLP in 2, which runs with the MLP of 3;
layer 4 is gone."""


def cut_of(structure: ModelStructure, counts: Any = COUNTS) -> CutLayers:
    kept = [np.arange(count) for pair in counts for count in pair]
    return cut_layers(structure, plan_of(structure, kept))


def loaded(structure: ModelStructure, like: LoadedModel) -> LoadedModel:
    model = structure.backbone.model
    return replace(like, model=model, identity=identify(model))


def structure_of(name: str) -> ModelStructure:
    return FAMILIES[name].structure(sliding_window=None) if name == "mistral" else dense(name)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_it_computes_in_transformers_what_was_scored(
    name: str, loaded_llama: LoadedModel, tmp_path: Path
) -> None:
    structure, target = structure_of(name), DeciTarget()
    assert not target.holds(structure).refuses_model
    written = target.write(tmp_path, cut_of(structure), loaded(structure, loaded_llama), None)
    assert target.runtime == "torch"
    assert "vLLM" in written.notes[0]
    tokens = random_tokens()
    kept = [np.arange(count) for pair in COUNTS for count in pair]
    expected = masked_logits(FAMILIES[name], structure, kept, tokens)
    with target.serve(tmp_path, threads=1, exact=True) as served:
        assert_close(torch.from_numpy(served.logits(tokens.numpy())), expected)
        stepped = torch.from_numpy(served.stepped_logits(tokens.numpy()))
        assert_close(stepped, expected[:, -stepped.shape[1] :])
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    growing = model.generate(tokens, **options)
    assert torch.equal(growing, model.generate(tokens, cache_implementation="static", **options))
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert torch.equal(logits_of(again, tokens), logits_of(model, tokens))


def test_its_config_is_read_as_vllm_reads_it(
    llama: ModelStructure, loaded_llama: LoadedModel, tmp_path: Path
) -> None:
    DeciTarget().write(tmp_path, cut_of(llama), loaded_llama, None)
    raw = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (raw["architectures"], raw["model_type"]) == (["DeciLMForCausalLM"], "nemotron-nas")
    config: Any = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    blocks = config.block_configs
    assert [block.attention.no_op for block in blocks] == [False, True, False, False]
    assert [block.ffn.intermediate_size for block in blocks] == [48, 48, 16, 24]
    assert not any(hasattr(block.ffn, "ffn_mult") for block in blocks)  # which would be rounded
    assert blocks[0].attention.n_heads_in_group == 2
    assert (config.num_hidden_layers, config.num_key_value_heads, config.head_dim) == (4, 2, 8)


def test_uniformly_fewer_heads_are_held(
    llama: ModelStructure, loaded_llama: LoadedModel, tmp_path: Path
) -> None:
    counts = [[1, channels] for channels in (48, 8, 0, 16, 48, 24)]
    cut = cut_of(llama, counts)
    DeciTarget().write(tmp_path, cut, loaded_llama, None)
    tokens = random_tokens()
    kept = [np.arange(count) for pair in counts for count in pair]
    planner.register(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_close(logits_of(model, tokens), masked_logits(FAMILIES["llama"], llama, kept, tokens))
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["model.layers.0.self_attn.q_proj.weight"].shape == (16, 32)
    params = sum(weight.numel() for weight in stored.values())
    promised = {"params": params, "nonzero": params}
    DeciTarget().check_size(tmp_path, cut, promised, 4 * params)


@pytest.mark.parametrize(
    ("counts", "site"),
    [
        ([[0, 48], *[[2, 48]] * 5], "layers.0.attention"),
        ([[2, 48], [1, 48], *[[2, 48]] * 4], "layers.1.attention"),
    ],
)
def test_what_it_cannot_hold_is_named(
    llama: ModelStructure, counts: list[list[int]], site: str
) -> None:
    plan = plan_of(llama, [np.arange(count) for pair in counts for count in pair])
    found = refusals(DeciTarget().holds(llama), llama.components, plan)
    assert [refusal.site for refusal in found] == [site]


def test_a_first_layer_without_attention_is_refused(llama: ModelStructure) -> None:
    with pytest.raises(TargetError, match="must begin with a layer that keeps its attention"):
        deci_model(cut_of(llama, [[0, 0], [0, 48], *[[2, 48]] * 4]))


def test_biases_that_compensation_adds_are_refused(llama: ModelStructure) -> None:
    cut = cut_of(llama, [[1, 48]] * 6)  # narrower, and so none of the dense model's own
    layer: Any = cut.layers[0]
    layer.self_attn.o_proj.bias = nn.Parameter(torch.ones(32))
    with pytest.raises(TargetError, match=r"adds `self_attn\.o_proj\.bias` to layer 0"):
        deci_model(cut)


@pytest.mark.parametrize("name", ["gemma3", "qwen3", "granite", "mistral"])
def test_other_families_are_refused(name: str) -> None:
    assert DeciTarget().holds(dense(name)).refuses_model


def test_another_activation_is_refused() -> None:
    structure = read_structure(make_model(LlamaConfig(**GROUPED, hidden_act="gelu")))
    assert "gelu" in DeciTarget().holds(structure).refuses_model


def test_biases_of_the_dense_model_are_told_to_vllm(
    loaded_llama: LoadedModel, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"attention_bias": True, "mlp_bias": True}
    llama_with_biases = read_structure(make_model(LlamaConfig(**GROUPED, **options)))
    expected = {"llama": (True, True), "qwen2": (False, True)}
    for name, structure in (("llama", llama_with_biases), ("qwen2", dense("qwen2"))):
        config = deci_model(cut_of(structure)).config
        assert (config["attention_bias"], config["qkv_bias"]) == expected[name]
    cut = cut_of(llama_with_biases)
    like = loaded(llama_with_biases, loaded_llama)
    tokens = random_tokens().numpy()
    logits = []
    for target, folder in ((DeciTarget(), tmp_path / "deci"), (HfTarget(), tmp_path / "hf")):
        folder.mkdir()
        target.write(folder, cut, like, None)
        with target.serve(folder, threads=1, exact=True) as served:
            logits.append(torch.from_numpy(served.logits(tokens)))
    assert_close(*logits)
