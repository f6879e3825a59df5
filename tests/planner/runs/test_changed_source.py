"""A run goes on with the model and the text that it began with; a change of either is named."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from planner.export.run_exports import export_from_model
from planner.run import Run, search
from planner.settings.search import SETTINGS_FILE, SearchSettings
from search_spaces.errors import PlanError, RunError
from search_spaces.models.identity import ModelIdentity
from search_spaces.models.loading import load_model
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from tests.models.factory import VOCABULARY
from tests.settings import SMALL


@pytest.fixture
def model(saved_llama: Path, searched_copy: Path, tmp_path: Path) -> Path:
    """A copy of the model, which a copy of its run was made with."""
    copied = tmp_path / "model"
    shutil.copytree(saved_llama, copied)
    settings = searched_copy / SETTINGS_FILE
    text = settings.read_text(encoding="utf-8")
    assert str(saved_llama) in text
    settings.write_text(text.replace(str(saved_llama), str(copied)), encoding="utf-8")
    return copied


def change_config(model: Path, **values: object) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **values}), encoding="utf-8")


def change_weights(model: Path) -> None:
    path = model / "model.safetensors"
    weights = {name: weight.clone() for name, weight in load_file(path).items()}
    weights["model.layers.3.mlp.up_proj.weight"].view(-1)[5] *= -1  # which no sample is at
    save_file(weights, path, metadata={"format": "pt"})


def change_tokenizer(model: Path) -> None:
    path = model / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"w5"', '"v5"'), encoding="utf-8")


def change_text(run: Path) -> None:
    with np.load(run / "calibration.npz") as held:
        arrays = dict(held)
    arrays["fresh"] = arrays["fresh"][::-1]
    np.savez(run / "calibration.npz", **arrays)


def resume(run: Path) -> None:
    settings = SearchSettings.load(run).model_dump()
    settings["evaluations"] += 1
    search(settings.pop("model"), out=run, resume=True, **settings)


def export(run: Path) -> None:
    with Run.open(run) as opened:
        opened.export(opened.landed()[0].plan_id, run.parent / "export")


@pytest.mark.parametrize("go_on", [resume, export])
def test_another_config_is_named(model: Path, searched_copy: Path, go_on: object) -> None:
    change_config(
        model, rms_norm_eps=0.1, rope_parameters={"rope_type": "default", "rope_theta": 5e5}
    )
    assert callable(go_on)
    with pytest.raises(RunError, match=r"config\.json changed since the search") as refused:
        go_on(searched_copy)
    assert "rms_norm_eps 1e-06 → 0.1, and 1 more; bring" in str(refused.value)
    assert len(str(refused.value)) <= 300


def test_other_tokens_are_named(model: Path, searched_copy: Path) -> None:
    change_tokenizer(model)
    with pytest.raises(RunError, match="its tokenizer changed since the search"):
        resume(searched_copy)


def test_other_weights_are_named(model: Path, searched_copy: Path) -> None:
    change_weights(model)
    with pytest.raises(RunError, match="its weights changed since the search: checksum"):
        export(searched_copy)


@pytest.mark.parametrize("go_on", [resume, export])
def test_another_text_is_named(searched_copy: Path, go_on: object) -> None:
    change_text(searched_copy)
    assert callable(go_on)
    with pytest.raises(RunError, match=r"calibration\.npz changed since the search"):
        go_on(searched_copy)


def test_a_changed_file_of_text_is_named_and_the_run_keeps_its_tokens(
    saved_llama: Path, tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, out = tmp_path / "notes.txt", tmp_path / "run"
    # each half holds all windows of `SMALL`
    words = np.random.default_rng(0).integers(3, VOCABULARY, 3000)
    text.write_text(" ".join(f"w{word}" for word in words), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "evaluations": 6}
    plan = search(str(saved_llama), out=out, data="notes.txt", **settings).landed()[0]
    tokens = (out / "calibration.npz").read_bytes()
    # the same file by another name
    search(str(saved_llama), out=out, data=str(text), resume=True, **settings).close()
    assert not any("changed since" in notice for notice in notices)
    text.write_text("all of it is new", encoding="utf-8")
    search(str(saved_llama), out=out, data=str(text), resume=True, **settings).close()
    with Run.open(out) as run:
        run.export(plan.plan_id, tmp_path / "export")
    said = [notice for notice in notices if "notes.txt` changed since the search" in notice]
    assert len(said) == 2
    assert "the run keeps the tokens that it drew from it" in said[0]
    assert (out / "calibration.npz").read_bytes() == tokens
    # the run can do without it
    text.unlink()
    notices.clear()
    search(str(saved_llama), out=out, data="notes.txt", resume=True, **settings).close()
    assert not any("changed since" in notice for notice in notices)


def test_a_plan_alone_notices_another_config(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    kept = {"layers.0.mlp": ComponentPlan(unit_count=48, kept="0-23")}
    plan = Plan(model=load_model(str(model)).identity, sites=kept)
    path.write_text(plan.to_json(), encoding="utf-8")
    assert Plan.load(path) == plan
    assert set(json.loads(plan.to_json())["model"]) == set(ModelIdentity.model_fields)
    change_config(model, rms_norm_eps=0.1)
    settings = SearchSettings.checked(model=str(model))
    with pytest.raises(PlanError, match=r"1e-06 → 0\.1; give that model as it was"):
        export_from_model(settings, path, tmp_path / "again")


def test_a_run_that_lost_what_it_was_searched_on_is_damaged(
    model: Path, searched_copy: Path
) -> None:
    with sqlite3.connect(searched_copy / "run.sqlite") as database:
        ((text,),) = database.execute("SELECT value FROM meta WHERE key = 'model'").fetchall()
        kept = {key: json.loads(text)[key] for key in ("architecture", "fingerprint", "params")}
        database.execute("UPDATE meta SET value = ? WHERE key = 'model'", (json.dumps(kept),))
    database.close()
    identity = load_model(str(model), dtype=torch.float32).identity
    with Run.open(searched_copy) as run, pytest.raises(RunError, match="does not say which model"):
        run.check_model(identity)
