"""An export that is to be healed: its dense model, and its text, to train on and to judge by."""

import logging
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
from evaluators.scoring.readout import Readout
from evaluators.scoring.score import estimate
from planner.export.cards.card_parts import OWN_TEXT
from planner.export.cards.manifest import Manifest
from planner.export.pipeline import MANIFEST
from planner.preparation.dense_model import DenseModel, open_model
from planner.recovery.healing.heal_text import HealText
from planner.recovery.healing.run_text import fitted_to, text_to_heal
from planner.settings.heal import HealSettings
from planner.settings.places import is_same_place
from planner.settings.search import SearchSettings
from search_spaces.errors import DataError, ModelError, quoted
from search_spaces.models.identity import difference
from search_spaces.progress import Progress
from search_spaces.space.plan import Plan
from search_spaces.structure.backbone import Backbone, position_count

logger = logging.getLogger(__name__)

PLAN_FILE = "plan.json"
"""The plan of an export."""
_JUDGED = ("fresh", "holdout")
"""The draws that a healing is judged by."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """An export that is to be healed, its dense model, and text."""

    folder: Path
    manifest: Manifest
    dense: DenseModel
    source: TextSource
    text: Calibration
    """Windows that it is judged by."""
    settings: HealSettings

    @classmethod
    def admitted(cls, folder: Path, settings: HealSettings, progress: Progress) -> "Patient":
        """Open an export to be healed."""
        manifest = _manifest(folder)
        source = text_source(manifest, settings)
        _warn_of_trained_text(manifest, source)
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
    def search_settings(self) -> SearchSettings:
        """Settings by which a search opens the dense model."""
        return _searched(self.manifest, self.settings)

    @property
    def teacher(self) -> Backbone:
        return self.dense.structure.backbone

    @property
    def has_number_formats(self) -> bool:
        """Whether some matrices were rounded to integers, which training would leave behind."""
        plan = Plan.load(self.folder / PLAN_FILE)
        return any(kept.format for kept in plan.sites.values())

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


def text_source(manifest: Manifest, settings: HealSettings) -> TextSource:
    """Return the text to heal an export on.

    Text that the export was searched on is parted as it was then: all of it may have been fitted
    to but what was held out.

    Raises:
        DataError: If there is none.
    """
    data = settings.data or manifest.text
    if not data or data.startswith(OWN_TEXT):
        raise DataError(
            "healing needs text, and the dense model itself wrote what this export was searched "
            "on; name some with `--data`"
        )
    source = TextSource(
        data=data, holdout=settings.holdout, split=settings.split, column=settings.column
    )
    options = manifest.text_options
    if settings.data is None and options:
        split, column = options.get("split", source.split), options.get("column", source.column)
        source = replace(source, split=split, column=column)
    if settings.holdout is None and is_same_place(data, manifest.text):
        source = replace(source, holdout=options.get("holdout"))
    return source


def _warn_of_trained_text(manifest: Manifest, source: TextSource) -> None:
    """Say if an export is to be judged by text that its weights may have been trained on.

    The run that it is from kept its own held-out text apart from that, and no other.
    """
    trained = manifest.recovery.settings.get("data") if manifest.recovery else None
    if trained and source.holdout is None and is_same_place(source.data, trained):
        logger.warning(
            "the weights of this export were trained on %s before, so that its KL on text held "
            "out of that may be too low; name other text with `--data`, or `--holdout` beside it",
            quoted(str(trained)),
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
