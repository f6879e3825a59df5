"""What an evaluation found, as it is written to a file and shown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from planner.evaluate.task_scores import TaskScores
from planner.evaluate.verdicts import (
    Comparison,
    Verdict,
    compare_right_and_wrong,
    compare_values,
    holm,
    mean_with_error,
    verdict,
)
from planner.settings.evaluate import EvaluateSettings


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Value(_Record):
    """A mean over samples."""

    value: float
    standard_error: float | None
    """None: there is one sample, or the metric is of all samples at once."""

    @classmethod
    def of(cls, samples: NDArray[np.float64]) -> Self:
        """Return the mean of samples ``(samples,)``."""
        value, error = mean_with_error(samples)
        return cls(value=value, standard_error=None if math.isnan(error) else error)


class Difference(_Record):
    """What the samples of two models say of them, pair by pair."""

    test: Literal["exact McNemar", "paired t"]
    gain: float
    """Pruned less dense, turned so that above 0 the pruned model is better."""
    standard_error: float
    p_value: float
    """Two-sided."""
    holm_p_value: float | None = None
    """The same, for all tasks together; None: there is one."""
    detectable_loss: float | None
    """Smallest loss that so many samples would have shown, four times out of five; None: none."""
    lost: int | None = None
    """Samples that only the dense model has right."""
    won: int | None = None
    """Samples that only the pruned model has right."""
    verdict: Verdict
    """At 5 %, for this comparison alone."""

    @classmethod
    def of(cls, compared: Comparison) -> Self:
        """Return a comparison as it is written."""
        return cls(
            test="paired t" if compared.lost is None else "exact McNemar",
            gain=compared.gain,
            standard_error=compared.standard_error,
            p_value=compared.p_value,
            detectable_loss=compared.detectable_loss,
            lost=compared.lost,
            won=compared.won,
            verdict=compared.verdict,
        )

    @property
    def verdict_of_all(self) -> Verdict:
        """Return the verdict if all tasks are tested together."""
        p_value = self.p_value if self.holm_p_value is None else self.holm_p_value
        return verdict(self.gain, p_value)


class PerplexityResult(_Record):
    """Perplexity on windows of text that the models share."""

    text: str
    windows: int
    window_tokens: int
    pruned: Value
    dense: Value | None
    difference: Difference | None
    """Of the negative log-likelihood of a token, in nats: its exponential is a ratio of
    perplexities."""


class TaskResult(_Record):
    """What the models got in one task."""

    metric: str
    """That decides: `acc_norm` if the task has it, else its first."""
    samples: int
    num_fewshot: int
    version: str
    """Of the task."""
    pruned: Value
    dense: Value | None
    difference: Difference | None
    metrics: dict[str, dict[str, float]]
    """All that the harness gives, for ``dense`` and ``pruned``."""


class Evaluation(_Record):
    """All of it."""

    version: Literal[1] = 1
    model: str
    dense: str | None
    settings: EvaluateSettings
    perplexity: PerplexityResult | None
    tasks: dict[str, TaskResult]
    environment: dict[str, object]


def perplexity_result(
    text: str,
    shape: Sequence[int],
    pruned: NDArray[np.float64],
    dense: NDArray[np.float64] | None,
) -> PerplexityResult:
    """Return perplexities from −log q of a token in each window, in nats.

    Args:
        text: Its name.
        shape: Windows, and tokens in each.
        pruned: ``(windows,)``
        dense: ``(windows,)``; None: there is no dense model.
    """
    return PerplexityResult(
        text=text,
        windows=shape[0],
        window_tokens=shape[1],
        pruned=_perplexity(pruned),
        dense=None if dense is None else _perplexity(dense),
        difference=None if dense is None else Difference.of(compare_values(dense - pruned)),
    )


def _perplexity(nlls: NDArray[np.float64]) -> Value:
    mean, error = mean_with_error(nlls)
    return Value(value=math.exp(mean), standard_error=math.exp(mean) * error)


def task_results(
    pruned: Mapping[str, TaskScores], dense: Mapping[str, TaskScores]
) -> dict[str, TaskResult]:
    """Return results by task.

    Args:
        pruned: What the pruned model got.
        dense: What the dense model got; empty: there is none.
    """
    results = {name: _task(scores, dense.get(name)) for name, scores in pruned.items()}
    compared = {name: one.difference for name, one in results.items() if one.difference}
    if len(compared) < 2:
        return results
    adjusted = holm([each.p_value for each in compared.values()])
    for (name, found), p_value in zip(compared.items(), adjusted, strict=True):
        update = {"difference": found.model_copy(update={"holm_p_value": p_value})}
        results[name] = results[name].model_copy(update=update)
    return results


def _task(pruned: TaskScores, dense: TaskScores | None) -> TaskResult:
    metric = deciding_metric(pruned)
    both = {"dense": dense, "pruned": pruned}
    return TaskResult(
        metric=metric,
        samples=len(pruned.samples),
        num_fewshot=pruned.num_fewshot,
        version=pruned.version,
        pruned=_value(metric, pruned),
        dense=None if dense is None else _value(metric, dense),
        difference=None if dense is None else _difference(metric, pruned, dense),
        metrics={role: scores.metrics for role, scores in both.items() if scores is not None},
    )


def _value(metric: str, scores: TaskScores) -> Value:
    if metric in scores.values:
        return Value.of(scores.values[metric])
    whole = (v for key, v in scores.metrics.items() if key.partition(",")[0] == metric)
    return Value(value=next(whole, math.nan), standard_error=None)


def deciding_metric(scores: TaskScores) -> str:
    """Return the metric that a task is decided by: `acc_norm`, or its first that can be paired."""
    names = [*scores.values, *scores.samples[0]["metrics"]]
    return "acc_norm" if "acc_norm" in names else names[0]


def _difference(metric: str, pruned: TaskScores, dense: TaskScores) -> Difference | None:
    """Compare two models sample by sample; None: the metric, its values or their number forbid."""
    if metric not in pruned.values or metric not in dense.values:
        return None
    ours, theirs = pruned.values[metric], dense.values[metric]
    is_better_higher = pruned.higher_is_better.get(metric, True)
    if is_better_higher and np.isin([ours, theirs], (0.0, 1.0)).all():
        return Difference.of(compare_right_and_wrong(theirs == 1, ours == 1))
    finite = np.isfinite(ours).all() and np.isfinite(theirs).all()
    if len(ours) < 2 or not finite:
        return None
    return Difference.of(compare_values((ours - theirs) * (1 if is_better_higher else -1)))


def sample_lines(
    pruned: Mapping[str, TaskScores], dense: Mapping[str, TaskScores]
) -> Iterator[dict[str, Any]]:
    """Yield what the models answered, sample by sample."""
    for name, scores in pruned.items():
        theirs = dense[name].samples if name in dense else [None] * len(scores.samples)
        for ours, other in zip(scores.samples, theirs, strict=True):
            line = {"task": name, "doc_id": ours["doc_id"], "doc": ours["doc"]}
            line |= {"target": ours["target"], "arguments": ours["arguments"]}
            yield line | {
                role: {
                    "answers": sample["filtered_resps"],
                    **{metric: sample[metric] for metric in sample["metrics"]},
                }
                for role, sample in (("dense", other), ("pruned", ours))
                if sample is not None
            }
