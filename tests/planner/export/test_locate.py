"""A failed proof names the first layer that is written as something else."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.export.proof import Proof, proof_of
from planner.export.run_exports import export_from_model
from planner.settings.search import SearchSettings
from planner.targets.bundled_code import runs_own_code_alone
from planner.targets.cut_layers import CutLayers
from planner.targets.hf.hf_target import HfServed, HfTarget
from planner.targets.hf.loaded_folder import load_folder
from search_spaces.errors import VerificationError
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan
from tests.models.families import FAMILIES
from tests.planner.export.exports import plan_of


@pytest.fixture
def plan(llama: ModelStructure, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    kept = irregular_plan(FAMILIES["llama"])
    path.write_text(plan_of(llama, kept).to_json(), encoding="utf-8")
    return path


def test_the_first_layer_at_fault_is_named(
    plan: Path, saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HfTarget.write

    def wrong(target: HfTarget, folder: Path, cut: CutLayers, *others: Any) -> Any:
        if any(len(kept) for _, kept, _ in cut.of_layer(4)):
            cut = CutLayers(
                structure=cut.structure,
                layers=tuple(
                    _other(layer) if index == 4 else layer
                    for index, layer in enumerate(cut.layers)
                ),
                kept=cut.kept,
                insides=cut.insides,
            )
        return whole(target, folder, cut, *others)

    monkeypatch.setattr(HfTarget, "write", wrong)
    out = tmp_path / "export"
    with pytest.raises(VerificationError, match=r"first layer that differs is `model\.layers\.4`"):
        export_from_model(SearchSettings(model=str(saved_llama)), plan, out)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json"}


def _other(layer: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a layer with other weights."""
    changed = copy.deepcopy(layer)
    for weight in changed.parameters():
        weight.data = weight.data + 0.5
    return changed


def test_a_cache_that_differs_is_not_blamed_on_a_layer(
    plan: Path, saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_another_cache(*args: Any, **options: Any) -> Proof:
        return replace(proof_of(*args, **options), cache_gap=float("nan"))

    monkeypatch.setattr("planner.export.pipeline.proof_of", with_another_cache)
    with pytest.raises(VerificationError, match="it differs in what it caches"):
        export_from_model(SearchSettings(model=str(saved_llama)), plan, tmp_path / "export")


def test_code_beside_a_dense_model_does_not_run(saved_llama: Path, tmp_path: Path) -> None:
    """A file that is named like ours is not trusted for its name."""
    folder = tmp_path / "model"
    shutil.copytree(saved_llama, folder)
    mark = tmp_path / "ran"
    (folder / "modeling_pruned.py").write_text("# ours?\n", encoding="utf-8")
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    code += "from transformers import LlamaConfig\nclass C(LlamaConfig): pass\n"
    (folder / "evil.py").write_text(code, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "evil.C"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert not runs_own_code_alone(folder)
    model = load_folder(folder, dtype=torch.float32)
    assert HfServed(model).greedy([3, 4], 1)
    assert not mark.exists()
