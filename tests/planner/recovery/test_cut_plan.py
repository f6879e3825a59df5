"""A cut plan computes what was scored, owns its weights, and is read back as it was written."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.metric import Measurement
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.opened_run import run_to_recover
from planner.recovery.recording import (
    VariantScorer,
    load_recovered,
    origin_of,
    record_failure,
    record_recovery,
)
from planner.recovery.recovered_weights import changed_tensors, staged_weights
from planner.recovery.recovery_record import RecoveryRecord
from planner.results.front import front
from planner.run import Run
from planner.runs.records import Evaluation, Recovered
from planner.runs.run_store import RunStore
from search_spaces.errors import OutputError, PlanError, RunError
from search_spaces.progress import NO_PROGRESS

Opened = tuple[RunStore, PreparedModel, Evaluation]


@pytest.fixture
def opened(searched_copy: Path) -> Iterator[Opened]:
    """A run that may be changed, its model, and a plan of its front that is no dense one."""
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        plan = front(run.landed(), run.cost_names)[-1]
        assert plan.costs["params"] < run.dense["params"]
        yield run, prepared, plan


def _record(run: RunStore, prepared: PreparedModel, plan: Evaluation) -> RecoveryRecord:
    return RecoveryRecord(
        plan_id=plan.plan_id,
        recovery="refit",
        origin=origin_of(prepared),
        settings={},
        tokens=7,
        seconds=0.5,
    )


def _close(found: Measurement, expected: Measurement) -> bool:
    return bool(np.allclose(found.by_window, expected.by_window, rtol=1e-4, atol=1e-6))


def test_a_cut_plan_scores_as_the_search_scored_it(opened: Opened) -> None:
    run, prepared, plan = opened
    scorer = VariantScorer(prepared=prepared, settings=run.settings)
    scores = scorer.scores(load_recovered(run, prepared, plan.plan_id))
    for text in ("search", "fresh", "holdout"):
        before = {"search": plan.quality, "fresh": plan.fresh, "holdout": plan.holdout}[text]
        assert scores[text].keys() == before.keys()
        # sums in the order of the units as they were, and not of their importance
        assert all(_close(scores[text][name], before[name]) for name in ("kl", "nll"))


def test_a_cut_model_gives_logits_and_can_be_trained(opened: Opened) -> None:
    run, prepared, plan = opened
    dense = prepared.sorted_model.structure.backbone.model
    before = {name: weight.clone() for name, weight in dense.named_parameters()}
    cut = load_recovered(run, prepared, plan.plan_id)
    model = cut.model()
    for path in prepared.sorted_model.structure.backbone.layer_paths:
        model.get_submodule(path).requires_grad_()
    tokens = prepared.calibration.search
    model(input_ids=tokens, use_cache=False).logits.square().mean().backward()
    trained = [weight for weight in model.parameters() if weight.grad is not None]
    assert sum(w.numel() for w in trained) < sum(w.numel() for w in dense.parameters())
    with torch.no_grad():
        for weight in trained:
            assert weight.grad is not None
            weight.sub_(weight.grad)
    assert trained
    assert all(torch.equal(before[name], w) for name, w in dense.named_parameters())


def test_recovered_weights_are_a_variant_with_scores_of_its_own(opened: Opened) -> None:
    run, prepared, plan = opened
    cut = load_recovered(run, prepared, plan.plan_id)
    changed = cut.changed_layers()[-1]
    path = prepared.sorted_model.structure.backbone.layer_paths[changed]
    with staged_weights(run.folder, plan.plan_id, "refit", prepared.dense.loaded) as staged:
        layer = cut.layer(changed)
        for weight in layer.parameters():
            weight.data.mul_(1.25)
        staged.add(changed, path, changed_tensors(layer, cut.layer(changed)))
        record_recovery(run, cut, staged, _record(run, prepared, plan))
    recovered = load_recovered(run, prepared, f"{plan.plan_id}+refit")
    again = changed_tensors(recovered.layer(changed), layer)
    assert not again
    with Run.open(run.folder) as read:
        (found,) = [e for e in read.landed() if e.plan_id == plan.plan_id]
    came_to = found.recovered["refit"]
    assert (came_to.tokens, came_to.seconds, came_to.failure) == (7, 0.5, None)
    assert came_to.holdout["kl"].value != plan.holdout["kl"].value
    assert len(came_to.search["kl"].by_window) == plan.score.windows
    assert found.score == plan.score


def test_a_failure_takes_the_weights_away_and_says_why(opened: Opened) -> None:
    run, prepared, plan = opened
    cut = load_recovered(run, prepared, plan.plan_id)
    record = _record(run, prepared, plan)
    with staged_weights(run.folder, plan.plan_id, "refit", prepared.dense.loaded) as staged:
        record_recovery(run, cut, staged, record)
    record_failure(run, record, "it helped nothing")
    with pytest.raises(PlanError, match="it has none: it helped nothing; `planner recover"):
        load_recovered(run, prepared, f"{plan.plan_id}+refit")
    assert not any((run.folder / "recovered").iterdir())


def test_what_is_unknown_or_damaged_is_refused(opened: Opened) -> None:
    run, prepared, plan = opened
    with pytest.raises(PlanError, match=r"one of \+refit, \+block, \+heal or by nothing"):
        load_recovered(run, prepared, f"{plan.plan_id}+other")
    with pytest.raises(PlanError, match="named by its id in this run"):
        load_recovered(run, prepared, "0123456789+refit")
    cut = load_recovered(run, prepared, plan.plan_id)
    with staged_weights(run.folder, plan.plan_id, "refit", prepared.dense.loaded) as staged:
        staged.add(0, "model.layers.0", {"nothing": torch.zeros(3)})
        staged.completed(_record(run, prepared, plan))
        staged.publish()
    run.record_recovery(plan.plan_id, "refit", _sound(plan))
    with pytest.raises(RunError, match="`nothing` is not"):
        load_recovered(run, prepared, f"{plan.plan_id}+refit").layer(0)
    file = run.folder / "recovered" / f"{plan.plan_id}-refit" / "layer-0.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RunError, match="it is damaged; recover or heal the plan again"):
        load_recovered(run, prepared, f"{plan.plan_id}+refit").layer(0)
    assert cut.layer(0) is not None


def test_a_disk_that_is_full_is_told(opened: Opened) -> None:
    run, prepared, plan = opened
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with staged_weights(run.folder, plan.plan_id, "refit", prepared.dense.loaded) as staged:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(OutputError, match="refuses its content; free some space"):
                staged.add(0, "model.layers.0", {"weight": torch.zeros(1000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _sound(plan: Evaluation) -> Recovered:
    return Recovered(search=plan.quality, fresh=plan.fresh, holdout=plan.holdout)
