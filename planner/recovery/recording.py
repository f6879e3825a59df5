"""Recording a recovery: its weights are scored as plans are, and kept as a variant of its plan."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evaluators.metric import Measurement
from evaluators.quality import QUALITY, SEARCH_METRICS
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.layer_scores import score_layers
from planner.preparation.calibration import text_digest
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.cut_plan import CutPlan
from planner.recovery.recovered_weights import (
    RecoveredWeights,
    StagedWeights,
    command_of,
    discard_weights,
)
from planner.recovery.recovery_record import RecoveryRecord
from planner.results.front import front, front_frame, save_front, with_variants
from planner.runs.folder import FRONT, recovered_folder
from planner.runs.records import (
    RESCORE_SPLITS,
    Evaluation,
    Recovered,
    Recovery,
    plan_and_recovery,
)
from planner.runs.run_facts import RunFacts
from planner.runs.run_store import RunStore
from planner.settings.search import SearchSettings
from search_spaces.errors import PlanError, RunError, quoted
from search_spaces.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

_TEXTS: Mapping[str, str] = {"search": "search", **dict[str, str](RESCORE_SPLITS.items())}


def load_recovered(run: RunFacts, prepared: PreparedModel, name: str) -> CutPlan:
    """Return a plan of a run as cut layers, with recovered weights if its name says so.

    Args:
        run: The run.
        prepared: Its model.
        name: A plan's id, or that of a variant such as ``a1b2c3d4e5+refit``.

    Raises:
        PlanError: If the run has no such plan, or no such variant of it.
        RunError: If the weights are damaged, or of another model or text.
    """
    plan_id, recovery = plan_and_recovery(name)
    space = prepared.space
    genome = np.array([find_variant(run, name).genome])
    plan = CutPlan(prepared=prepared, plan=space.plan(space.repaired(genome)[0]))
    if recovery is None:
        return plan
    weights = RecoveredWeights.open(run.folder, plan_id, recovery)
    check_origin(weights.record, prepared)
    shared = _shared(run, weights.record) if weights.record.shared else None
    return replace(plan, recovered=weights, shared=shared)


def _shared(run: RunFacts, record: RecoveryRecord) -> RecoveredWeights:
    """Open the updates that a plan shares with the others of its front.

    Raises:
        RunError: If they are damaged, or others by now.
    """
    shared = RecoveredWeights.open(run.folder, FRONT, record.recovery)
    if shared.record.digest != record.shared:
        raise RunError(
            f"the weights that plan {record.plan_id} shares with its front must be those that it "
            f"was scored with, got others; heal it again"
        )
    return shared


def variant_there(run: RunFacts, plan_id: str, recovery: Recovery) -> Evaluation | None:
    """Return a variant of a plan whose weights are there; `None`: it has none, or they are gone.

    Raises:
        PlanError: If the run has no such plan.
    """
    variant = find_variant(run, plan_id).variant(recovery)
    if variant is None:
        return None
    try:
        record = RecoveredWeights.open(run.folder, plan_id, recovery).record
        if record.shared:
            _shared(run, record)
    except RunError as error:
        logger.warning("%s cannot be used: %s", variant.plan_id, error)
        return None
    return variant


def best_variant(run: RunFacts, plan_id: str) -> Evaluation:
    """Return that of a plan and its variants which is nearest to the dense model on fresh text.

    Those count whose weights are there, and the plan itself where it was measured; one without
    variants is best as it was searched.

    Raises:
        PlanError: If the run has no such plan.
    """
    searched = find_variant(run, plan_id)
    there = [variant_there(run, plan_id, recovery) for recovery in searched.recovered]
    known = [each for each in (searched, *there) if each is not None and each.fresh]
    return min(known, key=lambda each: each.fresh["kl"].value, default=searched)


def find_variant(run: RunFacts, name: str) -> Evaluation:
    """Return the plan of a user's name of it, which has the recovery that the name says.

    Raises:
        PlanError: If the run has no such plan, or no such variant of it.
    """
    plan_id, recovery = plan_and_recovery(name)
    evaluation = run.find_plan(plan_id)
    if evaluation is None:
        raise PlanError(
            f"a plan must be named by its id in this run, got {quoted(name)}; `planner front` "
            "lists the ids"
        )
    if recovery is not None and evaluation.variant(recovery) is None:
        came_to = evaluation.recovered.get(recovery)
        why = f": {came_to.failure}" if came_to is not None else ""
        raise PlanError(
            f"plan {plan_id} must have weights recovered by {recovery}, and it has none{why}; "
            f"`{command_of(plan_id, recovery)}` makes them"
        )
    return evaluation


def check_origin(record: RecoveryRecord, prepared: PreparedModel) -> None:
    """Refuse recovered weights of another model or text than a run's.

    Raises:
        RunError: If they are.
    """
    if record.origin != origin_of(prepared):
        raise RunError(
            f"recovered weights must be of the run's own model and text, and those of plan "
            f"{record.plan_id} are of others; recover it again"
        )


def origin_of(prepared: PreparedModel) -> str:
    """Return what identifies the model and the text that weights are recovered with."""
    fingerprint = prepared.dense.loaded.identity.fingerprint
    return f"{fingerprint} {text_digest(prepared.calibration)}"


@dataclass(frozen=True, kw_only=True)
class VariantScorer:
    """Scores cut plans on the texts of a run as its plans are scored: at the same positions."""

    prepared: PreparedModel
    settings: SearchSettings
    """Of the run."""
    progress: Progress = NO_PROGRESS

    def scores(self, plan: CutPlan) -> dict[str, Mapping[str, Measurement]]:
        """Return the quality of a plan by text: ``search``, ``fresh`` and ``holdout``."""
        every = Fidelity(metrics=tuple(QUALITY))
        scores: dict[str, Mapping[str, Measurement]] = {"search": self.searched(plan)}
        for text in RESCORE_SPLITS:
            scores[text] = self.quality(plan, text, every)
        return scores

    def searched(self, plan: CutPlan) -> Mapping[str, Measurement]:
        """Return the quality of a plan on the search text, by the metrics of a search."""
        positions, seed = self.settings.positions, self.settings.seed
        fidelity = Fidelity(metrics=SEARCH_METRICS, positions=positions, seed=seed)
        return self.quality(plan, "search", fidelity)

    def fresh_kl(self, plan: CutPlan) -> float:
        """Return the KL of a plan on fresh text."""
        return self.quality(plan, "fresh", Fidelity(metrics=("kl",)))["kl"].value

    def quality(self, plan: CutPlan, text: str, fidelity: Fidelity) -> Mapping[str, Measurement]:
        """Return the quality of a plan on one text."""
        self.progress.stage(f"scoring recovered weights on {_TEXTS[text]} text")
        windows = getattr(self.prepared.calibration, text)
        backbone = self.prepared.sorted_model.structure.backbone
        score = score_layers(
            backbone, plan.scored_layer, windows, fidelity, self.progress, plan.ends
        )
        return score.quality


def record_recovery(
    run: RunStore,
    plan: CutPlan,
    staged: StagedWeights,
    record: RecoveryRecord,
    progress: Progress = NO_PROGRESS,
) -> Recovered:
    """Score recovered weights as plans are scored, and keep them with their scores.

    Args:
        run: The run.
        plan: That was recovered.
        staged: The weights.
        record: How they were made.
        progress: Receives stages and progress.

    Returns:
        What was recorded; with a `failure` if the weights cannot be scored, which are not kept.
    """
    recovered = replace(plan, recovered=staged.completed(record))
    scorer = VariantScorer(prepared=plan.prepared, settings=run.settings, progress=progress)
    scores = scorer.scores(recovered)
    if not all(math.isfinite(m.value) for of_one in scores.values() for m in of_one.values()):
        return record_failure(run, record, "its logits hold NaN or infinity")
    staged.publish()
    came_to = Recovered(
        search=scores["search"],
        fresh=scores["fresh"],
        holdout=scores["holdout"],
        tokens=record.tokens,
        seconds=record.seconds,
    )
    run.record_recovery(record.plan_id, record.recovery, came_to)
    plans = with_variants(front(run.landed(), run.cost_names))
    save_front(front_frame(plans, run.dense), run.folder)
    return came_to


def record_failure(run: RunStore, record: RecoveryRecord, failure: str) -> Recovered:
    """Record that a recovery gave no weights that are worth keeping; earlier ones are deleted.

    Args:
        run: The run.
        record: How they were made.
        failure: Why they are not kept, in words.
    """
    came_to = Recovered(tokens=record.tokens, seconds=record.seconds, failure=failure)
    run.record_recovery(record.plan_id, record.recovery, came_to)
    discard_weights(recovered_folder(run.folder, record.plan_id, record.recovery))
    return came_to
