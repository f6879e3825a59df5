"""Healing an export: its weights are trained, and written and proved like any other export."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluators.runtime.device import pick_device
from planner.export.cards.card import write_card
from planner.export.cards.manifest import Manifest, Quality, describe_files
from planner.export.healing.healed_folder import HealedFolder
from planner.export.healing.patient import Patient
from planner.export.pipeline import Job, Staged, export_proved
from planner.export.reference import reference_of
from planner.export.service import service_of
from planner.export.staging import check_vacant
from planner.preparation.calibration import text_digest
from planner.recovery.healing.curve import LearningCurve
from planner.recovery.healing.heal_run import Healed, points_of
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.pupil import enrol, train
from planner.recovery.recovery_record import RecoveryRecord, recovery_note
from planner.runs.environment import describe_environment
from planner.runs.records import Recovered, plan_and_recovery, variant_name
from planner.settings.heal import HealSettings
from planner.targets.hf.hf_target import HfTarget
from planner.targets.hf.loaded_folder import load_folder, tensor_bytes
from planner.targets.target import Target, Written
from search_spaces.atomic_files import make_folder
from search_spaces.progress import Progress
from search_spaces.space.configuration import dense_configurations
from search_spaces.structure.backbone import Backbone

logger = logging.getLogger(__name__)


def heal_export(folder: Path, settings: HealSettings, out: Path, progress: Progress) -> Healed:
    """Train an export end to end, and write what comes of it as an export if that helped.

    Args:
        folder: Of an export for transformers.
        settings: What is trained, and how.
        out: The folder to make.
        progress: Receives stages and progress.

    Raises:
        ModelError: If the folder is no such export, its dense model is not at hand or another one
            now, or it cannot be differentiated.
        DataError: If the text cannot be used.
        OutputError: If the folder cannot be made.
        VerificationError: If what was written does not compute what was trained.
    """
    check_vacant(out, str(folder))
    patient = Patient.admitted(folder, settings, progress)
    student = load_folder(folder, dtype=torch.float32)
    nn.Module.to(student, pick_device(settings.device))
    before = patient.scores(Backbone(student))
    fixed = _matrices(student) if patient.has_number_formats else set()
    pupil = enrol(student, patient.teacher, patient.text.fresh, patient.settings, fixed=fixed)
    mark = {"plan": patient.manifest.plan_id, "settings": patient.settings.mark()}
    make_folder(out.parent)
    checkpoint = CheckpointFile(out.with_name(f"{out.name}.healing.safetensors"), mark)
    curve = train(pupil, patient.words, patient.settings, checkpoint, progress)
    result = Healed(begun_with=str(folder), curve=curve, before=before)
    if curve.helped:
        result = _written(patient, pupil.part.weights(), result, out, progress)
    checkpoint.discard()
    return result


def _matrices(model: nn.Module) -> set[str]:
    """Return the names of all matrices; an export does not say which of them are of integers."""
    return {name for name, parameter in model.named_parameters() if parameter.ndim > 1}


def _written(
    patient: Patient, weights: Mapping[str, Tensor], result: Healed, out: Path, progress: Progress
) -> Healed:
    """Write trained weights in the place of an export's, prove them, and describe them.

    Nothing is written if they are no better once they are rounded.
    """
    healed = HealedFolder(patient.folder, weights)
    last = result.curve.looks[-1]
    scores = patient.scores(Backbone(healed.model))
    if not (kl := scores["fresh"]["kl"].value) < result.before["fresh"]["kl"].value:
        logger.warning("it did not help: rounded as it is stored, KL on fresh text is %.4g", kl)
        return result
    after = Recovered(
        fresh=scores["fresh"],
        holdout=scores["holdout"],
        tokens=last.tokens,
        seconds=last.seconds,
    )

    @torch.inference_mode()
    def follow(tokens: Tensor) -> Tensor:
        logits: Tensor = healed.model(tokens, use_cache=False).logits
        return logits

    def write(_: Target, folder: Path) -> Written:
        healed.write(folder)
        return _told(patient.manifest)

    def describe(staged: Staged) -> tuple[str, str]:
        manifest = _described(patient, staged, after, result.curve, progress)
        return write_card(manifest), manifest.model_dump_json(indent=1) + "\n"

    job = Job(
        target=HfTarget(),
        write=write,
        weight_bytes=tensor_bytes(patient.folder),
        reference=reference_of(follow, healed.model),
        follow=follow,
        threads=torch.get_num_threads(),
    )
    export_proved(job, out, describe, progress)
    return replace(result, after=after)


def _told(manifest: Manifest) -> Written:
    """Return what those must know who load the export: what holds of it as it was."""
    return Written(
        loading=manifest.loading,
        requires=manifest.requires,
        needs_remote_code=manifest.needs_remote_code,
        tokenizer_needs_remote_code=manifest.tokenizer_needs_remote_code,
        experts=manifest.experts,
    )


def _described(
    patient: Patient, staged: Staged, after: Recovered, curve: LearningCurve, progress: Progress
) -> Manifest:
    """Measure a healed export as any other, and return what is told of it."""
    progress.stage("measuring it in torch")
    dense, settings = patient.dense, patient.settings
    service = service_of(
        HfTarget(),
        staged,
        dense,
        dense_configurations(dense.structure.components),  # for a prediction, and there is none
        patient.search_settings,
        patient.text.holdout.numpy(),
    )
    plan_id, _ = plan_and_recovery(patient.manifest.plan_id)
    record = RecoveryRecord(
        plan_id=plan_id,
        recovery="heal",
        origin=f"{dense.loaded.identity.fingerprint} {text_digest(patient.text)}",
        settings=settings.model_dump(mode="json"),
        tokens=after.tokens,
        seconds=after.seconds,
        curve=points_of(curve),
    )
    return patient.manifest.model_copy(
        update={
            "plan_id": variant_name(plan_id, record.recovery),
            "notes": [*patient.manifest.notes, recovery_note(record)],
            "search": {},
            "holdout": Quality.of_all(after.holdout),
            "recovery": record,
            "logit_gap": staged.proof.logit_gap,
            "cache_gap": staged.proof.cache_gap,
            "logit_gap_allowed": staged.proof.allowed,
            "written_tokens": staged.proof.written,
            "service": service,
            "files": describe_files(staged.folder),
            "environment": describe_environment(device=settings.device, seed=settings.seed),
        }
    )
