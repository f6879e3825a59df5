"""Stand-ins from search to export: scored as they are written, and written in stock shapes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from evaluators.data.windows import Calibration
from planner import Run, search
from planner.runs.folder import CALIBRATION_FILE
from planner.runs.records import Evaluation
from planner.runs.space_description import read_space
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from tests.models.factory import save_model
from tests.models.families import dense
from tests.settings import SMALL

SPACE = {
    **SMALL,
    "dtype": "float32",
    "space": "heads,channels,drops,stand_ins",
    "budget": "params<=0.7x",
}


@pytest.fixture(scope="module")
def stood(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stood") / "run"
    search(str(saved_llama), out=folder, **SPACE).close()
    return folder


def plans_with_stand_ins(folder: Path) -> list[tuple[Evaluation, list[str]]]:
    """Return plans that were scored on all windows, and what stands in for what in them."""
    space = read_space(folder)
    found = []
    with Run.open(folder) as run:
        for plan in run.landed():
            kept = space.kept(plan.genome)
            names = [str(each.options["stand_in"]) for each in kept.values()
                     if "stand_in" in each.options]  # fmt: skip
            if names and plan.score.windows == SMALL["search_windows"]:
                found.append((plan, names))
    return found


@torch.no_grad()
def test_an_export_has_the_kl_that_was_scored(
    stood: Path, saved_llama: Path, tmp_path: Path
) -> None:
    plan, carriers = plans_with_stand_ins(stood)[0]
    with Run.open(stood) as run:
        folder = run.export(plan.plan_id, tmp_path / "export")
    original: Any = AutoModelForCausalLM.from_pretrained(saved_llama)
    smaller: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokens = Calibration.load(stood / CALIBRATION_FILE).search
    teacher, student = (
        model(tokens).logits[:, :-1].double().log_softmax(dim=-1) for model in (original, smaller)
    )
    kl = float((teacher.exp() * (teacher - student)).sum(dim=-1).mean())
    assert kl == pytest.approx(plan.quality["kl"].value, rel=1e-3)
    assert carriers


def test_what_is_shown_of_a_plan_says_what_stands_in_for_what(stood: Path) -> None:
    plan, carriers = plans_with_stand_ins(stood)[0]
    with Run.open(stood) as run:
        rows = run.plan(plan.plan_id).layers()
    told = rows[rows["options"].str.contains("stand_in")]
    assert (told["kept"] == 0).all()
    assert set(told["options"]) == {f"stand_in {name}" for name in carriers}


def test_models_whose_outputs_are_normed_refuse_stand_ins(tmp_path: Path) -> None:
    folder = save_model(dense("gemma3").backbone.model, tmp_path / "model")
    with pytest.raises(SettingsError, match="stand_ins need"):
        search(str(folder), out=tmp_path / "run", **SPACE)
    assert SearchSettings.checked(model="m", space="drops,stand_ins").space.stand_ins
