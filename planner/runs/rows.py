"""Rows of a run's database as evaluations and replies, and each of them checked as it is read."""

import gc
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS, Measurement, searched_names
from evaluators.scoring.score import Score
from planner.runs.records import RECOVERIES, Evaluation, Recovered, Recovery, RoundReply
from planner.runs.tables.cells import (
    NUMBER,
    ROUNDING,
    DamageError,
    damage,
    is_blob,
    is_count,
    is_sound,
    moment_of,
    numbers_of,
    quality_of,
)

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

EVALUATION_COLUMNS = (
    "id, genome, plan_id, round, tokens, seconds, failure, costs, created_at, revision"
)
MEASUREMENT_COLUMNS = "evaluation_id, recovery, split, metric, value, standard_error, by_window"
RECOVERY_COLUMNS = "evaluation_id, recovery, tokens, seconds, failure, created_at"
OF_EVALUATIONS = {"measurements": MEASUREMENT_COLUMNS, "recoveries": RECOVERY_COLUMNS}
"""Tables of what belongs to an evaluation, each with its columns."""
_SPLITS = ("search", "fresh", "holdout")


@dataclass(slots=True)
class _Plan:
    """One row of the table of evaluations, and what was measured of it."""

    head: tuple[Any, ...]
    quality: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    rescored: dict[tuple[str, str], dict[str, Measurement]] = field(default_factory=dict)
    """By recovery, empty for the plan as it was searched, and split."""
    recoveries: dict[Any, tuple[Any, ...]] = field(default_factory=dict)


def evaluations_of(
    heads: Iterable[tuple[Any, ...]],
    measurements: Iterable[tuple[Any, ...]],
    recoveries: Iterable[tuple[Any, ...]] = (),
) -> dict[int, Evaluation]:
    """Return evaluations by their numbers, in the order of their rows.

    Args:
        heads: `EVALUATION_COLUMNS` of each.
        measurements: `MEASUREMENT_COLUMNS` of each of theirs.
        recoveries: `RECOVERY_COLUMNS` of each of theirs.

    Raises:
        DamageError: If a row is none that a search writes.
    """
    with _without_collection():
        plans = {head[0]: _Plan(head) for head in heads}
        for number, recovery, *columns in recoveries:
            if number not in plans:
                raise damage(number, "has a recovery and is missing")
            plans[number].recoveries[recovery] = tuple(columns)
        for number, *row in measurements:
            if number not in plans:
                raise damage(number, "has scores and is missing")
            _add(plans[number], row)
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
    if not (is_count(batch) and levels and is_count(tokens) and is_sound(seconds)):
        raise DamageError("a reply has values that are out of range")
    if not is_blob(told):
        raise DamageError("a reply has no numbers")
    reply = RoundReply(values=numbers_of(told), tokens=tokens, seconds=seconds)
    return (batch, levels), reply


def _add(plan: _Plan, row: Sequence[Any]) -> None:
    """Add a row of measurements, but for whose it is, to its plan."""
    recovery, split, metric, value, error, by_window = row
    number, failure = plan.head[0], plan.head[6]
    if split not in _SPLITS:
        raise damage(number, f"has an unknown score `{metric!s:.20}`")
    mean, error, windows = quality_of(number, metric, value, error, by_window)
    if split == "search" and not recovery:
        if failure is None and not (len(windows) and math.isfinite(mean)):
            raise damage(number, f"has no finite {metric}")
        plan.quality[metric] = windows
        return
    measured = plan.rescored.setdefault((recovery, split), {})
    measured[metric] = Measurement(
        value=mean, standard_error=error, by_window=tuple(windows.tolist())
    )


def _recovered(plan: _Plan) -> dict[Recovery, Recovered]:
    """Return what a plan's recoveries came to, each with what was measured of it."""
    number = plan.head[0]
    if lost := {name for name, _ in plan.rescored if name}.difference(plan.recoveries):
        raise damage(number, f"has scores of an unknown recovery `{min(lost):.20}`")
    found: dict[Recovery, Recovered] = {}
    for name, (tokens, seconds, failure, created) in plan.recoveries.items():
        if name not in RECOVERIES:
            raise damage(number, f"has an unknown recovery `{name!s:.20}`")
        if not (is_count(tokens) and is_sound(seconds)):
            raise damage(number, "has impossible tokens or seconds of a recovery")
        if not (failure is None or isinstance(failure, str)):
            raise damage(number, "has no reason for the failure of a recovery")
        scores = {split: plan.rescored.get((name, split), {}) for split in _SPLITS}
        searched = [measured.by_window for measured in scores["search"].values()]
        if failure is None and not (searched and all(searched)):
            raise damage(number, "has no scores of a recovery")
        found[name] = Recovered(
            **scores,
            tokens=tokens,
            seconds=seconds,
            failure=failure,
            created_at=moment_of(number, created),
        )
    return found


def _evaluation(plan: _Plan) -> Evaluation:
    number, genome, plan_id, batch, tokens, seconds, failure, costs, created, revision = plan.head
    levels = _levels(genome)
    if not levels:
        raise damage(number, "has no genome")
    if not (isinstance(plan_id, str) and plan_id):
        raise damage(number, "has no plan id")
    if not (isinstance(batch, int) and batch >= -1):
        raise damage(number, "has no round")
    if not (is_count(tokens) and is_sound(seconds)):
        raise damage(number, "has impossible tokens or seconds")
    if not (failure is None or isinstance(failure, str)):
        raise damage(number, "has no reason for its failure")
    if not is_count(revision):
        raise damage(number, "has no revision")
    if len(set(map(len, plan.quality.values()))) > 1:
        raise damage(number, "has scores on different windows")
    return Evaluation(
        genome=levels,
        plan_id=plan_id,
        round=batch,
        score=Score(by_window=plan.quality, tokens=tokens, seconds=seconds, failure=failure),
        costs=_costs(costs, number),
        fresh=plan.rescored.get(("", "fresh"), {}),
        holdout=plan.rescored.get(("", "holdout"), {}),
        recovered=_recovered(plan),
        created_at=moment_of(number, created),
        revision=revision,
    )


def _costs(text: object, number: object) -> Mapping[str, float]:
    try:
        costs = json.loads(text)  # type: ignore[arg-type]  # what is none is refused
    except (ValueError, TypeError, RecursionError):
        costs = None
    if not isinstance(costs, dict):
        raise damage(number, "has no costs")
    for name, value in costs.items():
        known = METRICS.get(name)
        if known is None or not known.is_cost:
            raise damage(number, f"has an unknown cost `{name:.20}`")
        if not (isinstance(value, NUMBER) and math.isfinite(value)):
            raise damage(number, f"has no finite {name}")
        if value < known.lowest - ROUNDING:
            raise damage(number, f"has a {name} below its least value")
    return costs


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
            raise damage(number, f"has the genome of evaluation {twin}")
        sites = len(evaluation.genome)
        if sites != length:
            raise damage(number, f"has a genome of {sites} levels")
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
                raise damage(number, f"lacks its {min(lost)}")


def _scores(evaluation: Evaluation) -> dict[str, Mapping[str, object]]:
    return {
        "searched": evaluation.score.by_window,
        "exact": evaluation.costs,
        "fresh": evaluation.fresh,
        "holdout": evaluation.holdout,
    }


def _levels(text: object) -> "Genome":
    """Return a genome that `text_of` wrote; empty if the text is none."""
    if not isinstance(text, str) or not text.isascii() or not text.replace(",", "").isdigit():
        return ()
    try:
        return tuple(json.loads(f"[{text}]"))  # quicker than to split it
    except ValueError:  # nothing between two commas, or a number that Python does not read
        return ()
