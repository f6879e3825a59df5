"""Searches whose plans have weights of their own, compensated or sparse, and their exports."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from planner import Run, search
from planner.export.cards.manifest import Manifest
from planner.export.run_exports import export_from_model, export_from_run
from planner.runs.records import BASELINE_ROUND
from planner.settings.search import SearchSettings
from search_spaces.errors import BudgetError, PlanError, RunError, SettingsError
from search_spaces.space.plan import Plan
from tests.models.moe_families import saved_mixture
from tests.settings import SHORT_TEXT

SMALL: dict[str, Any] = {
    "evaluations": 40,
    "population": 8,
    **SHORT_TEXT,
    # in which an export computes: only there lost weights can be made again
    "dtype": "float32",
}
KINDS: dict[str, dict[str, Any]] = {
    "obs": {"budget": "params<=0.8x", "compensate": "obs"},
    "obs in bfloat16": {"budget": "params<=0.8x", "compensate": "obs", "dtype": "bfloat16"},
    "bias": {"budget": "params<=0.8x", "compensate": "bias", "importance": "flap"},
    "sparse": {"budget": "nonzero<=0.6x", "space": "sparsity,2:4"},
    "mixed": {
        "budget": "nonzero<=0.5x",
        "space": "heads,channels,drops,sparsity,4:8",
        "compensate": "least_squares,admm",
        "sparsifier": "wanda",
        "sparsity_step": 30,
        "mlp_step": 8,
    },
    "merged": {
        "model": "mixtral",
        "budget": "params<=0.7x",
        "space": "heads,drops,experts,top_k",
        "compensate": "obs,merge",
        "expert_importance": "frequency",
    },
    "sparse experts": {
        "model": "deepseek-v3",
        "budget": "nonzero<=0.5x",
        "space": "heads,channels,experts,sparsity,4:8",
        "compensate": "obs,merge",
        "sparsity_step": 30,
        "mlp_step": 8,
    },
}


@pytest.fixture(scope="module", params=list(KINDS))
def altered(request: pytest.FixtureRequest, saved_llama: Path, tmp_path_factory: Any) -> Run:
    out = tmp_path_factory.mktemp("runs") / request.param.replace(" ", "-")
    kind = dict(KINDS[request.param])
    family = kind.pop("model", None)
    model = saved_llama if family is None else saved_mixture(family, out.with_suffix(".model"))
    return search(str(model), out=out, **{**SMALL, **kind})


def chosen(run: Run) -> str:
    """Return a plan within the budget that has pruned weights."""
    assert run.settings.budget is not None
    return run.best(run.settings.budget).plan_id


def test_plans_meet_the_budget_and_are_scored(altered: Run) -> None:
    plan = altered.best(altered.settings.budget or "")
    assert plan.holdout["kl"].value > 0
    assert len([e for e in altered.landed() if e.round != BASELINE_ROUND]) > 20


@pytest.fixture(scope="module")
def exported(altered: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chosen plan, exported; no test may change it."""
    # its logits are compared with the scored candidate's before it gets its name
    return export_from_run(altered, chosen(altered), tmp_path_factory.mktemp("exports") / "model")


def test_what_was_scored_is_what_is_exported(altered: Run, exported: Path, tmp_path: Path) -> None:
    out = exported
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.logit_gap <= manifest.logit_gap_allowed
    plan = Plan.load(out / "plan.json")
    assert plan.weights_digest
    stored = load_file(out / "model.safetensors")
    zeros = sum(int((weight == 0).sum()) for weight in stored.values())
    promised = manifest.costs["params"] - manifest.costs.get("nonzero", manifest.costs["params"])
    assert zeros >= promised
    assert not zeros or altered.settings.space.fractions
    assert zeros or str(altered.settings.space) != "sparsity,2:4"
    model = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    tokens = torch.arange(8)[None] + 3
    assert torch.isfinite(model(tokens).logits).all()
    again = export_from_run(altered, str(out / "plan.json"), tmp_path / "again")
    assert all(
        torch.equal(weight, stored[name])
        for name, weight in load_file(again / "model.safetensors").items()
    )


def test_lost_weights_are_built_again(altered: Run, exported: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(altered.folder, moved)
    for folder in ("levels", "statistics"):
        shutil.rmtree(moved / folder, ignore_errors=folder == "statistics")
    with Run.open(moved) as run:
        if altered.settings.dtype != "float32":
            with pytest.raises(RunError, match="the very weights that were scored"):
                export_from_run(run, chosen(run), tmp_path / "export")
            return
        out = export_from_run(run, chosen(run), tmp_path / "export")
    first, second = (load_file(folder / "model.safetensors") for folder in (exported, out))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_plan_with_weights_of_its_own_needs_its_run(
    exported: Path, saved_llama: Path, tmp_path: Path
) -> None:
    settings = SearchSettings(model=str(saved_llama))
    with pytest.raises(PlanError, match="export it from that run"):
        export_from_model(settings, exported / "plan.json", tmp_path / "other")


def test_compensation_lowers_the_kl_of_the_same_plan(saved_llama: Path, tmp_path: Path) -> None:
    found = {}
    for name in ("none", "obs"):
        options = {**SMALL, "searcher": "uniform", "space": "channels", "evaluations": 8}
        run = search(str(saved_llama), out=tmp_path / name, compensate=name, **options)
        # the uniform plans; a baseline is the best by sensitivities, which compensation changes
        searched = [e for e in run.landed() if e.round != BASELINE_ROUND]
        found[name] = {e.genome: e.quality["kl"].value for e in searched}
    assert found["obs"].keys() == found["none"].keys()
    pruned = [genome for genome in found["none"] if found["none"][genome] > 0.0]
    lower = [found["obs"][genome] < found["none"][genome] for genome in pruned]
    assert len(pruned) >= 5
    assert all(lower)


def test_a_killed_search_resumes_with_the_weights_that_are_there(
    saved_llama: Path, tmp_path: Path
) -> None:
    options = {**SMALL, **KINDS["mixed"]}
    whole = search(str(saved_llama), out=tmp_path / "whole", **options)
    search(str(saved_llama), out=tmp_path / "cut", **{**options, "evaluations": 12})
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "cut").rglob("statistics/*")}
    resumed = search(str(saved_llama), out=tmp_path / "cut", resume=True, **options)
    assert made == {p: p.stat().st_mtime_ns for p in made}
    assert list(resumed.front()["plan_id"]) == list(whole.front()["plan_id"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"space": "heads,chanels"}, SettingsError, "did you mean `channels`"),
        ({"space": "layers,drops"}, SettingsError, "leave out one"),
        ({"compensate": "obs,bias"}, SettingsError, "at most one of"),
        ({"compensate": "admm"}, SettingsError, "needs a space with sparsity"),
        ({"compensate": "lsq"}, SettingsError, "choose from none, bias"),
        ({"budget": "params<=0.5x", "space": "2:4"}, BudgetError, "params"),
        ({"prior": "importance"}, SettingsError, "compare across layers"),
        ({"prior": "owl"}, SettingsError, "needs a space with some"),
        ({"space": "channels,2:4", "mlp_step": 3}, SettingsError, r"`layers\.0\.mlp\.down_proj`"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_run(
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    saved_llama: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        search(str(saved_llama), out=tmp_path / "run", **{**SMALL, **options})
    assert not (tmp_path / "run" / "settings.yaml").exists()


def test_merged_experts_of_a_search_in_other_arithmetic_are_exported(tmp_path: Path) -> None:
    model = saved_mixture("mixtral", tmp_path / "model")
    options: dict[str, Any] = {**SMALL, **KINDS["merged"], "evaluations": 12}
    options |= {"model": str(model), "dtype": "bfloat16", "compensate": "merge"}
    run = search(**options, out=tmp_path / "run")
    out = export_from_run(run, chosen(run), tmp_path / "export")
    assert Plan.load(out / "plan.json").weights_digest
    shutil.rmtree(run.folder / "statistics")
    cached = export_from_run(run, chosen(run), tmp_path / "cached")  # they are not made again
    first, second = (load_file(path / "model.safetensors") for path in (out, cached))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    shutil.rmtree(run.folder / "levels")
    with pytest.raises(RunError, match="the very weights that were scored"):
        export_from_run(run, chosen(run), tmp_path / "again")


def test_merging_needs_experts(saved_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="joins experts of a mixture, and this model has none"):
        search(str(saved_llama), out=tmp_path / "run", compensate="merge", **SMALL)
