"""A plan is healed on text that it is not measured on, and becomes a variant of itself."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from planner.preparation.prepared_model import PreparedModel
from planner.recovery.healing.heal_run import beginning, heal_plan
from planner.recovery.opened_run import run_to_recover
from planner.recovery.recording import VariantScorer, load_recovered
from planner.results.front import front
from planner.runs.folder import HEALING_FILE
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from search_spaces.errors import DataError, RunError
from search_spaces.progress import NO_PROGRESS
from tests.planner.recovery.healing.texts import random_text

Opened = tuple[RunStore, PreparedModel, Evaluation]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return random_text(tmp_path / "text.txt")


@pytest.fixture
def opened(searched_copy: Path) -> Iterator[Opened]:
    """A run that may be changed, its model, and the smallest plan of its front."""
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        yield run, prepared, front(run.landed(), run.cost_names)[-1]


def _decoded(prepared: PreparedModel, windows: Tensor) -> str:
    tokenizer = prepared.dense.loaded.tokenizer
    return "\n".join(str(tokenizer.decode(row, skip_special_tokens=True)) for row in windows)


def _settings(data: Path | None, **changes: Any) -> HealSettings:
    values = {"window_tokens": 32, "windows": 4, "tokens": 2560, "lr": 3e-4, **changes}
    return HealSettings.checked(model="run", data=data and str(data), **values)


def test_a_healed_plan_is_a_variant_that_scores_as_it_is_read_back(
    opened: Opened, text: Path
) -> None:
    run, prepared, plan = opened
    healed = heal_plan(run, prepared, plan.plan_id, _settings(text), NO_PROGRESS)
    assert healed.after is not None
    assert healed.after.fresh["kl"].value < plan.fresh["kl"].value
    again = run.find_plan(plan.plan_id)
    assert again is not None
    assert again.recovered["heal"] == healed.after
    loaded = load_recovered(run, prepared, f"{plan.plan_id}+heal")
    scorer = VariantScorer(prepared=prepared, settings=run.settings)
    assert np.allclose(
        scorer.scores(loaded)["holdout"]["kl"].by_window, healed.after.holdout["kl"].by_window
    )
    record = loaded.recovered.record if loaded.recovered else None
    assert record is not None
    assert [point.kl for point in record.curve] == [x.fresh_kl for x in healed.curve.looks]
    assert not (run.folder / HEALING_FILE).exists()


def test_dense_model_and_other_plans_stay_as_they_were(opened: Opened, text: Path) -> None:
    run, prepared, plan = opened
    other = load_recovered(run, prepared, front(run.landed(), run.cost_names)[0].plan_id)
    scorer = VariantScorer(prepared=prepared, settings=run.settings)
    before = scorer.scores(other)["holdout"]["kl"].by_window
    heal_plan(run, prepared, plan.plan_id, _settings(text), NO_PROGRESS)
    assert scorer.scores(other)["holdout"]["kl"].by_window == before


def test_healing_again_begins_with_the_best_there_is(opened: Opened, text: Path) -> None:
    run, prepared, plan = opened
    first = heal_plan(run, prepared, plan.plan_id, _settings(text), NO_PROGRESS)
    best = beginning(run, prepared, plan.plan_id, NO_PROGRESS)
    assert best == f"{plan.plan_id}+heal"
    second = heal_plan(run, prepared, best, _settings(text, seed=1), NO_PROGRESS)
    assert first.after is not None
    assert second.curve.looks[0].fresh_kl == pytest.approx(first.after.fresh["kl"].value, rel=1e-4)


def test_a_plan_that_was_never_recovered_is_refitted_first(opened: Opened) -> None:
    run, prepared, plan = opened
    best = beginning(run, prepared, plan.plan_id, NO_PROGRESS)
    again = run.find_plan(plan.plan_id)
    assert again is not None
    refitted = again.recovered["refit"]
    helped = refitted.failure is None
    assert best == (f"{plan.plan_id}+refit" if helped else plan.plan_id)


def test_healing_that_ruins_a_plan_keeps_what_was_there(opened: Opened, text: Path) -> None:
    run, prepared, plan = opened
    good = heal_plan(run, prepared, plan.plan_id, _settings(text), NO_PROGRESS)
    healed = f"{plan.plan_id}+heal"
    ruined = heal_plan(run, prepared, healed, _settings(text, lr=1.0), NO_PROGRESS)
    assert ruined.after is None
    assert ruined.curve.stopped == "diverged"
    assert "did not help" in str(ruined.curve)
    again = run.find_plan(plan.plan_id)
    assert again is not None
    assert again.recovered["heal"] == good.after
    load_recovered(run, prepared, healed)


@pytest.mark.parametrize("changes", [{"tokens": 1}, {"lr": 1.0}], ids=["less", "diverged"])
def test_an_earlier_healing_that_is_better_stays(
    opened: Opened, text: Path, changes: dict[str, float], notices: list[str]
) -> None:
    run, prepared, plan = opened
    good = heal_plan(run, prepared, plan.plan_id, _settings(text), NO_PROGRESS)
    again = heal_plan(run, prepared, plan.plan_id, _settings(text, **changes), NO_PROGRESS)
    assert good.after is not None
    assert again.after is None
    found = run.find_plan(plan.plan_id)
    assert found is not None
    assert found.recovered["heal"] == good.after
    load_recovered(run, prepared, f"{plan.plan_id}+heal").layer(0)
    assert f"{plan.plan_id}+heal stays as it was" in "".join(notices)


def test_a_variant_whose_weights_are_gone_is_healed_anew(opened: Opened, text: Path) -> None:
    run, prepared, plan = opened
    heal_plan(run, prepared, plan.plan_id, _settings(text), NO_PROGRESS)
    shutil.rmtree(run.folder / "recovered")
    with pytest.raises(RunError, match=f"`planner heal RUN --plan {plan.plan_id}`"):
        load_recovered(run, prepared, f"{plan.plan_id}+heal")
    begun = beginning(run, prepared, plan.plan_id, NO_PROGRESS)
    assert begun in {plan.plan_id, f"{plan.plan_id}+refit"}
    healed = heal_plan(run, prepared, begun, _settings(text), NO_PROGRESS)
    assert healed.after is not None
    load_recovered(run, prepared, f"{plan.plan_id}+heal").layer(0)


def test_a_first_healing_that_ruins_a_plan_is_recorded_as_a_failure(
    opened: Opened, text: Path
) -> None:
    run, prepared, plan = opened
    heal_plan(run, prepared, plan.plan_id, _settings(text, lr=1.0), NO_PROGRESS)
    again = run.find_plan(plan.plan_id)
    assert again is not None
    assert again.recovered["heal"].failure is not None
    assert "diverged" in again.recovered["heal"].failure


def test_held_out_text_is_refused(opened: Opened, tmp_path: Path) -> None:
    run, prepared, plan = opened
    held_out = tmp_path / "held-out.txt"
    held_out.write_text(_decoded(prepared, prepared.calibration.holdout))
    with pytest.raises(DataError, match="must not be held-out text"):
        heal_plan(run, prepared, plan.plan_id, _settings(held_out), NO_PROGRESS)


def test_too_little_text_is_told(opened: Opened, tmp_path: Path) -> None:
    run, prepared, plan = opened
    short = tmp_path / "short.txt"
    short.write_text("w3 w4 w5 " * 20)
    with pytest.raises(DataError, match=r"4 windows of 32 tokens.*holds 1;"):
        heal_plan(run, prepared, plan.plan_id, _settings(short), NO_PROGRESS)


def test_a_run_on_the_models_own_text_needs_other_text(opened: Opened) -> None:
    run, prepared, plan = opened
    with pytest.raises(DataError, match="name some with `--data`"):
        heal_plan(run, prepared, plan.plan_id, _settings(None), NO_PROGRESS)
