"""Exporting a plan: cut, write beside the final name, prove, then rename."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.costs.cost_model import CostModel
from evaluators.costs.latency import predict
from evaluators.latency.latency_table import Device
from evaluators.latency.measure import measure_latencies
from evaluators.metric import Measurement
from evaluators.runtime.allocator import release_pages
from evaluators.runtime.device import pick_device
from planner.export.card import write_card
from planner.export.hf.folder import CutModel, OrderedWeights, cut_model, write_model
from planner.export.manifest import Manifest, Prediction, Quality, describe_files
from planner.export.proof import logits_of, proof_tokens, prove, reload, scored_logits
from planner.export.staging import check_vacant, scratch_beside, writing_weights
from planner.preparation.dense_model import DenseModel, arithmetic_of, open_model
from planner.preparation.latency_tables import read_table, workload
from planner.preparation.prepare import prepare, run_space
from planner.preparation.prepared_model import PreparedModel
from planner.runs.environment import describe_environment
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.settings.search import SearchSettings
from search_spaces.errors import ModelError, PlanError, RunError, VerificationError
from search_spaces.progress import NoProgress, Progress
from search_spaces.space.configuration import Configurations, unit_counts
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_options
from search_spaces.surgery.sort import sort_units_


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a run measured of a plan; nothing for a plan from a file."""

    calibration: Mapping[str, Measurement] = field(default_factory=dict)
    holdout: Mapping[str, Measurement] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Altered:
    """A candidate whose weights are not all the dense model's own."""

    prepared: PreparedModel
    """Prepared as its search was; sorted."""
    configurations: Configurations
    """``(components,)``"""

    @torch.inference_mode()
    def read(self, tokens: Tensor) -> tuple[Tensor, list[OrderedWeights]]:
        """Give its logits as they were scored, and its levels; the model is unsorted again."""
        structure, space = self.prepared.dense.structure, self.prepared.space
        logits = logits_of(structure, self.configurations, tokens, self.prepared.layer_builder)
        levels = [
            (order, self.prepared.layer_builder.level(position, int(configuration)))
            for position, (order, configuration) in enumerate(
                zip(space.orders, self.configurations, strict=True)
            )
        ]
        sort_units_(structure, space.orders.inverse())
        return logits, levels


def export_from_run(
    run: RunStore, plan: str, out: Path, *, progress: Progress | None = None
) -> Path:
    """Export a plan of a run, or a plan file of the run's model.

    Args:
        run: The run.
        plan: A plan's id, or the path of a plan file.
        out: The folder to make.
        progress: Told of progress.

    Returns:
        The folder, as a client would load it.

    Raises:
        PlanError: Where the plan is unknown, malformed or another model's.
        OutputError: Where the folder exists or cannot be written.
        VerificationError: Where the export does not compute what was scored.
        LatencyError: Where the run's latency table is another device's.
    """
    progress = progress or NoProgress()
    check_vacant(out)
    chosen = Plan.load(Path(plan)) if plan.endswith(".json") else None
    evaluation = None if chosen else _find(run, plan)
    settings = _for_export(run.settings)
    dense = open_model(settings, progress)
    run.check_model(dense.loaded.identity)
    table = read_table(dense, run.settings, run.folder)
    if table is not None:
        dense = replace(dense, costs=dense.costs.timed(table))
    scores = Scores()
    if evaluation is not None:
        scores = Scores(calibration=evaluation.quality, holdout=evaluation.holdout)
        chosen = _plan_of(run, dense, settings, evaluation)
    assert chosen is not None
    chosen.check_model(dense.loaded.identity)
    chosen.kept_units(dense.structure.components)  # refused before anything long begins
    _check_fits(dense, run.settings)
    altered = None
    if chosen.weights_digest:
        remake = run.arithmetic == arithmetic_of(dense)
        prepared = prepare(dense, settings, run.folder, progress, remake=remake)
        altered = Altered(
            prepared=prepared, configurations=prepared.space.configurations_of(chosen)
        )
    return _export(dense, chosen, altered, scores, out, run.settings, progress)


def _check_fits(dense: DenseModel, settings: SearchSettings) -> None:
    if dense.structure.backbone.streamed:
        raise ModelError(
            "a model must fit into memory whole, in float32, to be exported and proved, and "
            f"`{settings.model}` does not; copy the run to a machine with more and export there"
        )


def _plan_of(
    run: RunStore, dense: DenseModel, settings: SearchSettings, evaluation: Evaluation
) -> Plan:
    """Give the plan that was scored.

    Raises:
        RunError: Where the run's folder holds another ranking or text.
    """
    space = run_space(dense, settings, run.folder)
    plan = space.plan(space.repaired(np.array([evaluation.genome]))[0])
    if plan.plan_id != evaluation.plan_id:
        raise RunError(
            f"`{run.folder}` must hold the ranking and text that its plans were scored with, "
            f"and plan {evaluation.plan_id} comes out as {plan.plan_id}; search again into "
            "another --out"
        )
    return plan


def export_from_model(
    settings: SearchSettings, plan: Path, out: Path, *, progress: Progress | None = None
) -> Path:
    """Export a plan file with the model that it was made for, without a run.

    Raises:
        PlanError: Where the plan is malformed or another model's.
        OutputError: Where the folder exists or cannot be written.
    """
    progress = progress or NoProgress()
    check_vacant(out)
    loaded = Plan.load(plan)
    if loaded.weights_digest:
        raise PlanError(
            f"`{plan}` keeps weights made from a run's text ({loaded.weights_digest}), which "
            "the model alone does not give; export it from that run, `planner export RUN --plan`"
        )
    dense = open_model(_for_export(settings), progress)
    return _export(dense, loaded, None, Scores(), out, settings, progress)


def _for_export(settings: SearchSettings) -> SearchSettings:
    """Compute in float32, which holds every narrower weight, so that only sums round."""
    whole = {"offload": "auto" if settings.offload == "always" else settings.offload}
    return settings.model_copy(update={"dtype": "float32", "device": "cpu", **whole})


def _find(run: RunStore, plan_id: str) -> Evaluation:
    for evaluation in run.evaluations():
        if evaluation.plan_id == plan_id:
            return evaluation
    raise PlanError(
        f"`--plan` must be the id of a plan of this run or a .json file, got `{plan_id}`; "
        f"`planner front {run.folder}` lists the ids"
    )


def _export(  # noqa: PLR0913, PLR0917  (all that an export is made from)
    dense: DenseModel,
    plan: Plan,
    altered: Altered | None,
    scores: Scores,
    out: Path,
    settings: SearchSettings,
    progress: Progress,
) -> Path:
    plan.check_model(dense.loaded.identity)
    _check_fits(dense, settings)
    progress.stage("cutting")
    tokens = proof_tokens(dense.loaded.model)
    expected, levels = altered.read(tokens) if altered else (None, ())
    pruned = cut_model(dense.structure, plan, levels)
    with scratch_beside(out, _weight_bytes(pruned, dense)) as scratch:
        folder = scratch / out.name
        with writing_weights(out):
            folder.mkdir()
            write_model(folder, pruned, dense.loaded)
            (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        release_pages()
        progress.stage("proving that it computes what was scored")
        exported = reload(folder)
        if expected is None:
            expected = scored_logits(dense.structure, plan, tokens)
        proof = prove(exported, expected, tokens)
        progress.stage("measuring its latency")
        configurations = (
            altered.configurations if altered else plan_configurations(dense.structure, plan)
        )
        if altered is None:
            dense = _with_costs_of(dense, plan, settings)
        timing = _time(dense, exported, configurations, settings)
        manifest = Manifest(
            plan_id=plan.plan_id,
            source=settings.model,
            model=plan.model,
            needs_remote_code=not pruned.is_stock,
            experts=pruned.experts,
            costs=_exact_costs(dense, configurations, pruned, folder),
            dense_costs=dict(dense.costs.dense()),
            calibration=_qualities(scores.calibration),
            holdout=_qualities(scores.holdout),
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
            folder.rename(out)
    release_pages()
    return out


def _qualities(measured: Mapping[str, Measurement]) -> dict[str, Quality]:
    return {
        name: Quality(value=m.value, standard_error=m.standard_error)
        for name, m in measured.items()
    }


def _time(
    dense: DenseModel,
    exported: PreTrainedModel,
    configurations: Configurations,
    settings: SearchSettings,
) -> dict[str, Any]:
    """Measure both models end to end, in place and dtype of the run's table if there is one.

    Returns:
        What the manifest says of it.
    """
    models: dict[str, Any] = {"dense": dense.loaded.model, "pruned": exported}
    # a stock class would run experts in another way than the dense model does here
    exported.set_experts_implementation(dense.loaded.model.config._experts_implementation)
    table = dense.costs.table
    for model in models.values():
        if table is not None:  # both are proved by now, and needed for nothing else
            model.to(
                device=pick_device(settings.device), dtype=getattr(torch, table.setting.dtype)
            )
    asked = workload(settings).fitted(exported)
    latency = measure_latencies(models, asked)
    prediction = None
    if table is not None:
        widths = unit_counts(dense.structure.components)
        both = np.stack([widths, configurations])
        promised = predict(dense.structure, dense.costs.block_options, table, both)
        predicted = dict(zip(models, promised, strict=True))
        prediction = Prediction.judged(predicted, latency, asked)
    return {
        "workload": asked,
        "latency_dtype": str(exported.dtype).removeprefix("torch."),
        "latency_device": Device.here(exported.device).name,
        "latency": latency,
        "prediction": prediction,
    }


def _with_costs_of(dense: DenseModel, plan: Plan, settings: SearchSettings) -> DenseModel:
    """Give the dense model with costs of the plan's own forms, whatever was searched."""
    block_options, known = plan_options(dense.structure, plan), dense.costs
    if all(len(own) == 1 for own in block_options):
        return dense
    costs = CostModel(
        dense.structure,
        stored_dtype=dense.loaded.stored_dtype,
        context=settings.window_tokens,
        block_options=block_options,
    )
    return replace(dense, costs=costs if known.table is None else costs.timed(known.table))


def _exact_costs(
    dense: DenseModel, configurations: Configurations, pruned: CutModel, folder: Path
) -> dict[str, float]:
    """Give the plan's costs, proved against the tensors that were written.

    Raises:
        VerificationError: Where the cost model and the files disagree.
    """
    costs = {
        name: float(cost[0]) for name, cost in dense.costs.costs(configurations[None]).items()
    }
    params = sum(weight.numel() for weight in pruned.params)
    written = _tensor_bytes(folder)
    if (costs["params"], costs["size"]) != (params, written):
        raise VerificationError(
            f"an export must cost what was promised, {costs['params']:.0f} parameters and "
            f"{costs['size']:.0f} bytes, got {params} and {written}; please report this model"
        )
    nonzero = sum(int(weight.count_nonzero()) for weight in pruned.params)
    if nonzero > costs["nonzero"]:
        raise VerificationError(
            f"an export must hold at most the {costs['nonzero']:.0f} non-zero weights that were "
            f"promised, got {nonzero}; please report this model"
        )
    return costs


def _tensor_bytes(folder: Path) -> int:
    """Count the bytes of tensor data in safetensors files, without their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        total += path.stat().st_size - 8 - header
    return total


def _weight_bytes(pruned: CutModel, dense: DenseModel) -> int:
    itemsize = dense.loaded.stored_dtype.itemsize
    return sum(weight.numel() for weight in pruned.weights.values()) * itemsize
