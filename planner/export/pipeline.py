"""Exporting a plan: stage, write, load, prove, measure, describe, and only then rename."""

import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from evaluators.costs.cost_model import CostModel
from evaluators.metric import Measurement
from evaluators.runtime.allocator import release_pages
from planner.export.card import write_card
from planner.export.card_parts import OWN_TEXT
from planner.export.manifest import Manifest, Quality, describe_files
from planner.export.origin import Origin
from planner.export.proof import proof_tokens, prove, scored_logits
from planner.export.staging import check_room, check_vacant, writing_weights
from planner.export.timing import timing_of
from planner.export.weighted_candidate import WeightedCandidate
from planner.preparation.calibration import check_saved_text, warn_of_changed_text
from planner.preparation.dense_model import DenseModel, open_model
from planner.preparation.latency_tables import read_table
from planner.preparation.prepare import prepare, run_space
from planner.preparation.space_file import restore_space
from planner.runs.environment import describe_environment
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.settings.search import SearchSettings
from planner.targets.hf.belongings import files_of
from planner.targets.hf.exporter import HuggingFaceExporter, load_export
from planner.targets.hf.tokenizer_files import check_tokenizer
from search_spaces.atomic_files import publish, scratch_beside
from search_spaces.errors import ModelError, PlanError, RunError, quoted
from search_spaces.models.identity import Verify
from search_spaces.paths import existing_path
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_options

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a run measured of a plan; nothing for a plan from a file."""

    search: Mapping[str, Measurement] = field(default_factory=dict)
    holdout: Mapping[str, Measurement] = field(default_factory=dict)
    text: str = ""
    """What was searched on."""


def export_from_run(
    run: RunStore,
    plan: str,
    out: Path,
    *,
    trust_remote_code: bool = False,
    verify: Verify = "sample",
    progress: Progress = NO_PROGRESS,
) -> Path:
    """Export a plan of a run, or a plan file of the run's model.

    Args:
        run: The run.
        plan: A plan's id, or the path of a plan file.
        out: The folder to make.
        trust_remote_code: Run Python code that comes with the model, whatever the run did.
        verify: How the model's weights are compared with the run's.
        progress: Receives stages and progress.

    Returns:
        The folder, as a client would load it.

    Raises:
        PlanError: If the plan is unknown, malformed or another model's.
        OutputError: If the folder exists or cannot be written.
        VerificationError: If the export does not compute what was scored.
        LatencyError: If the run's latency table is another device's.
    """
    check_vacant(out, run.settings.model)
    chosen = Plan.load(Path(plan)) if names_file(plan) else None
    evaluation = None if chosen else _find(run, plan)
    settings = run.settings.model_copy(
        update={"trust_remote_code": trust_remote_code, "verify": verify}
    )
    dense = open_model(_in_float32(settings), progress)
    run.check_model(dense.loaded.identity)
    check_saved_text(run)
    warn_of_changed_text(run)
    table = read_table(dense, settings, run.folder)
    if table is not None:
        if run.metadata.latency_digest:
            run.check_latency(table.digest)
        dense = replace(dense, costs=dense.costs.timed(table))
    restore_space(run, dense)
    scores = Scores()
    if evaluation is not None:
        text = settings.data or f"{OWN_TEXT}, seed {settings.seed}"
        scores = Scores(search=evaluation.quality, holdout=evaluation.holdout, text=text)
        chosen = _stored_plan(run, plan) or _plan_of(run, dense, evaluation)
    assert chosen is not None
    chosen.check_model(dense.loaded.identity)
    chosen.kept_units(dense.structure.components)  # refused before anything long begins
    _check_memory(dense, settings)
    candidate = None
    if chosen.weights_digest:
        prepared = prepare(dense, settings, run.folder, progress, scored_in=run.arithmetic)
        candidate = WeightedCandidate(
            prepared=prepared, configurations=prepared.space.configurations_of(chosen)
        )
    return _export(dense, chosen, candidate, scores, out, settings, progress)


def names_file(plan: str) -> bool:
    """Return whether the user's name of a plan is that of a file, and not an id."""
    return plan.lower().endswith(".json") or os.path.isfile(existing_path(plan))  # noqa: PTH113


def _check_memory(dense: DenseModel, settings: SearchSettings) -> None:
    if dense.structure.backbone.streamed:
        raise ModelError(
            "a model must fit into memory whole, in float32, to be exported and proved, and "
            f"`{settings.model}` does not; copy the run to a machine with more and export there"
        )


def _stored_plan(run: RunStore, plan_id: str) -> Plan | None:
    """Return a plan as the run holds it in whole, if it does."""
    try:
        return run.plan(plan_id)
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
    if plan.plan_id != evaluation.plan_id:
        raise RunError(
            f"`{run.folder}` must hold the unit order and text that its plans were scored with, "
            f"and plan {evaluation.plan_id} comes out as {plan.plan_id}; search again into "
            "another --out"
        )
    return plan


def export_from_model(
    settings: SearchSettings, plan: Path, out: Path, *, progress: Progress = NO_PROGRESS
) -> Path:
    """Export a plan file with the model that it was made for, without a run.

    Raises:
        PlanError: If the plan is malformed or another model's.
        OutputError: If the folder exists or cannot be written.
    """
    check_vacant(out, settings.model)
    loaded = Plan.load(plan)
    if loaded.weights_digest:
        raise PlanError(
            f"{quoted(str(plan))} needs pruned weights from a run's text, which "
            "the model alone does not give; export it from that run, `planner export RUN --plan`"
        )
    dense = open_model(_in_float32(settings), progress)
    return _export(dense, loaded, None, Scores(), out, settings, progress)


def _in_float32(settings: SearchSettings) -> SearchSettings:
    """Return settings that load the model in float32, which holds narrower weights exactly."""
    offload = "auto" if settings.offload == "always" else settings.offload
    return settings.model_copy(update={"dtype": "float32", "device": "cpu", "offload": offload})


def _find(run: RunStore, plan_id: str) -> Evaluation:
    if evaluation := run.find_plan(plan_id):
        return evaluation
    error = PlanError(
        f"`--plan` must be the id of a plan of this run or a .json file, got {quoted(plan_id)}; "
        "list the ids with the `planner front` command beside this"
    )
    error.add_note(shlex.join(["planner", "front", str(run.folder)]))
    raise error


def _export(  # noqa: PLR0913, PLR0917  (all that an export is made from)
    dense: DenseModel,
    plan: Plan,
    candidate: WeightedCandidate | None,
    scores: Scores,
    out: Path,
    settings: SearchSettings,
    progress: Progress,
) -> Path:
    plan.check_model(dense.loaded.identity)
    _check_memory(dense, settings)
    progress.stage("cutting")
    tokens = proof_tokens(dense.loaded.model)
    expected, weights = candidate.read(tokens) if candidate else (None, ())
    exporter = HuggingFaceExporter(dense.loaded, dense.structure, plan, weights)
    check_room(out, exporter.weight_bytes)
    with scratch_beside(out) as scratch:
        folder = scratch / out.name
        with writing_weights(out):
            source = files_of(dense.loaded.source)
            written = exporter.write(folder, source)
            (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        release_pages()
        progress.stage("proving that it computes what was scored")
        exported = load_export(folder)
        check_tokenizer(folder, exported.config, dense.loaded.tokenizer)
        if expected is None:
            expected = scored_logits(dense.structure, plan, tokens)
        proof = prove(exported, expected, tokens)
        progress.stage("measuring its latency")
        if candidate is None:
            dense = _with_costs_of(dense, plan, settings)
            configurations = plan_configurations(dense.structure, plan)
        else:
            configurations = candidate.configurations
        timing = timing_of(exporter, exported, dense, configurations, settings)
        costs = dense.costs.of_one(configurations)
        as_written = dense.costs.written(configurations)
        exporter.check_costs(costs, as_written, folder)
        manifest = Manifest(
            plan_id=plan.plan_id,
            source=settings.model,
            model=plan.model,
            origin=Origin.of(settings.model, source),
            needs_remote_code=not exporter.pruned.is_stock,
            tokenizer_needs_remote_code=written.tokenizer_needs_remote_code,
            requires=written.requires,
            text=scores.text,
            compensate=str(settings.compensate) if candidate else "",
            experts=exporter.pruned.experts,
            notes=[
                *plan.notes(str(dense.loaded.stored_dtype).removeprefix("torch.")),
                *(candidate.notes if candidate else ()),
            ],
            costs=costs,
            written_size=as_written["size"] if as_written["size"] != costs["size"] else None,
            dense_costs=dict(dense.costs.dense()),
            search=Quality.of_all(scores.search),
            holdout=Quality.of_all(scores.holdout),
            logit_gap=proof.logit_gap,
            cache_gap=proof.cache_gap,
            logit_gap_allowed=proof.allowed,
            macs_context=settings.window_tokens,
            threads=torch.get_num_threads(),
            **timing,
            files=describe_files(folder),
            environment=describe_environment(device="cpu", seed=settings.seed),
        )
        with writing_weights(out):
            (folder / "README.md").write_text(write_card(manifest), encoding="utf-8")
            text = manifest.model_dump_json(indent=1) + "\n"
            (folder / "manifest.json").write_text(text, encoding="utf-8")
            publish(folder, out)
    release_pages()
    return out


def _with_costs_of(dense: DenseModel, plan: Plan, settings: SearchSettings) -> DenseModel:
    """Return the dense model with costs for the options of a plan, whatever was searched."""
    block_options, table = plan_options(dense.structure, plan), dense.costs.table
    if all(len(options) == 1 for options in block_options):
        return dense
    costs = CostModel(
        dense.structure,
        stored=dense.loaded.stored,
        context=settings.window_tokens,
        block_options=block_options,
    )
    return replace(dense, costs=costs if table is None else costs.timed(table))
