"""What lies in an exported folder."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
)

from planner.targets.hf.model_folder import cut_model
from search_spaces.errors import PlanError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan
from tests.models.families import FAMILIES, dense
from tests.planner.export.exports import Exported, export, plan_of


def test_a_folder_holds_weights_config_tokenizer_and_code(
    exported: Exported, tokenizer: PreTrainedTokenizerBase
) -> None:
    names = {path.name for path in exported.folder.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "modeling_pruned.py",
        "tokenizer.json",
        "tokenizer_config.json",
    } == names
    again = AutoTokenizer.from_pretrained(exported.folder, trust_remote_code=True)
    assert again("w3 w95").input_ids == tokenizer("w3 w95").input_ids == [3, 95]
    settings = GenerationConfig.from_pretrained(exported.folder)
    assert settings.eos_token_id == 2


def test_bundled_code_names_the_family_and_only_stands_on_transformers(
    exported: Exported,
) -> None:
    code = (exported.folder / "modeling_pruned.py").read_text(encoding="utf-8")
    model = exported.structure.backbone.model
    assert f"import {type(model).__name__} as StockForCausalLM" in code
    assert f"import {type(model.config).__name__} as StockConfig" in code
    assert "compression-planner" in code
    sources = {line.split()[1].split(".")[0] for line in code.splitlines() if " import " in line}
    assert sources <= {"huggingface_hub", "torch", "transformers"}


def test_weights_are_slices_of_the_dense_ones(llama: ModelStructure) -> None:
    family = FAMILIES["llama"]
    kept = irregular_plan(family)
    weights = cut_model(llama, plan_of(llama, kept)).weights
    dense_weights = dict(llama.backbone.model.named_parameters())
    # layer 4, the second block's only part: fewer channels of the MLP
    rows = torch.from_numpy(kept[9])
    expected = dense_weights["model.layers.4.mlp.up_proj.weight"][rows]
    assert torch.equal(weights["model.layers.1.part_0.mlp.up_proj.weight"], expected)
    # layers 1 and 2 run as one: the attention of one with the MLP of the other
    names = {name.split("part_1.")[1] for name in weights if "layers.0.part_1." in name}
    assert names == {
        *(f"self_attn.{which}_proj.weight" for which in "qkvo"),
        *(f"mlp.{which}_proj.weight" for which in ("gate", "up", "down")),
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
    }
    assert torch.equal(
        weights["model.layers.0.part_1.input_layernorm.weight"],
        dense_weights["model.layers.1.input_layernorm.weight"],
    )
    assert torch.equal(
        weights["model.layers.0.part_1.post_attention_layernorm.weight"],
        dense_weights["model.layers.2.post_attention_layernorm.weight"],
    )


def test_weights_are_stored_in_the_dtype_of_the_source(
    llama: ModelStructure, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    loaded = LoadedModel(
        model=llama.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.bfloat16),
        identity=identify(llama.backbone.model),
    )
    exported = export(loaded, llama, irregular_plan(FAMILIES["llama"]), tmp_path / "export")
    stored = load_file(exported.folder / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    config = json.loads((exported.folder / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16"


def test_weights_keep_formats_apart_from_the_others(
    llama: ModelStructure, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    apart = ("model.norm.weight", "model.layers.4.mlp.up_proj.weight")
    loaded = LoadedModel(
        model=llama.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.bfloat16, apart=dict.fromkeys(apart, torch.float32)),
        identity=identify(llama.backbone.model),
    )
    exported = export(loaded, llama, irregular_plan(FAMILIES["llama"]), tmp_path / "export")
    stored = load_file(exported.folder / "model.safetensors")
    wide = {name for name, weight in stored.items() if weight.dtype == torch.float32}
    # layer 4 is the second block's only part
    assert wide == {"model.norm.weight", "model.layers.1.part_0.mlp.up_proj.weight"}


def test_a_generation_config_that_contradicts_itself_stops_nothing(
    llama: ModelStructure, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = copy.deepcopy(llama.backbone.model)
    settings: Any = model.generation_config
    settings.update(do_sample=False, temperature=0.1, num_beams=1, eos_token_id=2)
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(llama.backbone.model),
    )
    exported = export(loaded, llama, irregular_plan(FAMILIES["llama"]), tmp_path / "export")
    written = json.loads((exported.folder / "generation_config.json").read_text())
    assert (written["do_sample"], written["temperature"]) == (False, 0.1)
    assert GenerationConfig.from_pretrained(exported.folder).eos_token_id == 2


def test_tied_weights_are_stored_once(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    structure = dense("qwen2")
    loaded = LoadedModel(
        model=structure.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(structure.backbone.model),
    )
    exported = export(loaded, structure, irregular_plan(FAMILIES["qwen2"]), tmp_path / "export")
    stored = load_file(exported.folder / "model.safetensors")
    assert "model.embed_tokens.weight" in stored
    assert "lm_head.weight" not in stored
    head = exported.model.get_output_embeddings().weight
    assert head.data_ptr() == exported.model.get_input_embeddings().weight.data_ptr()


def test_our_code_does_not_run_unasked(exported: Exported) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(exported.folder, trust_remote_code=False)


def test_a_plan_with_unknown_sites_is_refused(llama: ModelStructure) -> None:
    plan = plan_of(llama, irregular_plan(FAMILIES["llama"]))
    wrong = plan.model_copy(
        update={"sites": {**plan.sites, "layers.9.mlp": ComponentPlan(unit_count=48, kept="0-3")}}
    )
    with pytest.raises(PlanError, match=r"`layers\.9\.mlp` is missing, unknown or"):
        cut_model(llama, wrong)
