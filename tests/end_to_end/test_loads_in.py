"""Searches restricted to what can be loaded somewhere, from the command line to the export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from planner import Run, search
from planner.cli.main import main
from planner.reports.sentences import restriction_sentence
from planner.runs.space_description import read_space
from planner.targets.holding import refusals
from planner.targets.loads_in import holds_in
from search_spaces.errors import RunError, SettingsError
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense
from tests.models.merging_tokenizers import of_bytes
from tests.models.moe_families import mixture, saved_mixture
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic
NATIVE: dict[str, Any] = {**SMALL, "loads_in": "transformers-native", "compensate": "none"}
MIXED = "heads,channels,drops,experts,top_k"


@pytest.fixture(scope="module")
def native(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search for plans that the stock class holds; no test may change it."""
    folder = tmp_path_factory.mktemp("native") / "run"
    search(str(saved_llama), out=folder, **NATIVE).close()
    return folder


def test_every_plan_of_a_restricted_search_is_held(native: Path, llama: ModelStructure) -> None:
    run, holds = Run.open(native), holds_in("transformers-native", llama)
    plans = [run.stored_plan(evaluation.plan_id) for evaluation in run.front_plans()]
    assert len(plans) > 3
    for plan in plans:
        assert plan is not None
        assert refusals(holds, llama.components, plan) == []
    widths = {len(site.units) for plan in plans if plan for site in plan.sites.values()}
    assert len(widths) > 3  # of all layers, or none


def test_the_sites_of_a_run_say_what_layers_share(native: Path) -> None:
    sites = {site.name: site for site in read_space(native).sites}
    assert list(sites) == [*(f"layers.{layer}" for layer in range(6)), "attention", "mlp"]
    assert sites["mlp"].targets == tuple(f"layers.{layer}.mlp" for layer in range(6))
    assert restriction_sentence(Run.open(native)) == (
        "plans are restricted to what transformers-native can hold (--loads_in), so that these "
        "are alike in all layers: attention, mlp"
    )


def test_a_run_tells_of_each_plan_that_its_layers_are_whole_and_alike(native: Path) -> None:
    run = Run.open(native)
    for evaluation in run.front_plans():
        layers = run.plan(evaluation.plan_id).layers()
        for kind in ("attention", "mlp"):
            kept = set(layers[layers["component"] == kind]["kept"])
            assert len(kept - {0}) == 1
        there = [layer for layer, level in enumerate(evaluation.genome[:6]) if level]
        assert set(layers[layers["kept"] > 0]["layer"]) == set(there)
        assert (layers[layers["layer"].isin(there)]["kept"] > 0).all()


def test_a_native_plan_is_exported_without_code_of_ours(native: Path, tmp_path: Path) -> None:
    run = Run.open(native)
    plan = run.front_plans()[-1]
    folder = run.export(plan.plan_id, tmp_path / "export")
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == ["LlamaForCausalLM"]
    assert not list(folder.glob("*.py"))


def test_experts_are_as_many_in_each_layer_of_a_native_mixture(tmp_path: Path) -> None:
    model = saved_mixture("qwen2-moe", tmp_path / "model")
    settings = {**NATIVE, "space": MIXED, "budget": "params<=0.7x"}
    run = search(str(model), out=tmp_path / "run", **settings)
    components = mixture("qwen2-moe").components
    counts = set()
    for evaluation in run.landed():
        kept = read_space(run.folder).kept(evaluation.genome)
        experts = {kept[c.name].units for c in components if c.kind == "experts"} - {0}
        assert len(experts) <= 1
        counts |= experts
    assert len(counts) > 1
    plan = next(
        e
        for e in run.front_plans()
        if any(
            0 < k.units < 8
            for n, k in read_space(run.folder).kept(e.genome).items()
            if "experts" in n
        )
    )
    folder = run.export(plan.plan_id, tmp_path / "export")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen2_moe"
    assert config["num_experts"] < 8
    assert not list(folder.glob("*.py"))


def test_widths_stay_free_for_llama_cpp(tmp_path: Path) -> None:
    model = tmp_path / "model"
    dense("llama").backbone.model.save_pretrained(model)
    of_bytes().save_pretrained(model)
    settings = {**SMALL, "evaluations": 12, "compensate": "none"}
    free = search(str(model), out=tmp_path / "free", **settings)
    run = search(str(model), out=tmp_path / "run", loads_in="llama.cpp", **settings)
    assert read_space(run.folder) == read_space(free.folder)
    first, second = ([e.score.mean("kl") for e in each.landed()] for each in (free, run))
    assert first == second


def test_a_run_goes_on_with_the_place_that_it_began_with(
    native: Path, saved_llama: Path, tmp_path: Path
) -> None:
    again = search(str(saved_llama), out=native, resume=True, **NATIVE)
    assert again.is_finished
    with pytest.raises(RunError, match="loads_in"):
        search(str(saved_llama), out=native, resume=True, **{**NATIVE, "loads_in": "any"})


def test_a_space_that_leaves_nothing_to_choose_is_refused(
    saved_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"native can hold pruned .* top_k"):
        search(str(saved_llama), out=tmp_path / "run", **{**NATIVE, "space": "top_k"})
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_model_that_the_place_cannot_hold_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save: Callable[[str, Path], Path]
) -> None:
    model = save("cohere", tmp_path / "model")
    words = ["search", str(model), "--out", str(tmp_path / "run"), "--loads-in", "llama.cpp"]
    assert main(words) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "loads_in" in x]
    assert "llama.cpp cannot: " in line
    assert len(line) <= 310


def test_a_tokenizer_that_the_place_cannot_hold_is_refused_before_a_search(
    saved_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"llama.cpp cannot: .* this is a WordLevel; set anot"):
        search(str(saved_llama), out=tmp_path / "run", loads_in="llama.cpp", **SMALL)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def save() -> Callable[[str, Path], Path]:
    from tests.models.factory import save_model

    return lambda name, folder: save_model(dense(name).backbone.model, folder)
