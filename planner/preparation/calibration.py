"""The calibration text of a run: drawn once, and stored in its folder."""

import zipfile
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from evaluators.data.model_samples import from_model
from evaluators.data.windows import Calibration, TextSource, Windows, from_text
from planner.preparation.dense_model import DenseModel
from planner.runs.folder import CALIBRATION_FILE
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import replacing
from search_spaces.errors import RunError, SettingsError
from search_spaces.progress import Progress
from search_spaces.structure.backbone import position_count


def calibrate(
    dense: DenseModel, settings: SearchSettings, folder: Path, progress: Progress
) -> Calibration:
    """Return the tokens of a run, drawn now unless its folder holds them.

    Raises:
        DataError: If the text cannot be used.
        SettingsError: If windows are longer than the model reads, or a streamed model would have
            to write the text.
        RunError: If the file in the folder is damaged.
    """
    check_window(dense.loaded.model, settings.window_tokens)
    path = folder / CALIBRATION_FILE
    if path.is_file():
        return saved_calibration(folder)
    windows = Windows(
        search=settings.search_windows,
        fresh=settings.fresh_windows,
        holdout=settings.holdout_windows,
        tokens=settings.window_tokens,
        statistics=settings.calibration_windows,
    )
    if settings.data is None:
        if dense.structure.backbone.streamed:
            raise SettingsError(
                "`data` must be given for a model that is streamed from disk, got none: writing "
                "text would read all its weights for each token; set `--data`"
            )
        progress.stage("sampling calibration text from the model")
        calibration = from_model(
            dense.loaded.model, windows, seed=settings.seed, progress=progress
        )
    else:
        progress.stage(f"reading {settings.data}")
        source = TextSource(
            data=settings.data,
            holdout=settings.holdout,
            split=settings.split,
            column=settings.column,
        )
        rng = np.random.default_rng(settings.seed)
        calibration = from_text(source, dense.loaded.tokenizer, windows, rng=rng)
    with replacing(path) as temporary:
        calibration.save(temporary)
    return calibration


def saved_calibration(folder: Path) -> Calibration:
    """Return the tokens that the folder of a run holds.

    Raises:
        RunError: If they are damaged or missing.
    """
    path = folder / CALIBRATION_FILE
    try:
        return Calibration.load(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{path}` must hold the run's tokens, and it is damaged: {error}; "
            "remove it and use --resume, or search again into another --out"
        ) from error


def check_window(model: PreTrainedModel, tokens: int) -> None:
    """Refuse windows that are longer than the model reads.

    Raises:
        SettingsError: If they are.
    """
    longest = position_count(model)
    if longest is not None and tokens > longest:
        raise SettingsError(
            f"`window_tokens` must be at most the {longest} positions of the model, got {tokens}; "
            f"set `--window_tokens {longest}` or lower"
        )
