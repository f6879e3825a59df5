"""Healing an export: its weights are trained, and written and proved like any other export."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from evaluators.data.text_samples import TextSource, Vocabulary, from_text, searched_text
from evaluators.data.windows import Calibration, Windows
from evaluators.metric import Measurement
from evaluators.quality import QUALITY
from evaluators.runtime.device import pick_device
from evaluators.scoring.readout import Readout
from evaluators.scoring.score import estimate
from planner.export.cards.card import write_card
from planner.export.cards.card_parts import OWN_TEXT
from planner.export.cards.manifest import Manifest, Quality, describe_files
from planner.export.healing.healed_folder import HealedFolder
from planner.export.pipeline import MANIFEST, Job, Staged, export_proved
from planner.export.reference import reference_of
from planner.export.service import service_of
from planner.export.staging import check_vacant
from planner.preparation.calibration import text_digest
from planner.preparation.dense_model import DenseModel, open_model
from planner.recovery.healing.curve import LearningCurve
from planner.recovery.healing.heal_run import Healed, fitted_to, points_of, text_to_heal
from planner.recovery.healing.heal_text import HealText
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.pupil import enrol, train
from planner.recovery.recovered_weights import RecoveryRecord, recovery_note
from planner.runs.environment import describe_environment
from planner.runs.records import Recovered, plan_and_recovery, variant_name
from planner.settings.heal import HealSettings
from planner.settings.search import SearchSettings
from planner.targets.hf.hf_target import HfTarget
from planner.targets.hf.loaded_folder import load_folder, tensor_bytes
from planner.targets.target import Target, Written
from search_spaces.errors import DataError, ModelError, quoted
from search_spaces.models.identity import difference
from search_spaces.progress import Progress
from search_spaces.space.configuration import dense_configurations
from search_spaces.structure.backbone import Backbone, position_count

_JUDGED = ("fresh", "holdout")
"""The draws that a healing is judged by."""


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
    patient = _Patient.admitted(folder, settings, progress)
    student = load_folder(folder, dtype=torch.float32).to(pick_device(settings.device))
    before = patient.scores(Backbone(student))
    pupil = enrol(student, patient.teacher, patient.text.fresh, patient.settings)
    mark = {"plan": patient.manifest.plan_id, "settings": patient.settings.mark()}
    checkpoint = CheckpointFile(out.with_name(f"{out.name}.healing.safetensors"), mark)
    curve = train(pupil, patient.words, patient.settings, checkpoint, progress)
    result = Healed(begun_with=str(folder), curve=curve, before=before)
    if curve.helped:
        result = _written(patient, pupil.part.weights(), result, out, progress)
    checkpoint.discard()
    return result


@dataclass(frozen=True, kw_only=True)
class _Patient:
    """An export that is to be healed, its dense model, and text."""

    folder: Path
    manifest: Manifest
    dense: DenseModel
    source: TextSource
    text: Calibration
    """Windows that it is judged by."""
    settings: HealSettings

    @classmethod
    def admitted(cls, folder: Path, settings: HealSettings, progress: Progress) -> "_Patient":
        """Open an export to be healed."""
        manifest = _manifest(folder)
        source = _text_source(manifest, settings)
        dense = _dense(manifest, settings, progress)
        settings = fitted_to(settings, position_count(dense.loaded.model))
        windows = Windows(
            statistics=0,
            fresh=settings.fresh_windows,
            holdout=settings.holdout_windows,
            tokens=settings.window_tokens,
        )
        progress.stage(f"reading {source}")
        vocabulary = Vocabulary.of(dense.loaded.model, dense.loaded.tokenizer)
        rng = np.random.default_rng(settings.seed)
        return cls(
            folder=folder,
            manifest=manifest,
            dense=dense,
            source=source,
            text=from_text(source, vocabulary, windows, rng=rng),
            settings=settings,
        )

    @property
    def teacher(self) -> Backbone:
        return self.dense.structure.backbone

    @property
    def words(self) -> HealText:
        """The text to train on."""
        loaded = self.dense.loaded
        return text_to_heal(
            [searched_text(self.source)],
            self.source.data,
            Vocabulary.of(loaded.model, loaded.tokenizer),
            [self.text.fresh, self.text.holdout],
            self.settings,
        )

    @torch.no_grad()
    def scores(self, student: Backbone) -> dict[str, dict[str, Measurement]]:
        """Measure a small model on fresh and held-out text, as plans are measured."""
        return {name: self._quality(student, getattr(self.text, name)) for name in _JUDGED}

    def _quality(self, student: Backbone, windows: Tensor) -> dict[str, Measurement]:
        parts = []
        every = np.arange(windows.shape[1] - 1)[None]
        for window in windows[:, None]:
            dense, ours = (
                backbone.decoder(
                    input_ids=window.to(backbone.model.device), use_cache=False
                ).last_hidden_state
                for backbone in (self.teacher, student)
            )
            readout = Readout(self.teacher, window.to(dense.device), dense, every, tuple(QUALITY))
            parts += readout.compare([readout.pick(ours.to(dense))])
        return {name: estimate(np.concatenate([part[name] for part in parts])) for name in QUALITY}


def _manifest(folder: Path) -> Manifest:
    """Read what an export says of itself.

    Raises:
        ModelError: If it is none, or not one for transformers.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise ModelError(
            f"healing takes a run, or an export of this version, and {quoted(str(folder))} is "
            "neither; export the plan again, or name the run"
        ) from error
    if manifest.format != "hf":
        raise ModelError(
            f"only exports for transformers can be trained, and {quoted(str(folder))} is "
            f"{manifest.format}; heal the plan in its run, and export that"
        )
    return manifest


def _text_source(manifest: Manifest, settings: HealSettings) -> TextSource:
    """Return the text to heal an export on.

    Raises:
        DataError: If there is none.
    """
    data = settings.data or manifest.text
    if not data or data.startswith(OWN_TEXT):
        raise DataError(
            "healing needs text, and the dense model itself wrote what this export was searched "
            "on; name some with `--data`"
        )
    return TextSource(
        data=data, holdout=settings.holdout, split=settings.split, column=settings.column
    )


def _dense(manifest: Manifest, settings: HealSettings, progress: Progress) -> DenseModel:
    """Open the model that an export was made from.

    Raises:
        ModelError: If it is not at hand, or another one now.
    """
    dense = open_model(_searched(manifest, settings), progress)
    if changed := difference(manifest.model, dense.loaded.identity, "the export"):
        raise ModelError(
            f"an export is healed by the model that it was made from, and {changed}; bring that "
            "model back, or export the plan again"
        )
    return dense


def _searched(manifest: Manifest, settings: HealSettings) -> SearchSettings:
    """Return settings by which a search opens the dense model of an export."""
    return SearchSettings.checked(
        model=manifest.source,
        dtype=settings.dtype,
        device=settings.device,
        verify=settings.verify,
        trust_remote_code=settings.trust_remote_code,
    )


def _written(
    patient: _Patient, weights: Mapping[str, Tensor], result: Healed, out: Path, progress: Progress
) -> Healed:
    """Write trained weights in the place of an export's, prove them, and describe them."""
    healed = HealedFolder(patient.folder, weights)
    last = result.curve.looks[-1]
    scores = patient.scores(Backbone(healed.model))
    after = Recovered(**scores, tokens=last.tokens, seconds=last.seconds)

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
    patient: _Patient, staged: Staged, after: Recovered, curve: LearningCurve, progress: Progress
) -> Manifest:
    """Measure a healed export as any other, and return what is told of it."""
    progress.stage("measuring it in torch")
    dense, settings = patient.dense, patient.settings
    service = service_of(
        HfTarget(),
        staged,
        dense,
        dense_configurations(dense.structure.components),  # for a prediction, and there is none
        _searched(patient.manifest, settings),
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
