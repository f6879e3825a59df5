"""Rows of a run's database as evaluations and replies, and each of them checked as it is read."""

import gc
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS, Measurement, searched_names
from evaluators.scoring.score import Score
from planner.runs.records import Evaluation, RoundReply

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

EVALUATION_COLUMNS = (
    "id, genome, plan_id, round, tokens, seconds, failure, costs, created_at, revision"
)
MEASUREMENT_COLUMNS = "evaluation_id, split, metric, value, standard_error, by_window"
_NUMBER = (int, float)
_FLOAT64 = np.dtype("<f8")
_NONE: NDArray[np.float64] = np.zeros(0)
_SPLITS = frozenset({"search", "fresh", "holdout"})
_ROUNDING = 1e-3
"""How far below its least value rounding may take a metric."""


class DamageError(Exception):
    """What a sound database never holds; the message says where."""


@dataclass(slots=True)
class _Plan:
    """One row of the table of evaluations, and what was measured of it."""

    head: tuple[Any, ...]
    quality: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    rescored: dict[str, dict[str, Measurement]] = field(default_factory=dict)


def evaluations_of(
    heads: Iterable[tuple[Any, ...]], measurements: Iterable[tuple[Any, ...]]
) -> dict[int, Evaluation]:
    """Return evaluations by their numbers, in the order of their rows.

    Args:
        heads: `EVALUATION_COLUMNS` of each.
        measurements: `MEASUREMENT_COLUMNS` of each of theirs.

    Raises:
        DamageError: If a row is none that a search writes.
    """
    with _without_collection():
        plans = {head[0]: _Plan(head) for head in heads}
        for number, *row in measurements:
            if number not in plans:
                raise _damage(number, "has scores and is missing")
            _add(plans[number], *row)
        return {number: _evaluation(plan) for number, plan in plans.items()}


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage: looking for it in a million objects that stay is a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def reply_of(row: tuple[Any, ...]) -> "tuple[tuple[int, Genome], RoundReply]":
    """Return a reply from its row, by round and genome.

    Raises:
        DamageError: If the row is none that a search writes.
    """
    batch, genome, told, tokens, seconds = row
    levels = _levels(genome)
    if not (_is_count(batch) and levels and _is_count(tokens) and _is_sound(seconds)):
        raise DamageError("a reply has values that are out of range")
    if not _is_blob(told):
        raise DamageError("a reply has no numbers")
    reply = RoundReply(values=_numbers(told), tokens=tokens, seconds=seconds)
    return (batch, levels), reply


def text_of(genome: "Genome") -> str:
    """Return a genome as it is stored."""
    return ",".join(str(level) for level in genome)


def text_of_moment(moment: datetime) -> str:
    """Return a time as it is stored."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def blob_of(values: Sequence[float] | NDArray[np.float64]) -> bytes | None:
    """Return numbers as they are stored; none for no numbers."""
    return np.asarray(values, dtype=_FLOAT64).tobytes() if len(values) else None


def _numbers(blob: Any) -> NDArray[np.float64]:
    return np.frombuffer(blob, dtype=_FLOAT64).astype(np.float64, copy=False)


def _add(
    plan: _Plan, split: object, metric: str, value: Any, error: Any, by_window: object
) -> None:
    """Add a row of measurements to its plan."""
    number, failure = plan.head[0], plan.head[6]
    known = METRICS.get(metric)
    if known is None or known.is_cost or split not in _SPLITS:
        raise _damage(number, f"has an unknown score `{metric!s:.20}`")
    if not (_is_number(value) and _is_number(error)):
        raise _damage(number, f"has no number as its {metric}")
    mean, error = _or_nan(value), _or_nan(error)
    if mean < known.lowest - _ROUNDING or error < 0:
        what = f"has a {metric} below its least value, or a negative error of {metric}"
        raise _damage(number, what)
    windows = _NONE if by_window is None else _windows(by_window, number, metric)
    if not _is_mean(mean, windows.tolist()):
        raise _damage(number, f"has a {metric} that is not the mean of its windows")
    if split == "search":
        if failure is None and not (len(windows) and math.isfinite(mean)):
            raise _damage(number, f"has no finite {metric}")
        plan.quality[metric] = windows
    else:
        plan.rescored.setdefault(str(split), {})[metric] = Measurement(
            value=mean, standard_error=error, by_window=tuple(windows.tolist())
        )


def _windows(blob: object, number: object, metric: str) -> NDArray[np.float64]:
    if not _is_blob(blob):
        raise _damage(number, f"has no windows of {metric}")
    return _numbers(blob)


def _is_mean(mean: float, values: list[float]) -> bool:
    if not (values and math.isfinite(mean)):
        return True
    gap = abs(sum(values) / len(values) - mean)  # quicker than numpy's for so few
    return gap <= max(1e-9, 1e-6 * abs(mean))


def _evaluation(plan: _Plan) -> Evaluation:
    number, genome, plan_id, batch, tokens, seconds, failure, costs, created, revision = plan.head
    levels = _levels(genome)
    if not levels:
        raise _damage(number, "has no genome")
    if not (isinstance(plan_id, str) and plan_id):
        raise _damage(number, "has no plan id")
    if not (isinstance(batch, int) and batch >= -1):
        raise _damage(number, "has no round")
    if not (_is_count(tokens) and _is_sound(seconds)):
        raise _damage(number, "has impossible tokens or seconds")
    if not (failure is None or isinstance(failure, str)):
        raise _damage(number, "has no reason for its failure")
    if not _is_count(revision):
        raise _damage(number, "has no revision")
    if len(set(map(len, plan.quality.values()))) > 1:
        raise _damage(number, "has scores on different windows")
    return Evaluation(
        genome=levels,
        plan_id=plan_id,
        round=batch,
        score=Score(by_window=plan.quality, tokens=tokens, seconds=seconds, failure=failure),
        costs=_costs(costs, number),
        fresh=plan.rescored.get("fresh", {}),
        holdout=plan.rescored.get("holdout", {}),
        created_at=_moment(created, number),
        revision=revision,
    )


def _costs(text: object, number: object) -> Mapping[str, float]:
    try:
        costs = json.loads(text)  # type: ignore[arg-type]  # what is none is refused
    except (ValueError, TypeError, RecursionError):
        costs = None
    if not isinstance(costs, dict):
        raise _damage(number, "has no costs")
    for name, value in costs.items():
        known = METRICS.get(name)
        if known is None or not known.is_cost:
            raise _damage(number, f"has an unknown cost `{name:.20}`")
        if not (isinstance(value, _NUMBER) and math.isfinite(value)):
            raise _damage(number, f"has no finite {name}")
        if value < known.lowest - _ROUNDING:
            raise _damage(number, f"has a {name} below its least value")
    return costs


def _moment(text: object, number: object) -> datetime:
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]  # as above
    except (ValueError, TypeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _damage(number, "has no time")
    return moment


def check_alike(evaluations: Mapping[int, Evaluation], cost_names: Iterable[str]) -> None:
    """Refuse an evaluation that lacks what others of its run have.

    Args:
        evaluations: All of a run, by their numbers.
        cost_names: Costs that each must have.

    Raises:
        DamageError: If there is one.
    """
    first: dict[Genome, int] = {}
    alike: dict[tuple[object, ...], int] = {}  # one for all that hold the same names
    length = len(next(iter(evaluations.values())).genome) if evaluations else 0
    for number, evaluation in evaluations.items():
        twin = first.setdefault(evaluation.genome, number)
        if twin != number:
            raise _damage(number, f"has the genome of evaluation {twin}")
        sites = len(evaluation.genome)
        if sites != length:
            raise _damage(number, f"has a genome of {sites} levels")
        names = tuple(map(tuple, _scores(evaluation).values()))
        alike.setdefault((*names, evaluation.score.failure is None), number)
    _check_complete({number: evaluations[number] for number in alike.values()}, cost_names)


def _check_complete(evaluations: Mapping[int, Evaluation], cost_names: Iterable[str]) -> None:
    """Refuse an evaluation that lacks what any has, or a measurement which others have."""
    scores: dict[str, set[str]] = defaultdict(lambda: set(searched_names()), exact=set(cost_names))
    for evaluation in evaluations.values():
        for split, measured in _scores(evaluation).items():
            scores[split].update(measured)
    for number, evaluation in evaluations.items():
        for split, measured in _scores(evaluation).items():
            lost = scores[split].difference(measured)
            if split == "searched":
                may_lack = evaluation.score.failure is not None
            else:
                may_lack = split != "exact" and not measured
            if lost and not may_lack:
                raise _damage(number, f"lacks its {min(lost)}")


def _scores(evaluation: Evaluation) -> dict[str, Mapping[str, object]]:
    return {
        "searched": evaluation.score.by_window,
        "exact": evaluation.costs,
        "fresh": evaluation.fresh,
        "holdout": evaluation.holdout,
    }


def _damage(number: object, what: str) -> DamageError:
    return DamageError(f"evaluation {number!s:.20} {what}")


def _levels(text: object) -> "Genome":
    """Return a genome that `text_of` wrote; empty if the text is none."""
    if not isinstance(text, str) or not text.isascii() or not text.replace(",", "").isdigit():
        return ()
    try:
        return tuple(json.loads(f"[{text}]"))  # quicker than to split it
    except ValueError:  # nothing between two commas, or a number that Python does not read
        return ()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_sound(value: object) -> bool:
    return isinstance(value, _NUMBER) and 0 <= value < math.inf


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, _NUMBER)


def _is_blob(value: object) -> bool:
    return isinstance(value, bytes) and len(value) > 0 and len(value) % _FLOAT64.itemsize == 0


def _or_nan(stored: Any) -> float:
    """Return a number; null is what SQLite makes of one that is not a number."""
    return math.nan if stored is None else stored
