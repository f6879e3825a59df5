"""An export is whole, proved and where it was asked for, or it is not there at all."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evaluators.costs.cost_model import CostModel
from planner.export.cards.manifest import Manifest, describe_files
from planner.export.reference import Reference, reference_of
from planner.export.run_exports import export_from_model
from planner.preparation.dense_model import open_model
from planner.settings.search import SearchSettings
from search_spaces.errors import OutputError, PlanError, VerificationError
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, masked_logits, random_tokens
from tests.models.families import FAMILIES
from tests.planner.export.exports import assert_close, logits_of, plan_of

KEPT = irregular_plan(FAMILIES["llama"])


@pytest.fixture
def plan(llama: ModelStructure, tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(plan_of(llama, KEPT).to_json(), encoding="utf-8")
    return path


@pytest.fixture
def settings(saved_llama: Path) -> SearchSettings:
    return SearchSettings(model=str(saved_llama))


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"plan.json"}


def test_a_plan_file_becomes_a_folder(
    plan: Path, settings: SearchSettings, llama: ModelStructure, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "export"
    assert export_from_model(settings, plan, out) == out
    tokens = random_tokens()
    loaded = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    expected = masked_logits(FAMILIES["llama"], llama, KEPT, tokens)
    assert_close(logits_of(loaded, tokens), expected)
    assert Plan.load(out / "plan.json") == Plan.load(plan)
    assert {path.name for path in out.parent.iterdir()} == {"export"}


def test_the_manifest_says_what_lies_there(
    plan: Path, settings: SearchSettings, llama: ModelStructure, tmp_path: Path
) -> None:
    out = export_from_model(settings, plan, tmp_path / "export")
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8"))
    stored = load_file(out / "model.safetensors")
    assert manifest.costs["params"] == sum(weight.numel() for weight in stored.values())
    assert manifest.costs["size"] == sum(weight.nbytes for weight in stored.values())
    dense = sum(weight.numel() for weight in llama.backbone.model.parameters())
    assert manifest.dense_costs["params"] == manifest.model.params == dense
    assert manifest.plan_id == Plan.load(plan).plan_id
    assert manifest.needs_remote_code
    assert 0 <= manifest.logit_gap <= manifest.logit_gap_allowed
    assert not manifest.search
    assert not manifest.holdout
    described = describe_files(out)
    assert manifest.files == {name: described[name] for name in manifest.files}
    assert set(described) - set(manifest.files) == {"README.md", "manifest.json"}


def test_a_place_that_is_taken_is_refused(
    plan: Path, settings: SearchSettings, tmp_path: Path
) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"`--out` must not exist yet or be an empty folder"):
        export_from_model(settings, plan, tmp_path / "export")


def test_an_empty_folder_is_replaced(
    plan: Path, settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "export"
    out.mkdir(mode=0o700)
    assert export_from_model(settings, plan, out) == out
    assert (out / "manifest.json").is_file()
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert leftovers(tmp_path) == {"export"}


def test_an_empty_folder_that_must_stay_is_refused_at_once(
    settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "export"
    out.mkdir()
    monkeypatch.setattr("planner.export.run_exports.open_model", None)
    with monkeypatch.context() as mounted:
        mounted.setattr(Path, "is_mount", lambda _: True)
        with pytest.raises(OutputError, match="name a new folder in it"):
            export_from_model(settings, tmp_path / "no.json", out)
    monkeypatch.chdir(out)
    with pytest.raises(OutputError, match="name a new folder in it"):
        export_from_model(settings, tmp_path / "no.json", Path())
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(OutputError, match="must not exist yet"):
        export_from_model(settings, tmp_path / "no.json", tmp_path / "link")


def test_a_foreign_plan_is_refused(plan: Path, settings: SearchSettings, tmp_path: Path) -> None:
    content = json.loads(plan.read_text(encoding="utf-8"))
    content["model"]["fingerprint"] = "0" * 16
    plan.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PlanError, match="fits only the model it was made for"):
        export_from_model(settings, plan, tmp_path / "export")
    assert not leftovers(tmp_path)


def test_a_plan_of_another_model_is_said_to_be_so(
    plan: Path, settings: SearchSettings, tmp_path: Path
) -> None:
    content = json.loads(plan.read_text(encoding="utf-8"))
    content["model"] |= {"architecture": "PrunedForCausalLM", "params": 7}
    plan.write_text(json.dumps(content), encoding="utf-8")
    said = "and this is another model: architecture LlamaForCausalLM, not PrunedForCausalLM; give"
    with pytest.raises(PlanError, match=said):
        export_from_model(settings, plan, tmp_path / "export")


def test_a_plan_without_attention_is_refused(
    llama: ModelStructure, plan: Path, settings: SearchSettings, tmp_path: Path
) -> None:
    blind = [units[: 0 if index % 2 == 0 else None] for index, units in enumerate(KEPT)]
    plan.write_text(plan_of(llama, blind).to_json(), encoding="utf-8")
    with pytest.raises(PlanError, match="must keep some attention"):
        export_from_model(settings, plan, tmp_path / "export")
    assert not leftovers(tmp_path)


def test_what_is_not_proved_is_not_announced(
    plan: Path, settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any) -> Reference:
        reference = reference_of(*args)
        return replace(reference, logits=reference.logits + 0.1)

    monkeypatch.setattr("planner.export.exports.reference_of", wrong)
    with pytest.raises(VerificationError, match="must compute what was scored"):
        export_from_model(settings, plan, tmp_path / "export")
    assert not leftovers(tmp_path)


def test_costs_that_were_not_promised_are_refused(
    plan: Path, settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any) -> Any:
        dense = open_model(*args)
        stored = dense.loaded.stored
        costs = CostModel(dense.structure, stored=stored, context=1, adds_bias=True)
        return replace(dense, costs=costs)

    monkeypatch.setattr("planner.export.run_exports.open_model", wrong)
    with pytest.raises(VerificationError, match=r"must cost what was promised, (\d+) parameters"):
        export_from_model(settings, plan, tmp_path / "export")
    assert not leftovers(tmp_path)


def test_a_full_disk_is_noticed_before(
    plan: Path, settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="needs as much free space, and the disk of"):
        export_from_model(settings, plan, tmp_path / "export")
    assert not leftovers(tmp_path)


def test_an_export_is_not_lost_to_a_request_that_no_memory_holds(
    plan: Path, settings: SearchSettings, tmp_path: Path, notices: list[str]
) -> None:
    huge = settings.model_copy(update={"batch_size": 10**9})
    out = export_from_model(huge, plan, tmp_path / "export")
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.service.latency == {}
    assert manifest.service.prediction is None
    assert manifest.service.latency_missing.endswith(" written) does not fit into memory")
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"Latency was not measured: {manifest.service.latency_missing}." in card
    assert [line for line in notices if line.startswith("latency is not measured")] == [
        f"latency is not measured, for {manifest.service.latency_missing}; the export is whole "
        "without it"
    ]
