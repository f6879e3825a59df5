"""A search for number formats that llama.cpp loads, from the space to the file."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from safetensors.torch import load_file, save_file

from planner import Run, search
from planner.export.cards.manifest import Manifest
from planner.export.run_exports import export_from_model, export_from_run
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from planner.runs.run_store import RunStore
from planner.settings.search import SearchSettings
from planner.targets.target_names import TargetChoice
from search_spaces.errors import TargetError
from search_spaces.progress import NO_PROGRESS
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.space.plan import Plan
from tests.models.families import dense
from tests.models.merging_tokenizers import of_bytes
from tests.planner.export.exports import plan_of
from tests.settings import SHORT_TEXT

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a saved Llama whose tokenizer llama.cpp knows."""
    folder = tmp_path_factory.mktemp("models")
    dense("llama").backbone.model.save_pretrained(folder / "llama")
    of_bytes().save_pretrained(folder / "llama")
    chosen: dict[str, Any] = {
        "budget": "size<=0.5x",
        "space": "channels,formats",
        "formats": "Q8_0,Q4_1",
        "loads_in": "llama.cpp",
        "quantizer": "gptq",
        "evaluations": 16,
        "population": 4,
        **SHORT_TEXT,
        "calibration_windows": 64,  # as many tokens as the widest matrix has inputs, at least
    }
    return search(str(folder / "llama"), out=folder / "run", **chosen)


def exported(run: Run, plan_id: str, out: Path, **options: str) -> tuple[Plan, Manifest]:
    choice = TargetChoice(name="gguf", options=options)
    export_from_run(RunStore.open(run.folder), plan_id, out, choice=choice)
    text = (out / "manifest.json").read_text(encoding="utf-8")
    return Plan.load(out / "plan.json"), Manifest.model_validate_json(text)


def test_a_file_holds_what_was_searched_to_the_byte(run: Run, tmp_path: Path) -> None:
    best = run.best("size<=0.5x")
    plan, manifest = exported(run, best.plan_id, tmp_path / "export")
    assert {kept.format for kept in plan.sites.values()} - {""}
    assert "embedding" in plan.sites
    tensors = GGUFReader(tmp_path / "export" / "model.gguf").tensors
    assert sum(int(each.n_bytes) for each in tensors) == manifest.costs["size"]
    assert manifest.costs["size"] == best.costs["size"] <= 0.5 * manifest.dense_costs["size"]
    assert manifest.costs["bits"] == pytest.approx(8 * best.costs["size"] / best.costs["params"])
    assert manifest.written_size is None
    # the F32 form of the same bytes, of which llama.cpp rounds nothing
    assert manifest.logit_gap < 0.01 * manifest.logit_gap_allowed
    assert manifest.service.kl is not None
    assert manifest.service.kl.value > 0
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "holds the very numbers that were scored" in card
    assert "Of its matrices the plan has" in card
    assert "Between both files in llama.cpp it is" in card


def test_a_file_holds_the_bytes_that_were_scored(run: Run, tmp_path: Path) -> None:
    """Those of GPTQ are not what rounding their numbers again would give."""
    plan, _ = exported(run, run.best("size<=0.5x").plan_id, tmp_path / "export")
    prepared = prepare(
        open_model(run.settings, NO_PROGRESS), run.settings, run.folder, NO_PROGRESS
    )
    scored, in_others = Counter[bytes](), 0
    for position, configuration in enumerate(prepared.space.configurations_of(plan).tolist()):
        for projection in prepared.layer_builder.weights(position, configuration).values():
            if (matrix := projection.quantized) is not None:
                scored.update(row.tobytes() for row in matrix.data.numpy())
                again = codec_of(matrix.format).encode(matrix.dequantized())
                in_others += int((again != matrix.data).sum())
    assert not prepared.weight_record.differences
    assert in_others > 0
    tensors = GGUFReader(tmp_path / "export" / "model.gguf").tensors
    kinds = {GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_1}
    rows = (row for each in tensors if each.tensor_type in kinds for row in each.data)
    assert Counter(row.tobytes() for row in rows) == scored  # llama.cpp has them in another order


def test_compensated_biases_are_counted_as_they_are_written(run: Run, tmp_path: Path) -> None:
    """Vectors are in float32 in every file, whatever the model's dtype is."""
    chosen: dict[str, Any] = {
        **SHORT_TEXT,
        "space": "channels",
        "compensate": "bias",
        "loads_in": "llama.cpp",
        "evaluations": 8,
        "population": 4,
    }
    model = tmp_path / "model"
    shutil.copytree(run.settings.model, model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    weights = {name: each.bfloat16() for name, each in load_file(model / WEIGHTS).items()}
    save_file(weights, model / WEIGHTS, metadata={"format": "pt"})
    biased = search(str(model), out=tmp_path / "run", budget="size<=0.9x", **chosen)
    best = biased.best("size<=0.9x")
    exported(biased, best.plan_id, tmp_path / "export")
    tensors = GGUFReader(tmp_path / "export" / "model.gguf").tensors
    biases = [each for each in tensors if each.name.endswith("ffn_down.bias")]
    assert biases
    assert {each.tensor_type for each in biases} == {GGMLQuantizationType.F32}
    assert sum(int(each.n_bytes) for each in tensors) == best.costs["size"]


def test_one_type_for_all_is_refused_where_a_plan_chose_one_for_each(
    run: Run, tmp_path: Path
) -> None:
    best = run.best("size<=0.5x")
    with pytest.raises(TargetError, match="one type, Q8_0, and this plan chose one for each"):
        exported(run, best.plan_id, tmp_path / "export", file_type="Q8_0")
    _, manifest = exported(run, best.plan_id, tmp_path / "full", file_type="F32")
    assert manifest.service.served_as == {"file_type": "F32"}


def test_a_plan_file_may_name_the_embedding(run: Run, tmp_path: Path) -> None:
    model = dense("llama").with_ends()
    plan = plan_of(model, [np.arange(each.member_count) for each in model.components])
    (tmp_path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    settings = SearchSettings(model=run.settings.model)
    choice = TargetChoice(name="gguf")
    out = export_from_model(settings, tmp_path / "plan.json", tmp_path / "out", choice=choice)
    types = {each.name: each.tensor_type.name for each in GGUFReader(out / "model.gguf").tensors}
    assert types["token_embd.weight"] == "F32"
