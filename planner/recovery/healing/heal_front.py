"""Healing all plans of a front by one training of the weights that they share, written once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluators.scoring.batches import Fidelity
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
)
from planner.recovery.recovered_weights import RecoveredWeights, staged_weights
from planner.recovery.recovery_record import RecoveryRecord
from planner.results.front import front
from planner.runs.folder import FRONT, HEALING_FILE
from planner.runs.records import Evaluation, Recovery
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from search_spaces.errors import ModelError, PlanError, SettingsError
from search_spaces.progress import Progress
from search_spaces.structure.backbone import position_count

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
        shared = _written(run, prepared, supernet, record)
        _record(run, cuts, shared, plans, progress)
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


def _written(
    run: RunStore, prepared: PreparedModel, supernet: Supernet, record: RecoveryRecord
) -> RecoveredWeights:
    """Write the updates once, for all plans."""
    loaded, backbone = prepared.dense.loaded, prepared.sorted_model.structure.backbone
    with staged_weights(run.folder, FRONT, _HEAL, loaded) as staged:
        for index, path in enumerate(backbone.layer_paths):
            changed = {
                name.removeprefix(f"{path}."): update.detach()
                for name, update in supernet.parameters.items()
                if name.startswith(f"{path}.")
            }
            staged.add(index, path, changed)
        staged.completed(record)
        staged.publish()
    return RecoveredWeights.open(run.folder, FRONT, _HEAL)


def _record(
    run: RunStore,
    cuts: Sequence[CutPlan],
    shared: RecoveredWeights,
    plans: Sequence[Evaluation],
    progress: Progress,
) -> None:
    """Score every plan with the updates, and keep those for which they help."""
    digest = shared.record.digest
    for number, (cut, plan) in enumerate(zip(cuts, plans, strict=True), start=1):
        progress.stage(f"plan {plan.plan_id}, {number} of {len(plans)}")
        record = shared.record.model_copy(
            update={"plan_id": plan.plan_id, "shared": digest, "layers": {}}
        )
        loaded = cut.prepared.dense.loaded
        with staged_weights(run.folder, plan.plan_id, _HEAL, loaded) as staged:
            healed = replace(cut, recovered=staged.completed(record), shared=shared)
            scorer = VariantScorer(prepared=cut.prepared, settings=run.settings)
            kl = scorer.quality(healed, "fresh", Fidelity(metrics=("kl",)))["kl"].value
            own = _healed_alone(run, plan)
            if own is not None and own <= kl:
                continue
            if kl < plan.fresh["kl"].value:
                record_recovery(run, healed, staged, record)
            else:
                record_failure(run, record, "healing the front did not help this plan")
    _give_up_others(run, {plan.plan_id for plan in plans})


def _healed_alone(run: RunStore, plan: Evaluation) -> float | None:
    """Return the KL on fresh text of a plan that was healed alone before; none if it was not."""
    earlier = plan.variant(_HEAL)
    if earlier is None or RecoveredWeights.open(run.folder, plan.plan_id, _HEAL).record.shared:
        return None
    return earlier.fresh["kl"].value


def _give_up_others(run: RunStore, healed: set[str]) -> None:
    """Give up variants of other plans that shared earlier updates, which are gone."""
    for plan in run.landed():
        if plan.variant(_HEAL) is None or plan.plan_id in healed:
            continue
        earlier = RecoveredWeights.open(run.folder, plan.plan_id, _HEAL).record
        if earlier.shared:
            record_failure(run, earlier, "the front that it shared weights with was healed again")
