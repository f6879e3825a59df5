"""An evaluation from settings to verdicts: perplexity and tasks, of a model and the dense one."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evaluators.data.text_samples import Vocabulary
from evaluators.runtime.allocator import release_pages
from evaluators.runtime.device import pick_device, pick_dtype
from planner.evaluate.evaluation_results import (
    Evaluation,
    perplexity_result,
    sample_lines,
    task_results,
)
from planner.evaluate.model_places import (
    ModelPlace,
    check_same_tokens,
    dense_place,
    descent_of,
    model_place,
)
from planner.evaluate.perplexity import (
    DEFAULT_TOKENS,
    EvaluationText,
    evaluation_text,
    text_windows,
    window_nlls,
)
from planner.evaluate.task_scores import TaskScores
from planner.preparation.calibration import check_window
from planner.runs.environment import describe_environment
from planner.settings.evaluate import EvaluateSettings
from planner.targets.bundled_code import copies_of_code_aside
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import MissingExtraError, ModelError, SettingsError, quoted
from search_spaces.models.identity import difference
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.paths import existing_path
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.structure.backbone import position_count

logger = logging.getLogger(__name__)


def evaluate_model(
    settings: EvaluateSettings,
    *,
    log_samples: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> Evaluation:
    """Measure a model, and beside it the dense model that it was pruned from, if that is at hand.

    Args:
        settings: Which model, and what is measured of it.
        log_samples: File to write the answers to tasks into, one JSON object a line.
        progress: Receives stages and progress.

    Raises:
        ModelError: If a model cannot be loaded, or the two cannot be compared.
        DataError: If the text cannot be used.
        SettingsError: If a task cannot be used, or nothing is left to measure.
        MissingExtraError: If tasks are asked for without the package for them.
        OutputError: If the answers cannot be written.
    """
    device, trusted = pick_device(settings.device), settings.trust_remote_code
    folder = existing_path(settings.model)
    model = model_place(settings.model, trusted=trusted)
    descent = descent_of(folder)
    dense = dense_place(settings.dense, descent, folder, trusted=trusted)
    if dense is None:
        logger.info("no dense model is at hand to compare with; name one with --dense")
    else:
        check_same_tokens(dense, model)
    needs_text = settings.data is not None or settings.tasks is None
    text = evaluation_text(settings, descent.text) if needs_text else None
    measure = _Measure(settings=settings, device=device, text=text, progress=progress)
    if settings.tasks is not None:
        measure.tasks = _tasks(settings, progress)
    theirs = _Measured() if dense is None else measure(dense)
    ours = measure(model)
    if log_samples is not None:
        lines = sample_lines(ours.scores, theirs.scores)
        written = "".join(json.dumps(line, default=str) + "\n" for line in lines)
        atomic_write_text(log_samples, written)
    return Evaluation(
        model=settings.model,
        dense=None if dense is None else dense.name,
        settings=settings,
        perplexity=None
        if text is None or ours.nlls is None or measure.windows is None
        else perplexity_result(text.name, measure.windows.shape, ours.nlls, theirs.nlls),
        tasks=task_results(ours.scores, theirs.scores),
        environment=describe_environment(device=device, seed=settings.seed),
    )


def _tasks(settings: EvaluateSettings, progress: Progress) -> list[Any]:
    progress.stage("reading tasks")
    try:
        from planner.evaluate.task_list import load_tasks  # noqa: PLC0415  (an extra, and slow)
    except ImportError as error:
        raise MissingExtraError("lm-eval", "tasks", "`--tasks`") from error
    return load_tasks(
        str(settings.tasks),
        trusted=settings.trust_remote_code,
        num_fewshot=settings.num_fewshot,
        progress=progress,
    )


@dataclass(kw_only=True)
class _Measured:
    """What was measured of one model."""

    nlls: NDArray[np.float64] | None = None
    """Of each window ``(windows,)``."""
    scores: Mapping[str, TaskScores] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Measure:
    """Measures one model after the other, on the same text and tasks."""

    settings: EvaluateSettings
    device: str
    text: EvaluationText | None
    progress: Progress
    tasks: Sequence[Any] = ()
    windows: Tensor | None = None
    """``(windows, tokens)``, drawn for the first model."""

    def __call__(self, place: ModelPlace) -> _Measured:
        self.progress.stage(f"loading {place.name}")
        loaded = self._loaded(place)
        measured = _Measured()
        if self.text is not None:
            self.windows = self._windows(loaded, self.text)
            self.progress.stage(f"perplexity of {place.name}")
            measured.nlls = window_nlls(loaded.model, place.name, self.windows, self.progress)
        if self.tasks:
            from planner.evaluate.harness_run import run_tasks  # noqa: PLC0415  (an extra)

            if self.settings.apply_chat_template and not loaded.tokenizer.chat_template:
                raise SettingsError(
                    "`apply_chat_template` needs a tokenizer with a template, and that of "
                    f"{quoted(place.name)} has none; leave it out"
                )
            self.progress.stage(f"tasks by {place.name}")
            measured.scores = run_tasks(
                loaded, place.name, self.tasks, self.settings, self.progress
            )
        del loaded
        release_pages()
        return measured

    def _loaded(self, place: ModelPlace) -> LoadedModel:
        dtype = pick_dtype(self.settings.dtype, self.device)
        with copies_of_code_aside():
            loaded = load_model(
                place.name, dtype=dtype, device=self.device, trust_remote_code=place.trusted
            )
        changed = (
            difference(place.identity, loaded.identity, "the export") if place.identity else ""
        )
        if changed:
            raise ModelError(
                f"the dense model must be the one that the export was made from, and of "
                f"{quoted(place.name, 60)} {changed}; give another with `--dense`"
            )
        return loaded

    def _windows(self, loaded: LoadedModel, text: EvaluationText) -> Tensor:
        settings, longest = self.settings, position_count(loaded.model)
        tokens = settings.window_tokens or min(DEFAULT_TOKENS, longest or DEFAULT_TOKENS)
        check_window(loaded.model, tokens)
        if self.windows is not None:
            return self.windows
        vocabulary = Vocabulary.of(loaded.model, loaded.tokenizer)
        shape = (settings.evaluation_windows, tokens)
        return text_windows(text, vocabulary, shape, settings.seed)
