"""Recovering a plan of a run: weights are fitted, compared with those before, kept if better."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from evaluators.scoring.batches import Fidelity
from evaluators.scoring.layer_scores import score_layers
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.block import block
from planner.recovery.cut_plan import CutPlan
from planner.recovery.fitting_text import Changes, FittingText
from planner.recovery.recording import (
    load_recovered,
    origin_of,
    record_failure,
    record_recovery,
)
from planner.recovery.recovered_weights import RecoveredWeights, StagedWeights, staged_weights
from planner.recovery.recovery_record import CurvePoint, RecoveryRecord
from planner.recovery.refit import refit
from planner.runs.records import LayerRecovery, Recovered, variant_name
from planner.runs.run_store import RunStore
from search_spaces.errors import RunError
from search_spaces.progress import Progress

logger = logging.getLogger(__name__)

_FITTED: Mapping[LayerRecovery, Callable[[CutPlan, FittingText, Progress], Changes]] = {
    "refit": refit,
    "block": block,
}
"""What fits weights to the calibration text."""


def recover(
    run: RunStore,
    prepared: PreparedModel,
    plan_id: str,
    recovery: LayerRecovery,
    progress: Progress,
    tokens: int | None = None,
) -> Recovered:
    """Recover a plan of a run, and record what it came to.

    Args:
        run: The run.
        prepared: Its model.
        plan_id: Of the plan.
        recovery: `block` begins with the weights of `refit`, which are made if they are missing.
        progress: Receives stages and progress.
        tokens: Of text to fit to at most; None: all of the calibration text.

    Returns:
        What was recorded; with a `failure` where the weights did no better than those before.

    Raises:
        PlanError: If the run has no such plan.
        DataError: If there is too little text.
    """
    text = FittingText.of(prepared, tokens)
    before = _beginning(run, prepared, plan_id, recovery, progress, tokens)
    started, of = time.monotonic(), (recovery, plan_id)
    record = begun_record(plan_id, recovery, prepared, text)
    kl_before = kl_apart(before, text)
    with staged_weights(run.folder, plan_id, recovery, prepared.dense.loaded) as staged:
        progress.stage(f"recovering plan {variant_name(plan_id, recovery)}")
        fit(before, recovery, text, staged, progress)
        kl_after = kl_apart(replace(before, recovered=staged.completed(record)), text)
        seconds = time.monotonic() - started
        curve = (
            CurvePoint(tokens=0, seconds=0.0, kl=kl_before),
            CurvePoint(tokens=record.tokens, seconds=seconds, kl=kl_after),
        )
        record = record.model_copy(update={"seconds": seconds, "curve": curve})
        told = f"KL {kl_before:.3f} before, {kl_after:.3f} after on text kept apart"
        if (earlier := _better(run, plan_id, recovery, kl_after)) is not None:
            logger.warning("%s of plan %s stays as it was, which is better: %s", *of, told)
            return earlier
        if not kl_after < kl_before:
            logger.warning("%s of plan %s helped nothing: %s", *of, told)
            return record_failure(run, record, f"it helped nothing: {told}")
        logger.info("%s of plan %s: %s", *of, told)
        return record_recovery(run, before, staged, record, progress)


def _better(run: RunStore, plan_id: str, recovery: LayerRecovery, kl: float) -> Recovered | None:
    """Return what an earlier recovery of a plan came to, if its weights do no worse than a KL."""
    plan = run.find_plan(plan_id)
    if plan is None or plan.variant(recovery) is None:
        return None
    try:
        curve = RecoveredWeights.open(run.folder, plan_id, recovery).record.curve
    except RunError:  # damaged: any are better
        return None
    return plan.recovered[recovery] if curve and not kl < curve[-1].kl else None


def begun_record(
    plan_id: str, recovery: LayerRecovery, prepared: PreparedModel, text: FittingText
) -> RecoveryRecord:
    """Return what is known of a recovery before it begins."""
    return RecoveryRecord(
        plan_id=plan_id,
        recovery=recovery,
        origin=origin_of(prepared),
        settings={"fitted_windows": len(text.fitted), "apart_windows": len(text.apart)},
        tokens=text.fitted.numel(),
        seconds=0.0,
    )


def fit(
    plan: CutPlan,
    recovery: LayerRecovery,
    text: FittingText,
    staged: StagedWeights,
    progress: Progress,
) -> None:
    """Fit the weights of a plan, and write those of each layer once they are known."""
    paths = plan.prepared.sorted_model.structure.backbone.layer_paths
    for index, changed in _FITTED[recovery](plan, text, progress):
        kept = plan.recovered.of_layer(index) if plan.recovered else {}
        staged.add(index, paths[index], {**kept, **changed})


def kl_apart(plan: CutPlan, text: FittingText) -> float:
    """Return the KL of a plan to the dense model on the text that is kept apart."""
    backbone = plan.prepared.sorted_model.structure.backbone
    score = score_layers(backbone, plan.layer, text.apart, Fidelity(metrics=("kl",)))
    return score.mean("kl")


def _beginning(
    run: RunStore,
    prepared: PreparedModel,
    plan_id: str,
    recovery: LayerRecovery,
    progress: Progress,
    tokens: int | None,
) -> CutPlan:
    """Return the plan with the weights that a recovery of it begins with."""
    if recovery == "refit":
        return load_recovered(run, prepared, plan_id)
    plan = run.find_plan(plan_id)
    refitted = None if plan is None else plan.recovered.get("refit")
    if refitted is None:
        refitted = recover(run, prepared, plan_id, "refit", progress, tokens)
    is_better = refitted.failure is None
    return load_recovered(run, prepared, variant_name(plan_id, "refit" if is_better else None))
