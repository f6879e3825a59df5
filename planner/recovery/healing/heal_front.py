"""Healing all plans of a front by one training of the weights that they share, written once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.preparation.prepared_model import PreparedModel
from planner.recovery.cut_plan import CutPlan
from planner.recovery.healing.curve import LearningCurve
from planner.recovery.healing.heal_run import in_number_formats, points_of
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.pupil import distillation_of, train
from planner.recovery.healing.run_text import fitted_to, text_of_run
from planner.recovery.healing.supernet import Supernet
from planner.recovery.recording import (
    VariantScorer,
    load_recovered,
    origin_of,
    record_failure,
    record_recovery,
    variant_there,
)
from planner.recovery.recovered_weights import RecoveredWeights, staged_weights
from planner.recovery.recovery_record import CurvePoint, RecoveryRecord
from planner.results.front import front
from planner.runs.folder import FRONT, HEALING_FILE
from planner.runs.records import Evaluation, Recovery
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from search_spaces.errors import ModelError, PlanError, RunError, SettingsError
from search_spaces.progress import Progress
from search_spaces.structure.backbone import position_count

logger = logging.getLogger(__name__)

_HEAL: Recovery = "heal"


@dataclass(frozen=True, kw_only=True)
class HealedFront:
    """What one healing of a front came to."""

    curve: LearningCurve
    """Its KL is a share of what plans began with, averaged over some of them."""
    plans: tuple[Evaluation, ...]
    """All that were healed, from the largest to the smallest, with what it came to for each."""


def heal_front(
    run: RunStore, prepared: PreparedModel, settings: HealSettings, progress: Progress
) -> HealedFront:
    """Train the dense weights that the plans of a front are extracts of, for all of them at once.

    Each plan for which that helped gets a variant. Plans are trained as they were searched, so
    that what is learned may be shared.

    Args:
        run: Open for writing.
        prepared: Its model.
        settings: How it is trained; all weights are.
        progress: Receives stages and progress.

    Raises:
        PlanError: If the front has no two plans that are smaller than the dense model.
        SettingsError: If anything but all weights is to be trained.
        DataError: If the text cannot be used.
        ModelError: If the model is not in memory.
    """
    _check(prepared, settings)
    settings = fitted_to(settings, position_count(prepared.dense.loaded.model))
    plans = healable(run)
    text = text_of_run(run, prepared, settings)
    cuts = [load_recovered(run, prepared, plan.plan_id) for plan in plans]
    supernet = Supernet(
        plans=cuts,
        divergences=[plan.fresh["kl"].value for plan in plans],
        distillation=distillation_of(prepared.sorted_model.structure.backbone, settings),
        fresh=prepared.calibration.fresh,
        seed=settings.seed,
        fixed=frozenset().union(*map(in_number_formats, cuts)),
    )
    mark = {
        "plans": [plan.plan_id for plan in plans],
        "origin": origin_of(prepared),
        "settings": settings.mark(),
    }
    checkpoint = CheckpointFile(run.folder / HEALING_FILE, mark)
    curve = train(supernet, text, settings, checkpoint, progress)
    record = RecoveryRecord(
        plan_id=FRONT,
        recovery=_HEAL,
        origin=origin_of(prepared),
        settings=settings.model_dump(mode="json"),
        tokens=curve.looks[-1].tokens,
        seconds=curve.looks[-1].seconds,
        curve=points_of(curve),
    )
    if curve.helped:
        _keep(run, cuts, supernet, record, plans, progress)
    checkpoint.discard()
    found = [run.find_plan(plan.plan_id) for plan in plans]
    return HealedFront(curve=curve, plans=tuple(plan for plan in found if plan is not None))


def healable(run: RunStore) -> list[Evaluation]:
    """Return the plans of a run's front that are smaller than the dense model, largest first.

    Raises:
        PlanError: If there are no two of them.
    """
    plans = [
        plan
        for plan in front(run.landed(), run.cost_names)
        if plan.fresh and plan.fresh["kl"].value > 0
    ]
    if len(plans) < 2:
        raise PlanError(
            "`--front` needs a front of two plans or more that differ from the dense model, got "
            f"{len(plans)}; heal one with `--plan` or `--budget`"
        )
    return sorted(plans, key=lambda plan: -plan.costs[run.cost_names[0]])


def _check(prepared: PreparedModel, settings: HealSettings) -> None:
    """Refuse what cannot be shared by all plans.

    Raises:
        SettingsError: If anything but all weights is to be trained.
        ModelError: If the model is not in memory.
    """
    if settings.train != "all":
        raise SettingsError(
            f"`--front` trains all weights, which plans share, got `--train {settings.train}`; "
            "leave one of them out"
        )
    if prepared.dense.structure.backbone.streamed:
        raise ModelError(
            "healing needs the whole model in memory, and this one is read from disk layer by "
            "layer; heal on a larger machine"
        )


def _keep(
    run: RunStore,
    cuts: Sequence[CutPlan],
    supernet: Supernet,
    record: RecoveryRecord,
    plans: Sequence[Evaluation],
    progress: Progress,
) -> None:
    """Write the updates once, for all plans, unless those of an earlier healing are better."""
    loaded = cuts[0].prepared.dense.loaded
    with staged_weights(run.folder, FRONT, _HEAL, loaded) as staged:
        for index, path in enumerate(cuts[0].prepared.sorted_model.structure.backbone.layer_paths):
            changed = {
                name.removeprefix(f"{path}."): update.detach()
                for name, update in supernet.parameters.items()
                if name.startswith(f"{path}.")
            }
            staged.add(index, path, changed)
        shared = staged.completed(record)
        kl = [_fresh_kl(run, replace(cut, shared=shared), progress) for cut in cuts]
        if (told := _earlier_is_better(run, plans, kl)) is not None:
            logger.warning("the front stays as it was healed before: %s", told)
            return
        alone = [_healed(run, plan, alone=True) for plan in plans]
        staged.publish()
    _record(run, cuts, plans, kl, alone)


def _fresh_kl(run: RunStore, cut: CutPlan, progress: Progress) -> float:
    """Return the KL of a plan on fresh text, rounded as it is stored."""
    scorer = VariantScorer(prepared=cut.prepared, settings=run.settings, progress=progress)
    return scorer.fresh_kl(cut)


def _earlier_is_better(
    run: RunStore, plans: Sequence[Evaluation], kl: Sequence[float]
) -> str | None:
    """Return why an earlier healing of the front stays; `None`: there is none, or it is worse.

    Healings are compared by what is left of the KL of each plan on fresh text, on average.
    """
    shared = [_healed(run, plan, alone=False) for plan in plans]
    if not any(earlier is not None for earlier in shared):
        return None
    searched = np.array([plan.fresh["kl"].value for plan in plans])
    now = float(np.mean(np.minimum(kl, searched) / searched))
    known = np.array([np.inf if earlier is None else earlier for earlier in shared])
    before = float(np.mean(np.minimum(known, searched) / searched))
    if now < before:
        return None
    return f"it leaves {before:.1%} of the plans' KL on fresh text, and this healing {now:.1%}"


def _record(
    run: RunStore,
    cuts: Sequence[CutPlan],
    plans: Sequence[Evaluation],
    kl: Sequence[float],
    alone: Sequence[float | None],
) -> None:
    """Score every plan that the updates help, and keep that as its variant.

    Args:
        run: The run.
        cuts: The plans.
        plans: Their scores.
        kl: Of each with the updates on fresh text.
        alone: Of those that were healed alone before.
    """
    shared = RecoveredWeights.open(run.folder, FRONT, _HEAL)
    for cut, plan, found, own in zip(cuts, plans, kl, alone, strict=True):
        if own is not None and own <= found:
            continue
        before, last = plan.fresh["kl"].value, shared.record.curve[-1]
        # that of the front tells shares of KL, and not what became of this plan
        curve = (
            CurvePoint(tokens=0, seconds=0.0, kl=before),
            CurvePoint(tokens=last.tokens, seconds=last.seconds, kl=found),
        )
        own_facts = {"plan_id": plan.plan_id, "curve": curve, "layers": {}}
        record = shared.record.model_copy(update={**own_facts, "shared": shared.record.digest})
        with staged_weights(run.folder, plan.plan_id, _HEAL, cut.prepared.dense.loaded) as staged:
            if found < before:
                record_recovery(run, replace(cut, shared=shared), staged, record)
            else:
                record_failure(run, record, "healing the front did not help this plan")
    _give_up_others(run, {plan.plan_id for plan in plans})


def _healed(run: RunStore, plan: Evaluation, *, alone: bool) -> float | None:
    """Return the KL on fresh text of a plan that was healed before, alone or with its front."""
    earlier = variant_there(run, plan.plan_id, _HEAL)
    if earlier is None:
        return None
    record = RecoveredWeights.open(run.folder, plan.plan_id, _HEAL).record
    return earlier.fresh["kl"].value if alone == (not record.shared) else None


def _give_up_others(run: RunStore, healed: set[str]) -> None:
    """Give up variants of other plans that shared earlier updates, which are gone."""
    for plan in run.landed():
        if plan.variant(_HEAL) is None or plan.plan_id in healed:
            continue
        try:
            earlier = RecoveredWeights.open(run.folder, plan.plan_id, _HEAL).record
        except RunError:  # gone already, which is told when it is asked for
            continue
        if earlier.shared:
            record_failure(run, earlier, "the front that it shared weights with was healed again")
