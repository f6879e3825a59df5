"""A model asked the samples of tasks by lm-evaluation-harness, and what it got in each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from planner.evaluate.perplexity import not_finite
from planner.evaluate.task_scores import TaskScores
from planner.evaluate.task_trust import harness
from planner.settings.evaluate import EvaluateSettings
from search_spaces.errors import SettingsError
from search_spaces.models.loading import LoadedModel
from search_spaces.progress import Progress

_PARTS = 50
"""That requests are made in, for progress to be seen between them."""
_BATCHES = 4
"""The least of them in a part, so that sequences of like length come together."""


def run_tasks(
    loaded: LoadedModel,
    name: str,
    tasks: Sequence[Any],
    settings: EvaluateSettings,
    progress: Progress,
) -> dict[str, TaskScores]:
    """Evaluate a model on tasks.

    Args:
        loaded: The model and its tokenizer.
        name: Of the model, for messages.
        tasks: As `load_tasks` returns them.
        settings: How many samples, how they are asked, and what may run.
        progress: Advanced with the requests.

    Returns:
        What it got, by the names of the tasks.

    Raises:
        SettingsError: If a task's template does not fit its data.
        ModelError: If the model gives an answer no likelihood.
    """
    is_chat = settings.apply_chat_template
    with harness(trusted=settings.trust_remote_code):
        model = HFLM(
            pretrained=loaded.model,
            tokenizer=loaded.tokenizer,
            backend="causal",
            batch_size=settings.batch_size,
        )
        try:
            results = evaluate(
                lm=_InParts(model, name, settings.batch_size, progress),
                task_dict={"tasks": {task.task_name: task for task in tasks}, "groups": {}},
                limit=settings.limit,
                bootstrap_iters=0,  # errors are those of the mean, computed here
                log_samples=True,
                apply_chat_template=is_chat,
                fewshot_as_multiturn=is_chat,
            )
        except TemplateError as error:
            raise SettingsError(
                "the templates of a task must fit its data and reach nothing else, and one ends "
                f"in {type(error).__name__}; correct the file of the task"
            ) from error
    return {task.task_name: _scores(task.task_name, results) for task in tasks}


class _InParts:
    """A model of the harness that works through requests part by part, and tells how far it is."""

    def __init__(self, model: Any, name: str, batch_size: int, progress: Progress) -> None:
        self._model, self._name = model, name
        self._batch_size, self._progress = batch_size, progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        answers = self._answered("loglikelihood", requests)
        self._check_numbers(likelihood for likelihood, _ in answers)
        return answers

    def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
        answers = self._answered("loglikelihood_rolling", requests)
        self._check_numbers(answers)
        return answers

    def generate_until(self, requests: list[Any]) -> list[Any]:
        return self._answered("generate_until", requests)

    def _check_numbers(self, likelihoods: Iterable[float]) -> None:
        """Refuse a model whose answers the harness would rank by chance."""
        if any(math.isnan(likelihood) for likelihood in likelihoods):
            raise not_finite(self._name, "that of an answer is nan")

    def _answered(self, kind: str, requests: list[Any]) -> list[Any]:
        size = max(_BATCHES * self._batch_size, math.ceil(len(requests) / _PARTS))
        answers: list[Any] = []
        for start in range(0, len(requests), size):
            part = requests[start : start + size]
            answers += getattr(self._model, kind)(part, disable_tqdm=True)
            self._progress.advance(len(answers), len(requests))
        return answers


def _scores(name: str, results: Mapping[str, Any]) -> TaskScores:
    logged = results["samples"][name]
    samples = [sample for sample in logged if sample["filter"] == logged[0]["filter"]]
    values = {}
    for metric in samples[0]["metrics"]:
        column = [sample.get(metric) for sample in samples]
        if all(isinstance(value, int | float | np.number | np.bool_) for value in column):
            values[metric] = np.array(column, dtype=np.float64)
    whole = results["results"][name]
    return TaskScores(
        samples=samples,
        values=values,
        metrics={
            key: float(value)
            for key, value in whole.items()
            if "," in key and "stderr" not in key and isinstance(value, int | float | np.number)
        },
        higher_is_better={
            metric: better is not False
            for metric, better in results["higher_is_better"][name].items()
        },
        num_fewshot=int(results["n-shot"][name]),
        version=str(results["versions"][name]),
    )
