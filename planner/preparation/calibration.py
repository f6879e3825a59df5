"""The calibration text of a run: drawn once, and stored in its folder."""

import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from evaluators.data.model_samples import from_model
from evaluators.data.text_identity import digest_of_text
from evaluators.data.text_samples import TextSource, Vocabulary, from_text
from evaluators.data.windows import DRAWS, Calibration, Windows
from planner.preparation.dense_model import DenseModel
from planner.runs.arrays import damaged_arrays, read_arrays
from planner.runs.folder import CALIBRATION_FILE
from planner.runs.run_facts import RunFacts
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import replacing
from search_spaces.errors import SettingsError, quoted
from search_spaces.models.tensors import digest_of_tensors
from search_spaces.progress import Progress
from search_spaces.structure.backbone import position_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

CALIBRATION_TOKENS = 2**15
"""That all fits are made on unless settings say otherwise, as far as text and time allow."""
_MOST_SECONDS = 300.0
"""For the model to write calibration text, or to read it once, where nobody set a number."""
_MOST_SHARE = 0.25
"""Of `minutes`, for the same."""


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
    windows = windows_of(settings)
    seconds = min(_MOST_SECONDS, _MOST_SHARE * 60 * (settings.minutes or math.inf))
    if settings.data is None:
        if dense.structure.backbone.streamed:
            raise SettingsError(
                "`data` must be given for a model that is streamed from disk, got none: writing "
                "text would read all its weights for each token; set `--data`"
            )
        progress.stage("sampling calibration text from the model")
        calibration = from_model(
            dense.loaded.model, windows, seed=settings.seed, seconds=seconds, progress=progress
        )
    else:
        progress.stage(f"reading {settings.data}")
        source = TextSource(
            data=settings.data,
            holdout=settings.holdout,
            split=settings.split,
            column=settings.column,
        )
        vocabulary = Vocabulary.of(dense.loaded.model, dense.loaded.tokenizer)
        rng = np.random.default_rng(settings.seed)
        drawn = from_text(source, vocabulary, windows, rng=rng)
        calibration = replace(
            _read_within(seconds, dense, drawn, windows), source_digests=_digests(settings)
        )
    _tell_of_shortage(calibration, windows)
    with replacing(path) as temporary:
        calibration.save(temporary)
    return calibration


def windows_of(settings: SearchSettings) -> Windows:
    """Return how much text each draw of a search has."""
    fewest, tokens = settings.search_windows, settings.window_tokens
    usual = max(fewest, math.ceil(CALIBRATION_TOKENS / tokens))
    asked = settings.calibration_windows
    return Windows(
        statistics=usual if asked is None else asked,
        fewest_statistics=fewest if asked is None else None,
        search=settings.search_windows,
        fresh=settings.fresh_windows,
        holdout=settings.holdout_windows,
        tokens=tokens,
    )


@torch.inference_mode()
def _read_within(
    seconds: float, dense: DenseModel, calibration: Calibration, windows: Windows
) -> Calibration:
    """Leave out calibration windows that the dense model cannot read in time."""
    count, fewest = len(calibration.statistics), windows.needed_statistics
    if count <= fewest:
        return calibration
    backbone = dense.structure.backbone
    started = time.monotonic()
    for part in torch.split(calibration.statistics[:fewest], max(1, 4096 // windows.tokens)):
        backbone.enter(part.to(backbone.model.device))
    pace = (time.monotonic() - started) / fewest
    allowed = max(fewest, int(seconds / pace))
    return replace(calibration, statistics=calibration.statistics[:allowed])


def _tell_of_shortage(calibration: Calibration, windows: Windows) -> None:
    """Say so if text or time allowed less calibration text than is usual."""
    drawn = len(calibration.statistics)
    if drawn < windows.statistics:
        logger.info(
            "calibration has %d windows of %d tokens, and not %d, as text or time allow no more; "
            "`--calibration_windows` sets a number",
            drawn,
            windows.tokens,
            windows.statistics,
        )


def saved_calibration(folder: Path) -> Calibration:
    """Return the tokens that the folder of a run holds.

    Raises:
        RunError: If they are damaged or missing.
    """
    path = folder / CALIBRATION_FILE
    arrays = read_arrays(path)
    lengths = {arrays[name].shape[-1:] for name in DRAWS if _are_windows(arrays.get(name))}
    if len(lengths) != 1 or not arrays.keys() >= {*DRAWS, "source", "source_digests"}:
        raise damaged_arrays(path, "it holds no windows of tokens")
    return Calibration.load(path)


def _are_windows(tokens: "NDArray[Any] | None") -> bool:
    return (
        tokens is not None
        and tokens.ndim == 2
        and tokens.dtype == np.int64
        and bool((tokens >= 0).all())
    )


def check_saved_text(run: RunFacts) -> None:
    """Refuse tokens in a run's folder that the run did not begin with.

    Raises:
        RunError: If they are others, or damaged.
    """
    if (run.folder / CALIBRATION_FILE).is_file():
        run.check_text(text_digest(saved_calibration(run.folder)))


def warn_of_changed_text(run: RunFacts) -> None:
    """Say which text of a run is another one now than that its tokens were drawn from."""
    if not (run.folder / CALIBRATION_FILE).is_file():
        return
    before, now = saved_calibration(run.folder).source_digests, _digests(run.settings)
    for name, first, current in zip(_texts(run.settings), before, now, strict=False):
        if first and current and first != current:
            logger.warning(
                "%s changed since the search, or another is here: the run keeps the tokens that "
                "it drew from it; search into another --out to use it as it is now",
                quoted(name),
            )


def _digests(settings: SearchSettings) -> tuple[str, ...]:
    """Return what identifies the files of each text of a run."""
    return tuple(digest_of_text(name, split=settings.split) for name in _texts(settings))


def _texts(settings: SearchSettings) -> list[str]:
    return [name for name in (settings.data, settings.holdout) if name is not None]


def text_digest(calibration: Calibration) -> str:
    """Return what identifies the tokens of all windows."""
    return digest_of_tensors({name: getattr(calibration, name) for name in DRAWS})[:16]


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
