"""All plans of a front are healed by one training, whose weights are written once."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from planner import search
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.healing.distillation import Distillation, Teacher
from planner.recovery.healing.heal_front import heal_front, healable
from planner.recovery.healing.heal_run import heal_plan
from planner.recovery.healing.supernet import Extract, Supernet
from planner.recovery.opened_run import run_to_recover
from planner.recovery.recording import VariantScorer, load_recovered
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from search_spaces.errors import PlanError, RunError, SettingsError
from search_spaces.progress import NO_PROGRESS
from tests.models.tiny import windows
from tests.planner.recovery.healing.texts import random_text
from tests.planner.recovery.prepared_plans import kl_of, prepared_model, smaller_plan
from tests.settings import SMALL
from tests.shared_folders import shared_folder

Opened = tuple[RunStore, PreparedModel]


@pytest.fixture(scope="module")
def searched_text(tmp_path_factory: pytest.TempPathFactory, saved_llama: Path) -> Path:
    """A small search on text at random, of which there is plenty; no test may change it."""

    def make(folder: Path) -> None:
        text = random_text(folder.with_suffix(".txt"), 20_000)
        options = {**SMALL, "evaluations": 20, "data": str(text)}
        search(str(saved_llama), out=folder, **options).close()

    return shared_folder(tmp_path_factory, "searched-on-text", make)


@pytest.fixture
def opened(searched_text: Path, tmp_path: Path) -> Iterator[Opened]:
    """A run that may be changed, and its model."""
    folder = shutil.copytree(searched_text, tmp_path / "run")
    with run_to_recover(folder, NO_PROGRESS) as opened:
        yield opened


def _settings(**changes: Any) -> HealSettings:
    values = {"window_tokens": 32, "windows": 4, "tokens": 10240, "lr": 3e-4, **changes}
    return HealSettings.checked(model="run", **values)


@pytest.fixture
def supernet(saved_llama: Path, tmp_path: Path) -> Supernet:
    """Five plans with compensated weights, in float32."""
    prepared = prepared_model(saved_llama, tmp_path / "run")
    plans = [smaller_plan(prepared, share) for share in (0.9, 0.8, 0.7, 0.6, 0.5)]
    fresh = prepared.calibration.fresh
    return Supernet(
        plans=plans,
        divergences=[kl_of(plan, fresh, {}) for plan in plans],
        distillation=Distillation(Teacher(prepared.sorted_model.structure.backbone)),
        fresh=fresh,
        seed=0,
    )


def test_no_updates_compute_what_was_searched(supernet: Supernet) -> None:
    for plan, divergence in zip(supernet.plans, supernet.divergences, strict=True):
        extract = Extract.of(plan)
        with extract.updated(supernet.parameters):
            kl = supernet.distillation.by_window(extract.student, supernet.fresh)
        assert kl.mean() == pytest.approx(divergence, rel=1e-4)  # float32 sums in another order
    assert supernet.look().mean() == pytest.approx(1.0, rel=1e-4)


def test_gradient_of_updates_is_that_of_the_weighted_losses(supernet: Supernet) -> None:
    """By small steps along a random direction."""
    tokens = windows(4, 16, seed=5)
    drawn = supernet._drawn(0)
    supernet.backward(0, tokens)
    generator = torch.Generator().manual_seed(0)
    direction = {
        name: torch.randn(p.shape, generator=generator) for name, p in supernet.parameters.items()
    }
    slope = sum(
        float((p.grad * direction[name]).sum())
        for name, p in supernet.parameters.items()
        if p.grad is not None
    )

    def loss(step: float) -> float:
        updates = {name: step * d for name, d in direction.items()}
        total = 0.0
        for number in drawn:
            extract = Extract.of(supernet.plans[number])
            with extract.updated(updates):
                kl = supernet.distillation.by_window(extract.student, tokens).mean()
            total += kl * supernet.weights[number] / len(drawn)
        return float(total)

    step = 1e-3
    assert slope == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=0.02)


def test_updates_leave_models_as_they_were(supernet: Supernet) -> None:
    extract = Extract.of(supernet.plans[0])
    before = {name: p.clone() for name, p in extract.student.model.named_parameters()}
    ones = {name: torch.ones(p.shape) for name, p in supernet.parameters.items()}
    with extract.updated(ones) as weights:
        assert all(torch.equal(weights[name], before[name] + 1) for name in weights)
    for name, weight in extract.student.model.named_parameters():
        assert torch.equal(weight, before[name])
        assert not weight.requires_grad


def test_each_step_runs_the_ends_and_two_between(supernet: Supernet) -> None:
    drawn = [supernet._drawn(step) for step in range(40)]
    for numbers in drawn:
        assert len(set(numbers)) == supernet.passes == 4
        assert (numbers[0], numbers[-1]) == (0, 4)
    assert {number for numbers in drawn for number in numbers} == set(range(5))
    assert drawn[3] == supernet._drawn(3)  # after a kill too


def test_a_front_healed_once_is_better_and_written_once(opened: Opened) -> None:
    run, prepared = opened
    healed = heal_front(run, prepared, _settings(), NO_PROGRESS)
    assert healed.curve.helped
    variants = [v for plan in healed.plans if (v := plan.variant("heal")) is not None]
    assert variants
    for plan in healed.plans:
        variant = plan.variant("heal")
        assert variant is None or variant.fresh["kl"].value < plan.fresh["kl"].value
        assert variant is not None or plan.recovered["heal"].failure
    scorer = VariantScorer(prepared=prepared, settings=run.settings)
    for variant in variants[:2]:
        loaded = load_recovered(run, prepared, variant.plan_id)
        assert loaded.recovered is not None
        searched = run.find_plan(variant.plan_id.partition("+")[0])
        assert searched is not None
        assert [point.kl for point in loaded.recovered.record.curve] == pytest.approx(
            [searched.fresh["kl"].value, variant.fresh["kl"].value]
        )
        again = scorer.scores(loaded)
        assert np.allclose(again["holdout"]["kl"].by_window, variant.holdout["kl"].by_window)
    written = list((run.folder / "recovered").rglob("*.safetensors"))
    layers = len(prepared.sorted_model.structure.layers)
    assert len(written) == layers
    assert {path.parent.name for path in written} == {"front-heal"}


def test_another_healing_of_the_front_leaves_no_variant_of_the_first(opened: Opened) -> None:
    run, prepared = opened
    first = heal_front(run, prepared, _settings(tokens=2048), NO_PROGRESS)
    name = next(v.plan_id for plan in first.plans if (v := plan.variant("heal")) is not None)
    stale = load_recovered(run, prepared, name)
    second = heal_front(run, prepared, _settings(), NO_PROGRESS)
    for plan in second.plans:
        if (variant := plan.variant("heal")) is not None:
            load_recovered(run, prepared, variant.plan_id)
    with pytest.raises(RunError, match="damaged"):
        stale.layer(0)


def test_an_earlier_healing_of_the_front_that_is_better_stays(
    opened: Opened, notices: list[str]
) -> None:
    run, prepared = opened
    first = heal_front(run, prepared, _settings(), NO_PROGRESS)
    second = heal_front(run, prepared, _settings(tokens=1024), NO_PROGRESS)
    assert second.curve.helped
    assert [plan.recovered for plan in second.plans] == [plan.recovered for plan in first.plans]
    for plan in second.plans:
        if (variant := plan.variant("heal")) is not None:
            load_recovered(run, prepared, variant.plan_id).layer(0)
    assert "the front stays as it was healed before: it leaves" in "".join(notices)


def test_a_plan_that_was_healed_alone_keeps_what_is_better(opened: Opened) -> None:
    run, prepared = opened
    plan = healable(run)[-1]
    alone = heal_plan(run, prepared, plan.plan_id, _settings(), NO_PROGRESS)
    assert alone.after is not None
    heal_front(run, prepared, _settings(tokens=2048), NO_PROGRESS)
    again = run.find_plan(plan.plan_id)
    assert again is not None
    assert again.recovered["heal"].fresh["kl"].value <= alone.after.fresh["kl"].value


def test_a_plan_healed_with_its_front_can_be_healed_alone(opened: Opened) -> None:
    run, prepared = opened
    front = heal_front(run, prepared, _settings(), NO_PROGRESS)
    name = next(v.plan_id for plan in front.plans if (v := plan.variant("heal")) is not None)
    before = load_recovered(run, prepared, name)
    assert before.shared is not None
    healed = heal_plan(run, prepared, name, _settings(train="norms"), NO_PROGRESS)
    if healed.after is not None:
        after = load_recovered(run, prepared, name)
        assert after.shared is None
        matrices = [
            (a, b)
            for a, b in zip(before.layer(0).parameters(), after.layer(0).parameters(), strict=True)
            if a.ndim > 1
        ]
        assert all(torch.equal(a, b) for a, b in matrices)


def test_what_cannot_be_shared_is_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    run, prepared = opened
    with pytest.raises(SettingsError, match="got `--train lora`"):
        heal_front(run, prepared, _settings(train="lora"), NO_PROGRESS)
    (plan, *_) = healable(run)
    monkeypatch.setattr(type(run), "landed", lambda _: [replace(plan)])
    with pytest.raises(PlanError, match="two plans or more"):
        heal_front(run, prepared, _settings(), NO_PROGRESS)
