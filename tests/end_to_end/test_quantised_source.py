"""A model from a quantised GGUF file: what a plan leaves whole of it is copied bit for bit."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, ReaderTensor

from planner import Run, search
from planner.export.cards.manifest import Manifest
from planner.export.run_exports import export_from_model, export_from_run
from planner.reports.demo import DemoAnswer, _small_figures, small_summary
from planner.runs.run_store import RunStore
from planner.settings.search import SearchSettings
from planner.targets.target_names import TargetChoice
from search_spaces.space.plan import Plan
from tests.models.families import FAMILIES
from tests.models.merging_tokenizers import of_bytes
from tests.planner.export.exports import plan_of
from tests.settings import SHORT_TEXT

BUDGET = "size<=0.3x"
PARTS = {
    "attention": ("attn_q", "attn_k", "attn_v", "attn_output"),
    "mlp": ("ffn_gate", "ffn_up", "ffn_down"),
}
"""Matrices of a layer's components in the file."""
Tensors = Mapping[str, ReaderTensor]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in Q5_0, but for what llama.cpp's quantiser keeps in more bits."""
    folder = tmp_path_factory.mktemp("models")
    structure = FAMILIES["llama"].structure(layers=3, intermediate_size=96)
    structure.backbone.model.save_pretrained(folder / "llama")
    tokenizer = of_bytes()
    tokenizer.add_tokens(["<|endoftext|>"])  # which transformers adds to a GGUF file's, if not
    tokenizer.save_pretrained(folder / "llama")
    kept = [np.arange(each.member_count) for each in structure.components]
    (folder / "plan.json").write_text(plan_of(structure, kept).to_json(), encoding="utf-8")
    choice = TargetChoice(name="gguf", options={"file_type": "Q5_0"})
    settings = SearchSettings(model=str(folder / "llama"))
    out = export_from_model(settings, folder / "plan.json", folder / "gguf", choice=choice)
    return out / "model.gguf"


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    chosen: dict[str, Any] = {
        "budget": BUDGET,
        "space": "channels,formats",
        "formats": "source,Q4_0",
        "loads_in": "llama.cpp",
        "evaluations": 24,
        "population": 6,
        "calibration_windows": 64,
    }
    out = tmp_path_factory.mktemp("runs") / "run"
    return search(str(source), out=out, **{**SHORT_TEXT, **chosen})


@pytest.fixture(scope="module")
def mixed(run: Run) -> Plan:
    """A plan that leaves some MLPs whole as they came and cuts others, none of them in Q4_0."""
    stored = [plan for each in run.landed() if (plan := run.stored_plan(each.plan_id))]
    # found by the search, but for formats, and the MLP of one layer that another plan leaves whole
    cut = next(plan for plan in stored if plan.weights_digest and any(_cut_mlps(plan)))
    whole = next(plan for plan in stored if plan.weights_digest and _is_whole(plan))
    name = "layers.0.mlp"
    if all(_cut_mlps(cut)):
        cut = cut.model_copy(update={"sites": {**cut.sites, name: whole.sites[name]}})
    return _as_it_came(cut)


def _cut_mlps(plan: Plan) -> list[bool]:
    """Return for each layer whether its MLP lost channels."""
    mlps = [kept for name, kept in sorted(plan.sites.items()) if name.endswith(".mlp")]
    return [0 < len(kept.units) < kept.unit_count for kept in mlps]


def _as_it_came(plan: Plan) -> Plan:
    """Return the plan with all of its formats as in the file."""
    sites = {
        name: kept.model_copy(update={"format": "source"}) for name, kept in plan.sites.items()
    }
    return plan.model_copy(update={"sites": sites})


def _sources(plan: Plan, kind: str) -> dict[int, bool]:
    """Return the layers whose component of a kind is as it came, and whether it is whole."""
    named = [(name.split("."), kept) for name, kept in plan.sites.items() if "." in name]
    return {
        int(parts[1]): len(kept.units) == kept.unit_count
        for parts, kept in named
        if parts[2] == kind and kept.format == "source"
    }


def _is_whole(plan: Plan) -> bool:
    return all(len(kept.units) == kept.unit_count for kept in plan.sites.values())


def _exported(run: Run, plan_id: str, out: Path) -> tuple[Tensors, Manifest]:
    choice = TargetChoice(name="gguf")
    export_from_run(RunStore.open(run.folder), plan_id, out, choice=choice)
    text = (out / "manifest.json").read_text(encoding="utf-8")
    return _tensors(out / "model.gguf"), Manifest.model_validate_json(text)


def _tensors(path: Path) -> Tensors:
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def test_what_stays_whole_is_copied_and_what_is_cut_is_made_anew(
    run: Run, mixed: Plan, source: Path, tmp_path: Path
) -> None:
    assert set(_sources(mixed, "mlp").values()) == {True, False}
    path = tmp_path / "plan.json"
    path.write_text(mixed.to_json(), encoding="utf-8")
    written, manifest = _exported(run, str(path), tmp_path / "out")
    came = _tensors(source)
    for kind, parts in PARTS.items():
        for layer, is_whole in _sources(mixed, kind).items():
            for part in parts:
                name = f"blk.{layer}.{part}.weight"
                assert written[name].tensor_type == came[name].tensor_type
                if is_whole:
                    assert np.array_equal(written[name].data, came[name].data)
                elif part != "ffn_down":  # of which columns went: its blocks are others
                    rows = Counter(row.tobytes() for row in written[name].data)
                    assert not rows - Counter(row.tobytes() for row in came[name].data)
                    assert len(written[name].data) < len(came[name].data)
    assert any("as they came in a quantised file" in note for note in manifest.notes)
    assert not (tmp_path / "out" / "tensor-types.txt").exists()


def test_the_file_is_as_large_as_was_promised(run: Run, tmp_path: Path) -> None:
    best = run.best(BUDGET)
    written, manifest = _exported(run, best.plan_id, tmp_path / "out")
    size = sum(int(tensor.n_bytes) for tensor in written.values())
    assert size == best.costs["size"] == manifest.costs["size"]
    assert manifest.written_size is None

    told = DemoAnswer(run=run, budget=BUDGET, model=tmp_path / "out", manifest=manifest)
    (stored,) = (line for line in small_summary(told).splitlines() if line.startswith("its sour"))
    small = json.loads(json.dumps(_small_figures(told)))
    counts = small["formats"]
    words = [f"{counts['source']} stay as they came", f"{counts['Q4_0']} are in Q4_0"]
    assert all(each in stored for each in words)
    assert small["file_bytes"]["pruned"] == (tmp_path / "out" / "model.gguf").stat().st_size
    assert small["plans"]["best"]["costs"]["size"] == size
    assert small["kl_in_runtime"]["value"] > 0


def test_the_source_alone_leaves_the_whole_file_as_it_came(
    run: Run, source: Path, tmp_path: Path
) -> None:
    stored = [run.stored_plan(each.plan_id) for each in run.landed()]
    plan = next(each for each in stored if each and each.weights_digest and _is_whole(each))
    path = tmp_path / "plan.json"
    path.write_text(_as_it_came(plan).to_json(), encoding="utf-8")
    assert Plan.load(path).sites["embedding"].format == "source"
    written, _ = _exported(run, str(path), tmp_path / "out")
    came = _tensors(source)
    assert written.keys() == came.keys()
    for name, tensor in came.items():
        assert written[name].tensor_type == tensor.tensor_type
        if tensor.data.ndim > 1:
            assert np.array_equal(written[name].data, tensor.data)
        else:  # norms, which a file is unpacked to bfloat16 with
            expected = torch.from_numpy(np.array(tensor.data)).bfloat16().float()
            assert np.array_equal(written[name].data, expected.numpy())
