"""Healing a plan of a run: its cut model is trained, scored, and kept as a variant of the plan."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from evaluators.metric import Measurement
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.cut_plan import CutPlan
from planner.recovery.healing.curve import LearningCurve
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.pupil import by_layer, enrol, train
from planner.recovery.healing.run_text import fitted_to, text_of_run
from planner.recovery.recording import (
    VariantScorer,
    best_variant,
    find_variant,
    load_recovered,
    origin_of,
    record_failure,
    record_recovery,
    variant_there,
)
from planner.recovery.recover import recover
from planner.recovery.recovered_weights import changed_tensors, staged_weights
from planner.recovery.recovery_record import CurvePoint, RecoveryRecord
from planner.runs.folder import HEALING_FILE
from planner.runs.records import Evaluation, Recovered, Recovery
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from search_spaces.errors import DataError
from search_spaces.models.layer_stack import find_stack
from search_spaces.progress import Progress
from search_spaces.space.number_format import STORED
from search_spaces.structure.backbone import position_count

logger = logging.getLogger(__name__)

_HEAL: Recovery = "heal"


Scores = Mapping[str, Mapping[str, Measurement]]
"""Of a variant by the name of the text: ``search``, ``fresh`` and ``holdout``."""


@dataclass(frozen=True, kw_only=True)
class Healed:
    """What a healing came to."""

    begun_with: str
    """The plan or variant that it began with."""
    curve: LearningCurve
    before: Scores
    """That it began with, by the name of the text."""
    after: Recovered | None = None
    """Scores of the healed weights; `None`: none were better, and all stays as it was."""


def heal_plan(
    run: RunStore, prepared: PreparedModel, name: str, settings: HealSettings, progress: Progress
) -> Healed:
    """Train a plan of a run end to end, and keep it as a variant if that helped.

    Args:
        run: Open for writing.
        prepared: Its model.
        name: A plan's id or a variant's name: what training begins with.
        settings: What is trained, and how.
        progress: Receives stages and progress.

    Raises:
        PlanError: If the run has no such plan or variant.
        DataError: If the text cannot be used.
        ModelError: If the model cannot be differentiated.
    """
    evaluation = find_variant(run, name)
    positions = position_count(prepared.dense.loaded.model)
    settings = fitted_to(settings, positions)
    text = text_of_run(run, prepared, settings)
    cut = load_recovered(run, prepared, name)
    model = cut.model()
    pupil = enrol(
        model,
        prepared.sorted_model.structure.backbone,
        prepared.calibration.fresh,
        settings,
        fixed=in_number_formats(cut),
    )
    mark = {"begun_with": name, "origin": origin_of(prepared), "settings": settings.mark()}
    checkpoint = CheckpointFile(run.folder / HEALING_FILE, mark)
    curve = train(pupil, text, settings, checkpoint, progress)
    before = _scores(evaluation, name)
    if not before["holdout"]:
        before = VariantScorer(prepared=prepared, settings=run.settings, progress=progress).scores(
            cut
        )
    result = Healed(begun_with=name, curve=curve, before=before)
    weights = by_layer(model, pupil.part.weights())
    after = _recorded(run, cut, weights, result, settings, progress)
    checkpoint.discard()
    return replace(result, after=after)


def beginning(run: RunStore, prepared: PreparedModel, plan_id: str, progress: Progress) -> str:
    """Return the variant of a plan that is best to heal, by KL on fresh text.

    A plan that was never recovered is refitted first: in closed form a minute gives what training
    takes hours for.

    Raises:
        PlanError: If the run has no such plan.
    """
    best = best_variant(run, plan_id)
    if best.plan_id == plan_id and "refit" not in best.recovered:
        try:
            recover(run, prepared, plan_id, "refit", progress)
        except DataError as error:
            logger.warning("plan %s is healed as it was searched: %s", plan_id, error)
        best = best_variant(run, plan_id)
    return best.plan_id


def in_number_formats(cut: CutPlan) -> set[str]:
    """Return the names of matrices that integers stand for, which training would leave behind."""
    structure = cut.prepared.sorted_model.structure
    names: set[str] = set()
    for position, component in enumerate(structure.in_layers):
        if cut.options(position).format == STORED:
            continue
        paths = component.weights(structure.owner(component))
        names |= {structure.tensor_name(component, path) for path in paths}
    return names


def _recorded(
    run: RunStore,
    cut: CutPlan,
    weights: Mapping[int, Mapping[str, Tensor]],
    result: Healed,
    settings: HealSettings,
    progress: Progress,
) -> Recovered | None:
    """Record what a healing came to; none if it did not help."""
    loaded, curve, plan_id = cut.prepared.dense.loaded, result.curve, cut.plan.plan_id
    record = RecoveryRecord(
        plan_id=plan_id,
        recovery=_HEAL,
        origin=origin_of(cut.prepared),
        settings={"begun_with": result.begun_with, **settings.model_dump(mode="json")},
        tokens=curve.looks[-1].tokens,
        seconds=curve.looks[-1].seconds,
        curve=points_of(curve),
    )
    earlier, why = variant_there(run, plan_id, _HEAL), str(curve)
    if curve.helped:
        with staged_weights(run.folder, plan_id, _HEAL, loaded) as staged:
            for index, path in enumerate(find_stack(loaded.model).layers):
                before = _recovered_before(cut, index)
                staged.add(index, path, {**before, **weights.get(index, {})})
            healed = replace(cut, recovered=staged.completed(record))
            kl = _fresh_kl(healed, run, progress)
            if not kl < result.before["fresh"]["kl"].value:
                why = f"it did not help: rounded as it is stored, KL on fresh text is {kl:.4g}"
            elif earlier is not None and not kl < earlier.fresh["kl"].value:
                why = f"an earlier healing is better: KL on fresh text is {kl:.4g} now"
            else:
                return record_recovery(run, cut, staged, record, progress)
    if earlier is None:
        record_failure(run, record, why)
    else:
        logger.warning("%s stays as it was: %s", earlier.plan_id, why)
    return None


def _recovered_before(cut: CutPlan, index: int) -> Mapping[str, Tensor]:
    """Return the tensors of a layer that other recoveries changed before."""
    if cut.shared is not None:
        searched = replace(cut, recovered=None, shared=None)
        return changed_tensors(cut.layer(index), searched.layer(index))
    return {} if cut.recovered is None else cut.recovered.of_layer(index)


def _fresh_kl(healed: CutPlan, run: RunStore, progress: Progress) -> float:
    """Return the KL of weights on fresh text, rounded as they are stored."""
    scorer = VariantScorer(prepared=healed.prepared, settings=run.settings, progress=progress)
    return scorer.fresh_kl(healed)


def points_of(curve: LearningCurve) -> tuple[CurvePoint, ...]:
    """Return a curve as it is kept beside weights."""
    return tuple(
        CurvePoint(tokens=look.tokens, seconds=look.seconds, kl=look.fresh_kl)
        for look in curve.looks
    )


def _scores(evaluation: Evaluation, name: str) -> Scores:
    """Return what is known of a variant."""
    recovery = name.partition("+")[2]
    for known, recovered in evaluation.recovered.items():
        if known == recovery:
            return recovered.by_split
    return {"search": evaluation.quality, "fresh": evaluation.fresh, "holdout": evaluation.holdout}
