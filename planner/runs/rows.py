"""Rows of a run's database as evaluations and replies, and each of them checked as it is read."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import COST_KINDS, Measurement, metric_names
from evaluators.quality import QUALITY
from evaluators.scoring.score import Score
from planner.runs.records import Evaluation, RoundReply
from search_spaces.space.space import Genome

_FLOAT64 = np.dtype("<f8")
_GENOME = re.compile(r"\d{1,9}(,\d{1,9})*")
_NAMES: Mapping[object, frozenset[str]] = {
    "calibration": frozenset(QUALITY),
    "fresh": frozenset(QUALITY),
    "holdout": frozenset(QUALITY),
    "exact": frozenset(metric_names(*COST_KINDS)),
}
"""Metrics that each split may have."""
_SIGNED = frozenset({"cosine"})
_ROUNDING = 1e-3
"""How far below 0 rounding may take a metric that is never negative."""


class DamageError(Exception):
    """What a sound database never holds; the message says where."""


@dataclass(slots=True)
class _Plan:
    """One row of the table of evaluations, and what was measured of it."""

    head: tuple[Any, ...]
    quality: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    fresh: dict[str, Measurement] = field(default_factory=dict)
    holdout: dict[str, Measurement] = field(default_factory=dict)


def evaluations_of(
    heads: Iterable[tuple[Any, ...]],
    measurements: Iterable[tuple[Any, ...]],
    cost_names: Iterable[str],
) -> list[Evaluation]:
    """Return evaluations in the order of their rows.

    Args:
        heads: Number, genome, plan id, round, tokens, seconds, failure.
        measurements: Number of the evaluation, split, metric, value, standard error, windows.
        cost_names: Costs that each must have.

    Raises:
        DamageError: If a row is none that a search writes.
    """
    plans = {head[0]: _Plan(head) for head in heads}
    for number, *row in measurements:
        _check(number in plans, number, "has scores and is missing")
        _add(plans[number], *row)
    evaluations = [_evaluation(plan) for plan in plans.values()]
    _check_alike(list(plans), evaluations, cost_names)
    return evaluations


def reply_of(row: tuple[Any, ...]) -> tuple[tuple[int, Genome], RoundReply]:
    """Return a reply from its row, by round and genome.

    Raises:
        DamageError: If the row is none that a search writes.
    """
    batch, genome, told, tokens, seconds = row
    if not (_is_count(batch) and _is_genome(genome) and _is_count(tokens) and _is_sound(seconds)):
        raise DamageError("a reply has values that are out of range")
    if not _is_blob(told):
        raise DamageError("a reply has no numbers")
    reply = RoundReply(values=_numbers(told), tokens=tokens, seconds=seconds)
    return (batch, genome_of(genome)), reply


def text_of(genome: Genome) -> str:
    """Return a genome as it is stored."""
    return ",".join(str(level) for level in genome)


def genome_of(text: str) -> Genome:
    """Return a genome that `text_of` wrote."""
    return tuple(map(int, text.split(",")))


def blob_of(values: Sequence[float] | NDArray[np.float64]) -> bytes | None:
    """Return numbers as they are stored; none for no numbers."""
    return np.asarray(values, dtype=_FLOAT64).tobytes() if len(values) else None


def _numbers(blob: Any) -> NDArray[np.float64]:
    return np.frombuffer(blob, dtype=_FLOAT64).astype(np.float64)


def _add(
    plan: _Plan, split: object, metric: str, value: object, error: object, by_window: object
) -> None:
    """Add a row of measurements to its plan."""
    number, failure = plan.head[0], plan.head[-1]
    _check(metric in _NAMES.get(split, ()), number, f"has an unknown score `{metric!s:.20}`")
    _check(_is_number(value) and _is_number(error), number, f"has no number as its {metric}")
    _check(by_window is None or _is_blob(by_window), number, f"has no windows of {metric}")
    mean, windows = _or_nan(value), np.zeros(0) if by_window is None else _numbers(by_window)
    values = windows.tolist()
    is_negative = metric not in _SIGNED and mean < -_ROUNDING
    _check(not is_negative, number, f"has a negative {metric}")
    _check(not _or_nan(error) < 0, number, f"has a negative error of {metric}")
    if math.isfinite(mean) and values:
        agrees = math.isclose(mean, sum(values) / len(values), rel_tol=1e-6, abs_tol=1e-9)
        _check(agrees, number, f"has a {metric} that is not the mean of its windows")
    if split == "exact":
        _check(math.isfinite(mean), number, f"has no finite {metric}")
        plan.costs[metric] = mean
    elif split == "calibration":
        is_sound = math.isfinite(mean) and bool(values)
        _check(is_sound or failure is not None, number, f"has no finite {metric}")
        plan.quality[metric] = windows
    else:
        scores = plan.fresh if split == "fresh" else plan.holdout
        scores[metric] = Measurement(
            value=mean, standard_error=_or_nan(error), by_window=tuple(values)
        )


def _evaluation(plan: _Plan) -> Evaluation:
    number, genome, plan_id, batch, tokens, seconds, failure = plan.head
    _check(_is_genome(genome), number, "has no genome")
    _check(isinstance(plan_id, str) and plan_id, number, "has no plan id")
    _check(isinstance(batch, int) and batch >= -1, number, "has no round")
    _check(_is_count(tokens) and _is_sound(seconds), number, "has impossible tokens or seconds")
    _check(failure is None or isinstance(failure, str), number, "has no reason for its failure")
    lengths = {len(values) for values in plan.quality.values()}
    _check(len(lengths) <= 1, number, "has scores on different windows")
    return Evaluation(
        genome=genome_of(genome),
        plan_id=plan_id,
        round=batch,
        score=Score(by_window=plan.quality, tokens=tokens, seconds=seconds, failure=failure),
        costs=plan.costs,
        fresh=plan.fresh,
        holdout=plan.holdout,
    )


def _check_alike(
    numbers: Sequence[int], evaluations: Sequence[Evaluation], cost_names: Iterable[str]
) -> None:
    """Refuse an evaluation that lacks what others of its run have."""
    scores: dict[str, set[str]] = defaultdict(lambda: {"kl"}, exact=set(cost_names))
    for evaluation in evaluations:
        for split, measured in _scores(evaluation).items():
            scores[split].update(measured)
    first: dict[Genome, int] = {}
    for number, evaluation in zip(numbers, evaluations, strict=True):
        twin = first.setdefault(evaluation.genome, number)
        _check(twin == number, number, f"has the genome of evaluation {twin}")
        sites = len(evaluation.genome)
        _check(sites == len(evaluations[0].genome), number, f"has a genome of {sites} levels")
        for split, measured in _scores(evaluation).items():
            lost = scores[split].difference(measured)
            if split == "searched":
                may_lack = evaluation.score.failure is not None
            else:
                may_lack = split != "exact" and not measured
            _check(not lost or may_lack, number, f"lacks its {min(lost, default='')}")


def _scores(evaluation: Evaluation) -> dict[str, Mapping[str, object]]:
    return {
        "searched": evaluation.score.by_window,
        "exact": evaluation.costs,
        "fresh": evaluation.fresh,
        "holdout": evaluation.holdout,
    }


def _check(holds: object, number: object, what: str) -> None:
    if not holds:
        raise DamageError(f"evaluation {number!s:.20} {what}")


def _is_genome(text: object) -> bool:
    return isinstance(text, str) and _GENOME.fullmatch(text) is not None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_sound(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _is_blob(value: object) -> bool:
    return isinstance(value, bytes) and len(value) > 0 and len(value) % _FLOAT64.itemsize == 0


def _or_nan(stored: Any) -> float:
    """Return a number; null is what SQLite makes of one that is not a number."""
    return math.nan if stored is None else stored
