"""The calibration text of a run: drawn once, and stored in its folder."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedModel

from evaluators.data.model_samples import from_model
from evaluators.data.text_identity import digest_of_text
from evaluators.data.text_samples import TextSource, Vocabulary, from_text
from evaluators.data.windows import Calibration, Windows
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

_DRAWN = ("search", "fresh", "holdout", "extra")
"""Arrays of windows in the file."""


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
        vocabulary = Vocabulary.of(dense.loaded.model, dense.loaded.tokenizer)
        rng = np.random.default_rng(settings.seed)
        calibration = replace(
            from_text(source, vocabulary, windows, rng=rng), source_digests=_digests(settings)
        )
    with replacing(path) as temporary:
        calibration.save(temporary)
    return calibration


def saved_calibration(folder: Path) -> Calibration:
    """Return the tokens that the folder of a run holds.

    Raises:
        RunError: If they are damaged or missing.
    """
    path = folder / CALIBRATION_FILE
    arrays = read_arrays(path)
    lengths = {arrays[name].shape[-1:] for name in _DRAWN if _are_windows(arrays.get(name))}
    if len(lengths) != 1 or not arrays.keys() >= {*_DRAWN, "source", "source_digests"}:
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
    return digest_of_tensors({name: getattr(calibration, name) for name in _DRAWN})[:16]


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
