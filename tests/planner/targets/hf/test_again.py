"""An export with our code is a model like others: it is read, pruned and exported again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import NemotronHConfig, PreTrainedModel

from benchmarks.in_process import compare, scored_logits
from planner.targets.hf.loaded_folder import load_export
from planner.targets.hf.model_folder import CutModel, cut_model, write_model
from search_spaces.errors import ModelError, StructureError
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.reading.read import check_exportable, read_structure
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from tests.models.factory import make_model, save_model, twin
from tests.models.wirings import Wiring, make, random_plan
from tests.planner.export.exports import ROUNDING, assert_close, logits_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EVERY_DAY = (("llama", "float32"), ("qwen2_moe", "bfloat16"))
WIRINGS = [
    *(
        Wiring(name=model_type, model_type=model_type)
        for model_type in (
            "llama",
            "gemma3_text",
            "gpt2",
            "gpt_neox",
            "phi",
            "phi3",
            "opt",
            "qwen2_moe",
            "mixtral",
            "deepseek_v3",
        )
    ),
    Wiring(name="opt after", model_type="opt", options={"do_layer_norm_before": False}),
    Wiring(
        name="gpt2 by layer", model_type="gpt2", options={"scale_attn_by_inverse_layer_idx": True}
    ),
    Wiring(name="mimo_v2_flash", model_type="mimo_v2_flash"),
]
ALL = "heads,channels,drops,experts,top_k"
ONLY_MLPS = NemotronHConfig(
    layers_block_type=["full_attention", "mlp", "mlp", "full_attention", "mlp", "full_attention"],
    hidden_size=32,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=48,
    vocab_size=96,
    max_position_embeddings=64,
    time_step_limit=(0.0, 100.0),
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
"""Of a model whose layers are an attention or an MLP."""


def cases() -> list[Any]:
    """Give each wiring from each number format, as cases of a parametrised test."""
    return [
        pytest.param(
            wiring,
            dtype,
            marks=() if (wiring.name, dtype) in EVERY_DAY else (pytest.mark.families,),
            id=f"{wiring.name}-{dtype}",
        )
        for wiring in WIRINGS
        for dtype in DTYPES
    ]


def opened(folder: Path, **options: Any) -> tuple[LoadedModel, ModelStructure]:
    loaded = load_model(str(folder), dtype=torch.float32, trust_remote_code=True, **options)
    check_exportable(loaded.model)
    return loaded, read_structure(loaded.model, loaded.stream)


def exported(loaded: LoadedModel, structure: ModelStructure, plan: Plan, folder: Path) -> CutModel:
    folder.mkdir()
    cut = cut_model(structure, plan)
    write_model(folder, cut, loaded)
    return cut


def tokens_of(model: PreTrainedModel) -> Tensor:
    size = model.config.get_text_config().vocab_size
    return torch.randint(3, size, (2, 48), generator=torch.Generator().manual_seed(1))


def pruned_at_random(folder: Path, out: Path, seed: int) -> ModelStructure:
    """Export a random plan, and check what was written; return what was pruned."""
    loaded, structure = opened(folder)
    plan = random_plan(structure, loaded.identity, ALL, seed=seed)
    assert plan is not None
    exported(loaded, structure, plan, out)
    model, tokens = load_export(out), tokens_of(loaded.model)
    expected = scored_logits(twin(structure), plan, tokens)
    proof = compare(model, expected, tokens)
    assert max(proof.logit_gap, proof.cache_gap) <= ROUNDING * float(expected.std())
    return structure


@pytest.mark.parametrize(("wiring", "dtype"), cases())
def test_exports_of_exports_compute_what_was_scored(
    wiring: Wiring, dtype: str, tmp_path: Path
) -> None:
    model: Any = make(wiring)
    folder = save_model(model.to(DTYPES[dtype]), tmp_path / "dense")
    for turn in range(3):
        out = tmp_path / f"export{turn}"
        pruned_at_random(folder, out, turn)
        folder = out


def test_a_model_with_layers_of_one_mlp_is_pruned_and_pruned_again(tmp_path: Path) -> None:
    folder = save_model(make_model(ONLY_MLPS), tmp_path / "dense")
    for turn in range(2):
        out = tmp_path / f"export{turn}"
        structure = pruned_at_random(folder, out, turn)
        kinds = {
            tuple(component.kind for component in layer.components) for layer in structure.layers
        }
        assert kinds == {("attention",), ("mlp",)}
        folder = out
    exported_model: Any = load_export(folder)
    prompt = tokens_of(exported_model)[:1, :8]
    outputs = [
        exported_model.generate(
            prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False, use_cache=use_cache
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(*outputs)


def kept(structure: ModelStructure, loaded: LoadedModel, counts: dict[str, int]) -> Plan:
    """Keep the first units of some components, and all of the others."""
    return Plan(
        model=loaded.identity,
        sites={
            component.name: ComponentPlan(
                unit_count=component.member_count,
                kept=f"0-{count - 1}" if count else "",
            )
            for component in structure.components
            for count in [counts.get(component.name, component.member_count)]
        },
    )


@pytest.fixture
def uneven(saved_llama: Path, tmp_path: Path) -> Path:
    """An export whose second layer lacks its MLP, its third its attention."""
    loaded, structure = opened(saved_llama)
    counts = {"layers.0.mlp": 24, "layers.1.mlp": 0, "layers.2.attention": 0}
    folder = tmp_path / "uneven"
    assert not exported(loaded, structure, kept(structure, loaded, counts), folder).is_stock
    return folder


def test_the_config_is_relative_to_the_first_model(uneven: Path, tmp_path: Path) -> None:
    loaded, structure = opened(uneven)
    assert len(structure.layers) == 5
    plan = kept(structure, loaded, {"layers.1.mlp": 0, "layers.2.attention": 1})
    exported(loaded, structure, plan, tmp_path / "again")
    before, after = (
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for folder in (uneven, tmp_path / "again")
    )
    assert before["sublayers"] == [["attn", 24], ["attn", 48], *[["attn", 48]] * 3]
    assert before["sources"] == [[0, 0], [1, 2], [3, 3], [4, 4], [5, 5]]
    assert after["sublayers"] == [["attn", 24], ["attn"], *[["attn", 48]] * 3]
    assert after["sources"] == [[0, 0], [1], [3, 3], [4, 4], [5, 5]]
    assert after["groups"] == [2, 2, 1, 2, 2]
    assert after["wiring"] == before["wiring"]
    assert after["model_type"] == before["model_type"] == "pruned_llama"


def test_what_has_become_alike_needs_no_code_of_ours(uneven: Path, tmp_path: Path) -> None:
    loaded, structure = opened(uneven)
    counts = {c.name: 24 for c in structure.components if c.kind == "mlp"}
    plan = kept(structure, loaded, counts)
    cut = exported(loaded, structure, plan, tmp_path / "again")
    assert cut.stock is not None
    assert (cut.stock.num_hidden_layers, cut.stock.intermediate_size) == (5, 24)
    assert not (tmp_path / "again" / "modeling_pruned.py").exists()
    tokens = tokens_of(loaded.model)
    assert_close(
        logits_of(load_export(tmp_path / "again"), tokens),
        scored_logits(twin(structure), plan, tokens),
    )


def test_experts_are_dropped_first_and_the_shared_expert_later(tmp_path: Path) -> None:
    folder = save_model(make(Wiring(name="", model_type="qwen2_moe")), tmp_path / "dense")
    for turn, dropped in enumerate(("layers.1.experts", "layers.1.mlp")):
        loaded, structure = opened(folder)
        plan = kept(structure, loaded, {dropped: 0})
        folder = tmp_path / f"export{turn}"
        exported(loaded, structure, plan, folder)
        tokens = tokens_of(loaded.model)
        expected = scored_logits(twin(structure), plan, tokens)
        assert_close(logits_of(load_export(folder), tokens), expected)
    assert [component.kind for component in opened(folder)[1].layers[1].components] == [
        "attention"
    ]


def test_a_streamed_export_is_what_it_is_in_memory(uneven: Path) -> None:
    in_memory, structure = opened(uneven)
    streamed, read = opened(uneven, offload="always")
    assert streamed.identity == in_memory.identity
    assert [c.name for c in read.components] == [c.name for c in structure.components]
    tokens = tokens_of(in_memory.model)
    assert_close(logits_of(streamed.model, tokens), logits_of(in_memory.model, tokens))


def test_our_code_is_trusted_like_any_other(uneven: Path) -> None:
    with pytest.raises(ModelError, match=r"must be trusted.*--trust_remote_code"):
        load_model(str(uneven))


def test_an_export_of_another_version_is_refused(uneven: Path) -> None:
    path = uneven / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["wiring"]["version"] = 1
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(StructureError, match=r"of this version .* export its plan again"):
        opened(uneven)


def test_an_export_whose_code_was_changed_is_refused(uneven: Path) -> None:
    path = uneven / "modeling_pruned.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    with pytest.raises(StructureError, match=r"must be as it was written.*export its plan again"):
        opened(uneven)
