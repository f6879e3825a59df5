"""Which plans a stock class can read, and what the config says where none can."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from planner.targets.hf.stock import head_dim
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens, shorter_plan, uniform_plan
from tests.models.factory import GATED, LAYERS, make_model
from tests.models.families import FAMILIES, Family, family_params
from tests.planner.export.exports import Exported, assert_same_logits, export


def narrow_mlps(family: Family) -> list[NDArray[np.int_]]:
    return [np.arange(family.groups), np.arange(24)] * LAYERS


def folder_config(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return read


STOCK_PLANS = [
    family_params(family, plan_of, name=name, suffix=plan_of.__name__)
    for name, family in FAMILIES.items()
    for plan_of in (shorter_plan, uniform_plan, narrow_mlps)
    # where narrower layers are read at all, narrower MLPs are
    if not (plan_of is narrow_mlps and family.stock_narrow)
]


@pytest.mark.parametrize(("family", "plan_of"), STOCK_PLANS, indirect=["family"])
def test_what_a_stock_class_can_read_loads_without_our_code(
    plan_of: Any,
    family: Family,
    structure: ModelStructure,
    loaded_family: LoadedModel,
    tmp_path: Path,
) -> None:
    exported = export(loaded_family, structure, plan_of(family), tmp_path / "export")
    readable = {
        shorter_plan: family.vanishes,
        uniform_plan: family.stock_narrow and family.vanishes,
        narrow_mlps: True,
    }
    assert exported.cut.is_stock is readable[plan_of]
    assert_same_logits(exported.model, exported)
    if exported.cut.is_stock:
        config = folder_config(exported.folder)
        assert not (exported.folder / "modeling_pruned.py").exists()
        assert not {"auto_map", "per_layer_config", "sublayers"} & set(config)
        assert config["model_type"] == structure.backbone.model.config.model_type
        assert type(exported.model) is type(structure.backbone.model)


def test_a_shape_that_the_stock_config_refuses_gets_our_code(
    tokenizer: Any, tmp_path: Path
) -> None:
    # Llama's config wants the hidden size to be a multiple of the heads: 32 is none of 3
    structure = read_structure(make_model(LlamaConfig(**GATED)))
    loaded = LoadedModel(
        model=structure.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(structure.backbone.model),
    )
    kept = [np.arange(3), np.arange(48)] * LAYERS
    exported = export(loaded, structure, kept, tmp_path / "export")
    assert not exported.cut.is_stock
    assert_same_logits(exported.model, exported)


def test_layout_of_an_irregular_plan(family: Family, exported: Exported) -> None:
    config = folder_config(exported.folder)
    width = family.channels
    if family.sequential:
        expected = [[width, "attn", 16], ["attn", 24], ["attn"]]
    else:
        gone = [] if family.vanishes else [0]
        expected = [[width, "attn", 16, *gone], ["attn+24"], ["attn"]]
    assert config["sublayers"] == expected
    sources = [[0, 1, 2, *([] if family.vanishes else [3])], [4, 4], [5]]
    if not family.sequential:
        sources[1] = [4]
    assert config["sources"] == sources
    dense = exported.structure.backbone.model.config
    heads = dense.num_attention_heads * (family.groups - 1) // family.groups
    own = {"num_attention_heads": heads}
    if hasattr(dense, "num_key_value_heads"):
        own["num_key_value_heads"] = family.groups - 1
    assert config["per_layer_config"] == {"1": own}
    assert config["head_dim"] == head_dim(dense)
    assert config["model_type"] == f"pruned_{dense.model_type}"
    assert config["architectures"] == ["PrunedForCausalLM"]
    assert config["auto_map"] == {
        "AutoConfig": "modeling_pruned.PrunedConfig",
        "AutoModel": "modeling_pruned.PrunedModel",
        "AutoModelForCausalLM": "modeling_pruned.PrunedForCausalLM",
    }
    assert config["dtype"] == "float32"
    assert "_name_or_path" not in config


def test_layer_lists_follow_the_attentions_that_stay(family: Family, exported: Exported) -> None:
    dense = exported.structure.backbone.model.config.to_dict()
    config = folder_config(exported.folder)
    lists = {
        name: values
        for name, values in dense.items()
        if isinstance(values, list) and len(values) == LAYERS
    }
    for name, values in lists.items():
        assert config[name] == [values[index] for index in (1, 4, 5)]
    assert bool(lists) == ("layer_types" in dense or "no_rope_layers" in dense)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Qwen3Config(head_dim=24, hidden_size=32, num_attention_heads=4), 24),
        (GPT2Config(n_embd=32, n_head=4), 8),
        (MistralConfig(head_dim=None, hidden_size=32, num_attention_heads=4), 8),
    ],
)
def test_head_dim_is_given_or_divided(config: PreTrainedConfig, expected: int) -> None:
    assert head_dim(config) == expected


def test_dense_plan_is_the_stock_model(
    llama: ModelStructure, tokenizer: Any, tmp_path: Path
) -> None:
    model = llama.backbone.model
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(model),
    )
    kept = [np.arange(block.unit_count) for block in llama.components]
    exported = export(loaded, llama, kept, tmp_path / "export")
    assert exported.cut.is_stock
    tokens = random_tokens()
    with torch.inference_mode():
        got = exported.model(tokens, use_cache=False).logits
        assert torch.equal(got, model(tokens, use_cache=False).logits)
