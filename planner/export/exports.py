"""Exporting plans of one model: each is read as it was scored, cut, written, proved, described."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from evaluators.costs.cost_model import CostModel
from evaluators.metric import Measurement
from evaluators.runtime.allocator import release_pages
from planner.export.cards.card import write_card
from planner.export.cards.manifest import Manifest, Quality, describe_files
from planner.export.cards.origin import Origin
from planner.export.locate import describe_fault
from planner.export.pipeline import Job, Staged, export_proved
from planner.export.reference import Reference, reference_of, scored
from planner.export.service import served_choice, service_of
from planner.export.weighted_candidate import WeightedCandidate
from planner.preparation.dense_model import DenseModel
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.cut_plan import CutPlan
from planner.recovery.recovery_record import RecoveryRecord, recovery_note
from planner.runs.environment import describe_environment
from planner.runs.records import variant_name
from planner.settings.search import SearchSettings
from planner.targets.cut_layers import CutLayers, cut_layers, logits_of_layers
from planner.targets.hf.belongings import files_of
from planner.targets.holding import check_holds
from planner.targets.target import Target, Written
from planner.targets.target_names import TargetChoice
from search_spaces.errors import ModelError
from search_spaces.progress import Progress
from search_spaces.space.configuration import Configurations
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_options

logger = logging.getLogger(__name__)

_FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a run measured of a plan; nothing for a plan from a file."""

    search: Mapping[str, Measurement] = field(default_factory=dict)
    holdout: Mapping[str, Measurement] = field(default_factory=dict)
    text: str = ""
    """What was searched on."""
    text_options: Mapping[str, str] = field(default_factory=dict)
    """How that was read."""


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A plan as it was scored, and as it is written."""

    plan: Plan
    reference: Reference
    cut: CutLayers
    configurations: Configurations
    dense: DenseModel
    """With costs for its options."""
    notes: tuple[str, ...] = ()
    recovery: RecoveryRecord | None = None
    """How its weights were recovered."""

    @property
    def name(self) -> str:
        """What users call it: its plan, or a variant of that."""
        recovery = None if self.recovery is None else self.recovery.recovery
        return variant_name(self.plan.plan_id, recovery)


@dataclass(frozen=True, kw_only=True)
class Exports:
    """Exports plans of one dense model, one after another."""

    dense: DenseModel
    """In float32 on the CPU, which holds narrower weights exactly."""
    settings: SearchSettings
    progress: Progress
    prepared: PreparedModel | None = None
    """Makes the weights of plans whose weights are no slices; `None`: there are no such plans."""
    holdout: NDArray[np.int_] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int_))
    """Token ids ``(windows, tokens)`` that perplexity is reported on; there may be none."""

    def export(
        self,
        plan: Plan,
        out: Path,
        choice: TargetChoice,
        scores: Scores,
        recovered: CutPlan | None = None,
    ) -> Path:
        """Export a plan.

        Args:
            plan: Of this model.
            out: The folder to make.
            choice: What kind of export.
            scores: What is told of the plan besides what is measured here.
            recovered: The plan with recovered weights; `None`: they are as searched.

        Returns:
            The folder.

        Raises:
            MissingExtraError: If a package is missing that this takes.
            PlanError: If the plan is another model's.
            TargetError: If the target cannot hold the plan.
            OutputError: If the folder cannot be written.
            VerificationError: If the export does not compute what was scored.
        """
        dense = self.dense
        plan.check_model(dense.loaded.identity)
        plan.kept_units(dense.structure.components)  # refused before anything long begins
        _check_memory(dense, self.settings)
        target = served_choice(choice, dense, self.settings).make()
        target.check_installed()
        holds = target.holds(dense.structure, dense.loaded.tokenizer)
        check_holds(target.name, holds, dense.structure.components, plan)
        self.progress.stage("cutting")
        candidate = self._read(plan) if recovered is None else self._read_recovered(recovered)
        with self._own_order():
            self._export(candidate, target, out, scores)
        release_pages()
        return out

    def _read(self, plan: Plan) -> _Candidate:
        """Read a plan as it was scored, and cut the model down to it."""
        dense, prepared = self.dense, self.prepared
        if plan.weights_digest:
            assert prepared is not None, "a plan with pruned weights comes with what makes them"
            configurations = prepared.space.configurations_of(plan)
            candidate = WeightedCandidate(prepared=prepared, configurations=configurations)
            reference, weights = candidate.read()
            notes = candidate.notes
            with self._own_order():
                cut = cut_layers(dense.structure, plan, weights)
        else:
            with self._own_order():
                with scored(dense.structure, plan) as score:
                    reference = reference_of(score, dense.loaded.model)
                cut = cut_layers(dense.structure, plan)
            dense, notes = _with_costs_of(dense, plan, self.settings), ()
            configurations = plan_configurations(dense.structure, plan)
        return _Candidate(
            plan=plan,
            reference=reference,
            cut=cut,
            configurations=configurations,
            dense=dense,
            notes=notes,
        )

    def _read_recovered(self, plan: CutPlan) -> _Candidate:
        """Read a plan with recovered weights, which it was scored with layer by layer."""
        cut = plan.layers()
        reference = reference_of(
            lambda tokens: logits_of_layers(cut.structure, cut.layers, tokens),
            self.dense.loaded.model,
        )
        record = plan.recovered.record if plan.recovered else None
        return _Candidate(
            plan=plan.plan,
            reference=reference,
            cut=cut,
            configurations=plan.configurations,
            dense=self.dense,
            notes=(recovery_note(record),) if record else (),
            recovery=record,
        )

    def _own_order(self) -> AbstractContextManager[object]:
        """Have the model's units in their own order meanwhile."""
        return self.prepared.sorted_model.own_order() if self.prepared else nullcontext()

    def _export(self, candidate: _Candidate, target: Target, out: Path, scores: Scores) -> None:
        dense, loaded = candidate.dense, candidate.dense.loaded
        source = files_of(loaded.source)
        costs = dense.costs.of_one(candidate.configurations)
        as_written = dense.costs.written(candidate.configurations)

        def write(target: Target, folder: Path) -> Written:
            written = target.write(folder, candidate.cut, loaded, source)
            (folder / "plan.json").write_text(candidate.plan.to_json(), encoding="utf-8")
            return written

        def describe(staged: Staged) -> tuple[str, str]:
            target.check_size(
                staged.folder,
                candidate.cut,
                {**costs, "params": as_written["params"]},
                as_written["size"],
            )
            self.progress.stage(f"measuring it in {target.runtime}")
            service = service_of(
                target,
                staged,
                dense,
                candidate.configurations,
                self.settings,
                self.holdout,
            )
            manifest = Manifest(
                plan_id=candidate.name,
                format=target.name,
                source=self.settings.model,
                model=candidate.plan.model,
                origin=Origin.of(self.settings.model, source),
                needs_remote_code=staged.written.needs_remote_code,
                tokenizer_needs_remote_code=staged.written.tokenizer_needs_remote_code,
                requires=staged.written.requires,
                loading=staged.written.loading,
                text=scores.text,
                text_options=dict(scores.text_options),
                recovery=candidate.recovery,
                compensate=str(self.settings.compensate) if candidate.plan.weights_digest else "",
                experts=staged.written.experts,
                notes=[
                    *candidate.plan.notes(str(loaded.stored_dtype).removeprefix("torch.")),
                    *candidate.notes,
                    *staged.written.notes,
                ],
                costs=costs,
                written_size=as_written["size"] if as_written["size"] != costs["size"] else None,
                dense_costs=dict(dense.costs.dense()),
                search=Quality.of_all(scores.search),
                holdout=Quality.of_all(scores.holdout),
                logit_gap=staged.proof.logit_gap,
                cache_gap=staged.proof.cache_gap,
                logit_gap_allowed=staged.proof.allowed,
                written_tokens=staged.proof.written,
                macs_context=self.settings.window_tokens,
                service=service,
                files=describe_files(staged.folder),
                environment=describe_environment(device="cpu", seed=self.settings.seed),
            )
            return write_card(manifest), manifest.model_dump_json(indent=1) + "\n"

        job = Job(
            target=target,
            write=write,
            weight_bytes=self._room(target, as_written),
            reference=candidate.reference,
            follow=partial(logits_of_layers, candidate.cut.structure, candidate.cut.layers),
            threads=torch.get_num_threads(),
            locate=lambda target, scratch: describe_fault(
                target, candidate.cut, loaded, scratch, candidate.reference
            ),
        )
        export_proved(job, out, describe, self.progress)

    def _room(self, target: Target, written: Mapping[str, float]) -> int:
        """Return about the most bytes that an export takes of the disk at once.

        For `transformers` these are its tensors. Other targets write them in float32 too, to be
        proved, and the dense model beside them, to be compared with.
        """
        if target.name == "hf":
            return round(written["size"])
        both = 2 * written["params"] + self.dense.costs.dense()["params"]
        return round(_FLOAT32_BYTES * both)


def _check_memory(dense: DenseModel, settings: SearchSettings) -> None:
    if dense.structure.backbone.streamed:
        raise ModelError(
            "a model must fit into memory whole, in float32, to be exported and proved, and "
            f"`{settings.model}` does not; copy the run to a machine with more and export there"
        )


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
