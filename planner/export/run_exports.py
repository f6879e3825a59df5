"""Opening a run, or a model alone, to export plans from it."""

import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.export.cards.card_parts import OWN_TEXT
from planner.export.exports import Exports, Scores
from planner.export.staging import check_vacant
from planner.preparation.calibration import (
    check_saved_text,
    saved_calibration,
    warn_of_changed_text,
)
from planner.preparation.dense_model import DenseModel, as_begun, open_model
from planner.preparation.latency_tables import read_table
from planner.preparation.prepare import prepare, run_space
from planner.preparation.space_file import restore_space
from planner.recovery.recording import find_variant, load_recovered
from planner.runs.folder import CALIBRATION_FILE
from planner.runs.records import Evaluation, plan_and_recovery
from planner.runs.run_store import RunStore
from planner.settings.search import SearchSettings
from planner.targets.target_names import TargetChoice
from search_spaces.errors import PlanError, RunError, quoted
from search_spaces.models.identity import Verify
from search_spaces.paths import existing_path
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.space.plan import Plan

logger = logging.getLogger(__name__)

HF = TargetChoice(name="hf")


class RunExports:
    """Exports plans of a run; its model is opened once.

    Args:
        run: The run.
        plans: Ids of its plans, names of variants such as ``a1b2c3d4e5+refit``, or paths of plan
            files, to be exported later.
        trust_remote_code: Run Python code that comes with the model, whatever the run did.
        verify: How the model's weights are compared with the run's.
        progress: Receives stages and progress.

    Raises:
        PlanError: If a plan is unknown or malformed.
        ModelError: If the model cannot be opened, or is another one now.
        LatencyError: If the run's latency table is another device's.
    """

    def __init__(
        self,
        run: RunStore,
        plans: Sequence[str],
        *,
        trust_remote_code: bool = False,
        verify: Verify = "sample",
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._run = run
        self._evaluations = {p: _find(run, p) for p in plans if not names_file(p)}
        self._recovered = [p for p in self._evaluations if plan_and_recovery(p)[1] is not None]
        files = {p: Plan.load(Path(p)) for p in plans if names_file(p)}
        settings = run.settings.model_copy(
            update={"trust_remote_code": trust_remote_code, "verify": verify}
        )
        settings = as_begun(settings, run.metadata.arithmetic)
        dense = open_model(_in_float32(settings), progress)
        run.check_model(dense.loaded.identity)
        check_saved_text(run)
        warn_of_changed_text(run)
        dense = self._with_table(dense, settings)
        restore_space(run, dense)
        self._plans = files | {
            name: _stored_plan(run, plan_and_recovery(name)[0]) or _plan_of(run, dense, evaluation)
            for name, evaluation in self._evaluations.items()
        }
        for plan in self._plans.values():
            plan.check_model(dense.loaded.identity)
            plan.kept_units(dense.structure.components)  # refused before anything long begins
        prepared = None
        if self._recovered or any(plan.weights_digest for plan in self._plans.values()):
            prepared = prepare(dense, settings, run.folder, progress, scored_in=run.arithmetic)
        self._prepared = prepared
        self._exports = Exports(
            dense=dense,
            settings=settings,
            progress=progress,
            prepared=prepared,
            **_holdout(run),
        )

    def _with_table(self, dense: DenseModel, settings: SearchSettings) -> DenseModel:
        """Return the model with the costs of the run's latency table, if it has one."""
        table = read_table(dense, settings, self._run.folder)
        if table is None:
            return dense
        if self._run.metadata.latency_digest:
            self._run.check_latency(table.digest)
        return replace(dense, costs=dense.costs.timed(table))

    def export(self, plan: str, out: Path, choice: TargetChoice = HF) -> Path:
        """Export one of the plans, as `Exports.export` does.

        Args:
            plan: As it was named.
            out: The folder to make.
            choice: What kind of export.
        """
        check_vacant(out, self._run.settings.model)
        recovered = None
        if plan in self._recovered:
            assert self._prepared is not None, "recovered weights come with their model"
            recovered = load_recovered(self._run, self._prepared, plan)
        scores = self._scores(plan)
        return self._exports.export(self._plans[plan], out, choice, scores, recovered)

    def _scores(self, plan: str) -> Scores:
        evaluation, settings = self._evaluations.get(plan), self._run.settings
        if evaluation is None:
            return Scores()
        text = settings.data or f"{OWN_TEXT}, seed {settings.seed}"
        options = {"split": settings.split, "column": settings.column}
        if settings.holdout is not None:
            options["holdout"] = settings.holdout
        return Scores(
            search=evaluation.quality,
            holdout=evaluation.holdout,
            text=text,
            text_options=options if settings.data else {},
        )


def export_from_run(  # noqa: PLR0913  (what a command line says)
    run: RunStore,
    plan: str,
    out: Path,
    *,
    choice: TargetChoice = HF,
    trust_remote_code: bool = False,
    verify: Verify = "sample",
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Export a plan of a run, or a plan file of the run's model.

    Args:
        run: The run.
        plan: A plan's id, or the path of a plan file.
        out: The folder to make.
        choice: What kind of export.
        trust_remote_code: Run Python code that comes with the model, whatever the run did.
        verify: How the model's weights are compared with the run's.
        progress: Receives stages and progress.

    Returns:
        The folder, as a client would load it.

    Raises:
        PlanError: If the plan is unknown, malformed or another model's.
        OutputError: If the folder exists or cannot be written.
        TargetError: If the target cannot hold the plan.
        VerificationError: If the export does not compute what was scored.
        LatencyError: If the run's latency table is another device's.
    """
    check_vacant(out, run.settings.model)
    exports = RunExports(
        run, [plan], trust_remote_code=trust_remote_code, verify=verify, progress=progress
    )
    return exports.export(plan, out, choice)


def export_from_model(
    settings: SearchSettings,
    plan: Path,
    out: Path,
    *,
    choice: TargetChoice = HF,
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Export a plan file with the model that it was made for, without a run.

    Raises:
        PlanError: If the plan is malformed or another model's.
        OutputError: If the folder exists or cannot be written.
        TargetError: If the target cannot hold the plan.
    """
    check_vacant(out, settings.model)
    loaded = Plan.load(plan)
    if loaded.weights_digest:
        raise PlanError(
            f"{quoted(str(plan))} needs pruned weights from a run's text, which "
            "the model alone does not give; export it from that run, `planner export RUN --plan`"
        )
    if "embedding" in loaded.sites:  # which is a component where there are formats to choose from
        space = replace(settings.space, formats=True)
        settings = settings.model_copy(update={"space": space})
    dense = open_model(_in_float32(settings), progress)
    exports = Exports(dense=dense, settings=settings, progress=progress)
    return exports.export(loaded, out, choice, Scores())


def names_file(plan: str) -> bool:
    """Return whether the user's name of a plan is that of a file, and not an id."""
    return plan.lower().endswith(".json") or os.path.isfile(existing_path(plan))  # noqa: PTH113


def _holdout(run: RunStore) -> dict[str, np.ndarray]:
    """Return the windows of held-out text that a run's folder holds."""
    if not (run.folder / CALIBRATION_FILE).is_file():
        return {}
    return {"holdout": saved_calibration(run.folder).holdout.numpy()}


def _in_float32(settings: SearchSettings) -> SearchSettings:
    """Return settings that load the model in float32, which holds narrower weights exactly."""
    offload = "auto" if settings.offload == "always" else settings.offload
    return settings.model_copy(update={"dtype": "float32", "device": "cpu", "offload": offload})


def _find(run: RunStore, plan_id: str) -> Evaluation:
    if evaluation := run.find_plan(plan_id):
        return evaluation
    if run.find_plan(plan_and_recovery(plan_id)[0]):
        find_variant(run, plan_id)  # says why there is no such variant
    error = PlanError(
        f"`--plan` must be the id of a plan of this run or a .json file, got {quoted(plan_id)}; "
        "list the ids with the `planner front` command beside this"
    )
    error.add_note(shlex.join(["planner", "front", str(run.folder)]))
    raise error


def _stored_plan(run: RunStore, plan_id: str) -> Plan | None:
    """Return a plan as the run holds it in whole, if it does."""
    try:
        return run.stored_plan(plan_id)
    except RunError as damage:
        logger.warning("%s", damage)
        logger.warning("here it is taken from its genome")
        return None


def _plan_of(run: RunStore, dense: DenseModel, evaluation: Evaluation) -> Plan:
    """Return the plan that was scored.

    Raises:
        RunError: If the run's folder holds another order of units, or text.
    """
    space = run_space(dense, run.settings, run.folder)
    run.check_genomes(space.top_levels.tolist())
    plan = space.plan(space.repaired(np.array([evaluation.genome]))[0])
    if plan.plan_id != plan_and_recovery(evaluation.plan_id)[0]:
        raise RunError(
            f"`{run.folder}` must hold the unit order and text that its plans were scored with, "
            f"and plan {evaluation.plan_id} comes out as {plan.plan_id}; search again into "
            "another --out"
        )
    return plan
